"""Which ranges of a data file to ask for, and where their bytes land.

What is needed of a file is a list of segments. Some land directly in a tensor's memory, the others are staged in a
buffer, which is taken apart afterwards. Neighbours of both kinds come with one request.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..protocol.values import ByteSpan

# Two segments at most this part of their range apart are fetched in one: at most 1 % is fetched for nothing.
_GAP_PART = 128


class Segment(NamedTuple):
    """Bytes of a file that `owner`, a number, needs; direct ones land in its target, and may be cut into several."""

    start: int
    stop: int
    owner: int
    is_direct: bool = False


class Range(NamedTuple):
    """What one request brings: segments in the order of their starts. Direct ones overlap with no other."""

    span: ByteSpan
    segments: list[Segment]

    @property
    def staged_bytes(self) -> int:
        """How many bytes land in a buffer: segments that are staged, and what lies between."""
        return self.span.size - sum(segment.stop - segment.start for segment in self.segments if segment.is_direct)


class RangeSizes(NamedTuple):
    """How many bytes a range may have: the first, each other, and how many of these may be staged."""

    first: int
    most: int
    most_staged: int


def ranges(segments: Iterable[Segment], sizes: RangeSizes) -> list[Range]:
    """Return all segments in ranges of at most these sizes; a staged one that is larger is a range of its own."""
    plan = _Plan(sizes)
    for segment in sorted(segments):
        if segment.is_direct:
            plan.add_direct(segment)
        else:
            plan.add_staged(segment)
    return plan.end()


class _Plan:
    """Ranges in the making: one is open at a time, from `start` to `stop`."""

    def __init__(self, sizes: RangeSizes) -> None:
        self._sizes = sizes
        self._found: list[Range] = []
        self._segments: list[Segment] = []
        self._start = self._stop = self._direct_stop = self._staged_bytes = 0
        self._most = sizes.first

    def add_staged(self, segment: Segment) -> None:
        start, stop, _, _ = segment
        is_new = stop > self._stop or not self._segments
        is_too_much = is_new and self._staged_after(stop) > self._sizes.most_staged
        if is_too_much or not self._takes(start, stop, self._direct_stop):
            self._begin(start)
        self._staged_bytes = self._staged_after(stop)
        self._segments.append(segment)
        self._stop = max(self._stop, stop)

    def add_direct(self, segment: Segment) -> None:
        start, stop, owner, _ = segment
        while start < stop:
            here = min(stop, self._start + self._most)
            is_too_much = self._staged_after(start) > self._sizes.most_staged
            if is_too_much or here <= start or not self._takes(start, here, self._stop):
                self._begin(start)
                here = min(stop, start + self._most)
            self._staged_bytes += start - self._stop
            self._segments.append(Segment(start, here, owner, is_direct=True))
            start = self._stop = self._direct_stop = here

    def end(self) -> list[Range]:
        if self._segments:
            self._found.append(Range(ByteSpan(self._start, self._stop), self._segments))
        return self._found

    def _begin(self, start: int) -> None:
        if self._segments:
            self.end()
            self._most = self._sizes.most
        self._segments = []
        self._start = self._stop = self._direct_stop = start
        self._staged_bytes = 0

    def _staged_after(self, stop: int) -> int:
        return self._staged_bytes + max(stop - self._stop, 0)

    def _takes(self, start: int, stop: int, free_from: int) -> bool:
        """Say whether what begins at `start`, where nothing before `free_from` will do, belongs to the open range."""
        if not self._segments or start < free_from:
            return False
        if stop <= self._stop:
            return True
        gap_bytes = start - self._stop
        is_near = gap_bytes <= max(self._stop - self._start, stop - start) // _GAP_PART
        return is_near and stop - self._start <= self._most


class Slice(NamedTuple):
    """Part of a contiguous tensor: which of its elements, from the first wanted to behind the last."""

    start: int
    stop: int
    is_block: bool  # True if all elements between are wanted

    @property
    def size(self) -> int:
        return self.stop - self.start


def slice_of(strides: Iterable[int], offsets: Iterable[int], lengths: Iterable[int]) -> Slice:
    """Return where the elements of a box stand that begins at `offsets` and extends for `lengths`, none of them 0."""
    start = last = 0
    count = 1
    for stride, offset, length in zip(strides, offsets, lengths, strict=True):
        start += offset * stride
        last += (offset + length - 1) * stride
        count *= length
    return Slice(start, last + 1, count == last + 1 - start)
