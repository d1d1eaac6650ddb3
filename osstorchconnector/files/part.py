"""The part of an upload that is being filled.

It has bytes that were copied to memory of its own, and bytes that somebody else keeps and nobody changes, in any order:

    memory   [copied....][copied..]
    body     [copied....][held............][copied..][held...]
"""

from __future__ import annotations

from typing import Any

from ..client.memory import copy_bytes
from ..protocol.checksum import CHECKSUM_BLOCK_BYTES, combine_crc64, crc64


class Part:
    """A part that is being filled; `memory` is set before the first byte is copied."""

    def __init__(self) -> None:
        self.memory: memoryview | None = None
        self.size_bytes = self.held_bytes = 0
        self._views: list[memoryview] = []
        self._begun = self._summed = self._stop = 0  # of memory: where the last view begins, is summed up to, and ends
        self._crc: int | None = 0  # of all that is summed; None if something has an unknown one

    def copy(self, data: memoryview) -> None:
        """Add a copy of `data`."""
        assert self.memory is not None
        copy_bytes(self.memory[self._stop : self._stop + len(data)], data)
        self._note(len(data))
        if self._stop - self._summed >= CHECKSUM_BLOCK_BYTES:
            self._sum()

    def fill_from(self, file: Any, most_bytes: int) -> int:
        """Add what `file.readinto` gives, and return how many bytes these are."""
        assert self.memory is not None
        count: int = file.readinto(self.memory[self._stop : self._stop + most_bytes]) or 0
        self._note(count)
        self._sum()
        return count

    def hold(self, data: memoryview, crc: int | None) -> None:
        """Add bytes that are sent from where they are. Without their CRC-64, `close` does not know that of the part."""
        self._end_view()
        self._views.append(data)
        self.size_bytes += len(data)
        self.held_bytes += len(data)
        if self._crc is not None:
            self._crc = None if crc is None else combine_crc64(self._crc, crc, len(data))

    def close(self) -> tuple[list[memoryview], int | None]:
        """Return the body, and its CRC-64 if it is known."""
        self._end_view()
        return self._views, self._crc

    def let_go(self) -> None:
        """Drop the bytes; the sizes stay."""
        self.memory, self._views = None, []

    def _note(self, count: int) -> None:
        self._stop += count
        self.size_bytes += count

    def _end_view(self) -> None:
        if self.memory is not None and self._stop > self._begun:
            self._sum()
            self._views.append(self.memory[self._begun : self._stop])
            self._begun = self._stop

    def _sum(self) -> None:
        if self._crc is not None and self.memory is not None:
            self._crc = crc64(self.memory[self._summed : self._stop], self._crc)
        self._summed = self._stop
