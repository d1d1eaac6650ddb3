"""Memory that is filled in place, by the kernel if need be, and then given out as `bytes` without a copy."""

from __future__ import annotations

import io
import sys


class FreshMemory(io.BytesIO):
    """`size_bytes` of memory; pages that are never written take up no room.

    `getbuffer` lends it for writing; `getvalue` then gives it out, the very same memory, as `bytes`.
    """

    def __init__(self, size_bytes: int) -> None:
        super().__init__(bytes(size_bytes))

    def __del__(self) -> None:
        """Do nothing: a `BytesIO` would close, and Python 3.13 reports it when a view is garbage together with it."""


class CopiedMemory:
    """The same for Python 3.12.0 and 3.12.1, which crash when the view of a `BytesIO` is garbage in a cycle."""

    def __init__(self, size_bytes: int) -> None:
        self._data = bytearray(size_bytes)

    def getbuffer(self) -> memoryview:
        return memoryview(self._data)

    def getvalue(self) -> bytes:
        return bytes(self._data)


def fresh_memory(size_bytes: int) -> FreshMemory | CopiedMemory:
    """Return new memory; raises `MemoryError` or `OverflowError` if there is not so much."""
    if (3, 12) <= sys.version_info < (3, 12, 2):
        return CopiedMemory(size_bytes)
    return FreshMemory(size_bytes)
