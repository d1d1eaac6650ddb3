"""CRC-64/XZ, the checksum that OSS keeps of every object (`x-oss-hash-crc64ecma`), and its combination. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import anycrc

from .values import Buffer, ByteSpan


class Sum(Protocol):
    """Something that is shown every byte once, in order, while it is still in the processor's cache."""

    def add(self, data: memoryview) -> None:
        """Take the bytes that follow those before; they are there during the call only."""

    def clear(self) -> None:
        """Forget everything: the bytes were wrong and come again."""


_CRC64 = anycrc.Model("CRC64-XZ")


def crc64(data: Buffer, initial: int = 0) -> int:
    """Return the CRC-64 of `data`; `initial` is that of the bytes before it, 0 where there are none.

    A memoryview may have any item type but must be contiguous (`BufferError` otherwise).
    """
    if type(data) is memoryview:
        if not data.c_contiguous:
            # anycrc reads on from the first byte whatever the strides are: a wrong sum, from memory that isn't ours.
            raise BufferError("CRC-64 of a memoryview that is not contiguous")
        if data.format != "B" or data.ndim != 1:
            data = data.cast("B")
    if not data:
        return initial
    crc: int = _CRC64.calc(data, initial)
    return crc


def combine_crc64(first: int, second: int, second_size: int) -> int:
    """Return the CRC-64 of two runs of bytes joined, from the CRC-64 of each and the length of the second."""
    if second_size == 0:
        return first
    crc: int = _CRC64.combine(first, second, second_size)
    return crc


_CRC32 = anycrc.Model("CRC32")


def crc32(data: Buffer, initial: int = 0) -> int:
    """Return the CRC-32 of `data`, which is contiguous bytes; `initial` is that of the bytes before it."""
    crc: int = _CRC32.calc(data, initial)
    return crc


def combine_crc32(first: int, second: int, second_size: int) -> int:
    """Return the CRC-32 of two runs of bytes joined, from the CRC-32 of each and the length of the second."""
    if second_size == 0:
        return first
    crc: int = _CRC32.combine(first, second, second_size)
    return crc


class SpanSums:
    """The CRC-32 of parts of what comes, made while it comes: what `Operations.get` takes as `checksum`.

    `spans` are in the order of their starts; the first byte that comes is byte `start`.
    """

    def __init__(self, spans: Sequence[ByteSpan], start: int = 0) -> None:
        self._spans, self._start = spans, start
        self.clear()

    def clear(self) -> None:
        self.crcs = [0] * len(self._spans)
        self._position = self._start
        self._begun = 0  # so many spans have begun, and of these some are open
        self._open: list[int] = []

    def add(self, data: memoryview) -> None:
        spans, start, stop = self._spans, self._position, self._position + len(data)
        while self._begun < len(spans) and spans[self._begun].start < stop:
            self._open.append(self._begun)
            self._begun += 1
        for number in self._open:
            span = spans[number]
            self.crcs[number] = crc32(data[max(span.start - start, 0) : span.stop - start], self.crcs[number])
        self._open = [number for number in self._open if spans[number].stop > stop]
        self._position = stop
