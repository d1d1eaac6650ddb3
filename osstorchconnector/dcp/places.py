"""Where the bytes of a range land: in tensors, and between these in memory of the loader's."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..client.memory import Memory, Pieces, part
from ..protocol.values import ByteSpan
from .load_item import Wanted
from .segments import Range, Segment
from .tensors import memory, uninitialised


class Spare:
    """Memory for ranges. Pieces of `size_bytes` are used again: the system gives new memory page by page, slowly."""

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._views: list[memoryview] = []

    def taken_bytes(self, size_bytes: int) -> int:
        """Return how much memory is taken for so many bytes: at most twice as much."""
        return self._size_bytes if self._size_bytes < 2 * size_bytes <= 2 * self._size_bytes else size_bytes

    def take(self, size_bytes: int) -> memoryview:
        """Return memory for so many bytes, with whatever stands in it."""
        taken_bytes = self.taken_bytes(size_bytes)
        if self._views:
            view = self._views.pop()
            if taken_bytes == self._size_bytes:
                return view
            del view  # both together might be too much
        return _new_memory(taken_bytes)

    def give_back(self, view: memoryview) -> None:
        """Let others have what nobody needs any more."""
        if len(view) == self._size_bytes:
            self._views.append(view)


class Place:
    """Where one range lands, whose segments `items` own."""

    def __init__(self, found: Range, items: Sequence[Wanted], spare: Spare) -> None:
        self._range, self._items, self._spare = found, items, spare
        self._held: memoryview | None = None
        self._memory: Memory | None = None
        self._held_starts: list[tuple[Segment, int]] = []  # where in the held memory a segment begins

    def of(self, piece: ByteSpan) -> Memory:
        """Return where this part of the range lands; memory is taken when the first is asked for."""
        if self._memory is None:
            self._memory = self._lay_out()
        start = self._range.span.start
        return part(self._memory, piece.start - start, piece.stop - start)

    def hand_out(self) -> None:
        """Give each item those of its segments that came and did not land."""
        assert self._held is not None
        for segment, start in self._held_starts:
            self._items[segment.owner].pieces[segment.start] = self._held[start : start + segment.stop - segment.start]

    def give_back(self) -> None:
        """Nobody needs the bytes any more: others may have the memory."""
        assert self._held is not None
        self._spare.give_back(self._held)
        self._held = self._memory = None

    def _lay_out(self) -> Memory:
        self._held = held = self._spare.take(self._range.held_bytes)
        views: list[memoryview] = []
        reached, used = self._range.span.start, 0  # of the file, and of the memory
        for segment in self._range.segments:
            here = used + segment.start - reached
            if not segment.lands:
                self._held_starts.append((segment, here))
                continue
            views += [held[used:here], self._items[segment.owner].landing(segment)]
            used, reached = here, segment.stop
        views = [view for view in (*views, held[used : self._range.held_bytes]) if len(view)]
        return views[0] if len(views) == 1 else Pieces(views)


def _new_memory(size_bytes: int) -> memoryview:
    """Return memory with whatever stands in it: unlike a `bytearray`'s nobody has to write zeros there first."""
    return memory(uninitialised((size_bytes,), torch.uint8))
