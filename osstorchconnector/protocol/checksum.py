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
from fastcrc.crc32 import iso_hdlc
from fastcrc.crc64 import xz

from .values import ByteSpan

# Compute checksums over this many bytes at a time, just after they arrived: they are still in the processor's cache
# then, and CRC-64 takes a quarter of the time (measured).
CHECKSUM_BLOCK_BYTES = 256 * 1024

# Both take any contiguous memory (`BufferError` otherwise), and the checksum of the bytes before it, 0 if there are
# none. They are fastcrc's own functions, since a small object needs one call of them. fastcrc computes both at 55 GB/s,
# and lets other threads run from 16 KiB on. anycrc computes at 14 GB/s and liblzma's CRC-64 at 9 GB/s, zlib's CRC-32 at
# 4 GB/s (256 KiB in the processor's cache, AMD EPYC with VPCLMULQDQ); anycrc holds the interpreter's lock.
crc64 = xz
crc32 = iso_hdlc

_CRC64 = anycrc.Model("CRC64-XZ")
_CRC32 = anycrc.Model("CRC32")


def combine_crc64(first: int, second: int, second_size: int) -> int:
    """Return the CRC-64 of two runs of bytes joined, from the CRC-64 of each and the length of the second."""
    if second_size == 0:
        return first
    crc: int = _CRC64.combine(first, second, second_size)
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
