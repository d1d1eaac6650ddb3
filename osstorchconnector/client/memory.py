"""Memory that bodies of answers are written to.

- `Memory` is one block (a memoryview) or several (`Pieces`): so one request can fill many targets that stand side by
  side in an object. `room`, `part`, `blocks` and `fill` work on both, `copy_bytes` copies large blocks.
- `fresh_memory` becomes `bytes` without a copy.
- `raise_malloc_threshold` and `prefault` save the time that the system takes to find pages for new memory.
"""

from __future__ import annotations

import functools
import io
import mmap
import sys
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

from ..protocol.checksum import CHECKSUM_BLOCK_BYTES, Sum, crc64

_POPULATE_WRITE = 23  # Linux 5.14; Python's mmap does not name it yet
_STEP_BYTES = 4 << 20
_LONG_COPY_BYTES = 128 << 10
_THRESHOLD_BLOCK_BYTES = 16 << 20  # glibc then keeps up to twice this size


class Pieces:
    """Several pieces of memory, none of them empty, for bytes that come one after another."""

    __slots__ = ("_size_bytes", "_starts", "_views")

    def __init__(self, views: Iterable[memoryview]) -> None:
        self._views = list(views)
        self._starts = list(accumulate(map(len, self._views), initial=0))
        self._size_bytes = self._starts.pop()

    def __len__(self) -> int:
        return self._size_bytes

    def at(self, start: int, stop: int) -> memoryview:
        """Return the memory for the bytes from `start` on: up to `stop`, or to where the piece ends."""
        number = bisect_right(self._starts, start) - 1
        before = self._starts[number]
        return self._views[number][start - before : stop - before]


Memory = memoryview | Pieces


def room(memory: Memory, start: int, stop: int) -> memoryview:
    """Return where the bytes from `start` on belong: as many of those before `stop` as stand in one piece."""
    return memory[start:stop] if type(memory) is memoryview else memory.at(start, stop)


def blocks(memory: Memory, start: int, stop: int, most_bytes: int) -> Iterator[memoryview]:
    """Yield the memory from `start` to `stop`, in order, at most `most_bytes` at a time."""
    while start < stop:
        block = room(memory, start, min(start + most_bytes, stop))
        yield block
        start += len(block)


def part(memory: Memory, start: int, stop: int) -> Memory:
    """Return what `memory[start:stop]` would be."""
    if type(memory) is memoryview:
        return memory[start:stop]
    return memory if stop - start == len(memory) else Pieces(blocks(memory, start, stop, stop - start))


def fill(memory: Memory, start: int, data: memoryview) -> None:
    """Copy all of `data` to `start` and behind."""
    for block in blocks(memory, start, start + len(data), len(data)):
        block[:] = data[: len(block)]
        data = data[len(block) :]


class SummedMemory:
    """Memory for a body that is received in steps, and the CRC-64 of the bytes in it so far."""

    __slots__ = ("_checksum", "_store", "crc", "memory", "summed_bytes")

    def __init__(self, memory: Memory, checksum: Sum | None, store: FreshMemory | CopiedMemory | None = None) -> None:
        self.memory: Memory | None = memory
        self.crc = self.summed_bytes = 0
        self._checksum, self._store = checksum, store

    def sum_up_to(self, stop: int) -> None:
        """Add the bytes up to `stop` to the CRC-64 and to the caller's checksum.

        Both see a block while it is in the processor's cache.
        """
        assert self.memory is not None
        for block in blocks(self.memory, self.summed_bytes, stop, CHECKSUM_BLOCK_BYTES):
            self.crc = crc64(block, self.crc)
            if self._checksum is not None:
                self._checksum.add(block)
        self.summed_bytes = stop

    def give_out(self) -> bytes:
        """Return the bytes if the memory is our own; nothing can be written to it afterwards."""
        self.memory = None
        return b"" if self._store is None else self._store.getvalue()


