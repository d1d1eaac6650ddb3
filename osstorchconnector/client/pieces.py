"""Memory in one piece or in several, which is filled from front to back as if it were one.

So one request can bring what stands side by side in an object and belongs to many places. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate


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
