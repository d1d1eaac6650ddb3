"""Memory that is filled in place, by the kernel if need be, and then given out as `bytes` without a copy."""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable

HUGE_PAGE_BYTES = 2 << 20


class FreshMemory(io.BytesIO):
    """`size_bytes` of memory; pages that are never written take up no room.

    `getbuffer` lends it for writing; `getvalue` then gives it out, the very same memory, as `bytes`.
    """

    def __init__(self, size_bytes: int) -> None:
        super().__init__(bytes(size_bytes))
        if size_bytes >= 2 * HUGE_PAGE_BYTES:
            with self.getbuffer() as view:
                prefer_huge_pages(view)

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


def prefer_huge_pages(view: memoryview) -> None:
    """Ask the kernel to give memory that is about to be filled by 2 MiB at a time, as numpy does for its arrays.

    Finding a page of 4 KiB for each fault takes longer than receiving the bytes does. This is a hint: where there are
    no huge pages, or the memory is there already, nothing happens.
    """
    advise = _madvise()
    if advise is None or len(view) < HUGE_PAGE_BYTES:
        return
    import ctypes

    start, size_bytes = whole_huge_pages(ctypes.addressof(ctypes.c_char.from_buffer(view)), len(view))
    if size_bytes:
        advise(start, size_bytes)


def whole_huge_pages(start: int, size_bytes: int) -> tuple[int, int]:
    """Return start and size of the huge pages that lie within this memory: a page shared with others is not ours."""
    first = -(-start // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
    stop = (start + size_bytes) // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
    return first, max(stop - first, 0)


@functools.cache
def _madvise() -> Callable[[int, int], object] | None:
    """Return what gives the hint for memory from an address on, where the system knows it."""
    try:
        import ctypes
        from mmap import MADV_HUGEPAGE

        madvise = ctypes.CDLL(None).madvise
    except (ImportError, AttributeError, OSError):
        return None
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return lambda start, size_bytes: madvise(start, size_bytes, MADV_HUGEPAGE)
