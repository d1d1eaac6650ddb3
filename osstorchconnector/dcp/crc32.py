"""CRC-32, the checksum of zip archives; three times as fast as zlib's. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import anycrc

from ..protocol.values import Buffer, ByteSpan

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
    """The CRC-32 of parts of what comes, made while it comes: what `Operations.get` takes as `also`.

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
