"""CRC-64/XZ, the checksum that OSS keeps of every object (`x-oss-hash-crc64ecma`), and its combination. Pure."""

from __future__ import annotations

from typing import Protocol

import anycrc

from .values import Buffer


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
