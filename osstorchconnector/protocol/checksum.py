"""Checksums of bytes, of bytes in several blocks, and of bytes while they arrive.

- CRC-64/XZ: OSS keeps it of every object (`x-oss-hash-crc64ecma`), so it shows whether bytes are those that are stored.
- CRC-32: zip archives have it of every entry, and so torch's checkpoints of every tensor.

Both can be combined: the checksum of two runs of bytes follows from those of each and the length of the second. So the
parts of a large body can be checked in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import anycrc

from .values import Buffer, ByteSpan

# Compute checksums over this many bytes at a time, just after they arrived: they are still in the processor's cache
# then, and CRC-64 takes a quarter of the time (measured).
CHECKSUM_BLOCK_BYTES = 256 * 1024

_CRC64 = anycrc.Model("CRC64-XZ")
_CRC32 = anycrc.Model("CRC32")


def crc64(data: Buffer, initial: int = 0) -> int:
    """Return the CRC-64 of `data`; `initial` is that of the bytes before it, 0 where there are none.

    A memoryview may have any item type but must be contiguous (`BufferError` otherwise).
    """
    if type(data) is memoryview:
        if not data.c_contiguous:
            # anycrc ignores strides and reads on from the first byte: a wrong sum, and memory that is not ours.
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


class Sum(Protocol):
    """A checksum that is computed while bytes arrive: it sees every byte once, in order."""

    def add(self, data: memoryview) -> None:
        """Add the next bytes; `data` is valid during the call only."""

    def clear(self) -> None:
        """Start again: the bytes so far were wrong and are sent again."""


class SpanSums:
    """The `checksum` of a read that has several spans: `crcs` has the CRC-32 of each, in the spans' order.

    `spans` are sorted by their starts and may overlap; the first byte that arrives is byte `start`.
    """

    def __init__(self, spans: Sequence[ByteSpan], start: int = 0) -> None:
        self._spans, self._start = spans, start
        self.clear()

    def clear(self) -> None:
        self.crcs = [0] * len(self._spans)
        self._position = self._start
        self._begun = 0  # number of spans that have begun; those of them that have not ended are in `_open`
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