def copy_bytes(target: memoryview, source: memoryview) -> None:
    """Copy between blocks of the same size. Other threads run while a large one is copied.

    (An assignment to a memoryview holds the interpreter's lock. Up to 128 KiB that is a few microseconds, and letting
    other threads run costs as much.)
    """
    if len(source) < _LONG_COPY_BYTES:
        target[:] = source
        return
    import numpy as np

    np.frombuffer(target, np.uint8)[:] = np.frombuffer(source, np.uint8)


class FreshMemory(io.BytesIO):
    """`size_bytes` of zeroed memory; pages that are never written take up no room.

    Write to `getbuffer()`. `getvalue()` then returns the same memory as `bytes`, without a copy.
    """

    def __init__(self, size_bytes: int) -> None:
        super().__init__(bytes(size_bytes))

    def __del__(self) -> None:
        """Do nothing: a `BytesIO` would close, and Python 3.13 reports it when a view is garbage together with it."""


class CopiedMemory:
    """`FreshMemory` for Python 3.12.0 and 3.12.1, which crash when the view of a `BytesIO` is garbage in a cycle."""

    def __init__(self, size_bytes: int) -> None:
        self._data = bytearray(size_bytes)

    def getbuffer(self) -> memoryview:
        return memoryview(self._data)

    def getvalue(self) -> bytes:
        return bytes(self._data)


def fresh_memory(size_bytes: int) -> FreshMemory | CopiedMemory:
    """Return new memory; raises `MemoryError` or `OverflowError` if there is not enough."""
    if (3, 12) <= sys.version_info < (3, 12, 2):
        return CopiedMemory(size_bytes)
    return FreshMemory(size_bytes)


def raise_malloc_threshold() -> None:
    """Make the C library keep freed memory for the next objects, so that these need no new pages.

    By default glibc returns memory to the system, page by page, whenever 128 KiB are free at the end of its heap. This
    takes a tenth of the CPU time of reading objects of 110 KB, in shuffled batches a quarter
    (`make bench WORKS="small map"`, before and after). glibc raises that limit, to 32 MiB here, when a large block is
    freed (mallopt(3), M_MMAP_THRESHOLD), unless the user's own settings forbid it. Nothing is written to the block, so
    it costs nothing.
    """
    system = _system()
    if system is not None:
        system.free(system.malloc(_THRESHOLD_BLOCK_BYTES))


def prefault(views: Iterable[memoryview]) -> Iterator[None]:
    """Make the kernel provide the pages of memory that is about to be filled, a few at each step, while others go on.

    In new memory the kernel provides each page when it is first written to, which takes as long as receiving its
    content. A thread that would only wait can do this beforehand. The content stays as it is. Pages that exist already
    are passed over. Nothing happens where the system has no such call.
    """
    system = _system()
    if system is None:
        return
    import ctypes

    for view in views:
        first = ctypes.addressof(ctypes.c_char.from_buffer(view)) if len(view) else 0
        start, stop = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE, (first + len(view)) // mmap.PAGESIZE * mmap.PAGESIZE
        for position in range(start, stop, _STEP_BYTES):
            end = min(position + _STEP_BYTES, stop)
            if not _are_there(system, position, end):
                system.madvise(position, end - position, _POPULATE_WRITE)
            yield


def _are_there(system: Any, start: int, stop: int) -> bool:
    """Say whether the pages exist, from three of them; the ones at the ends often exist when others do not."""
    import ctypes

    found = ctypes.create_string_buffer(1)
    for quarter in (1, 2, 3):
        page = (start + (stop - start) * quarter // 4) // mmap.PAGESIZE * mmap.PAGESIZE
        if start <= page < stop and (system.mincore(page, 1, found) or not found.raw[0] & 1):
            return False
    return True


@functools.cache
def _system() -> Any:
    """Return Linux's C library, None elsewhere, and where Python was built without the means to call it."""
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        system = ctypes.CDLL(None)
        system.malloc.argtypes, system.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
        system.free.argtypes, system.free.restype = (ctypes.c_void_p,), None
        system.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        system.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    except (ImportError, AttributeError, OSError):
        return None
    return system
