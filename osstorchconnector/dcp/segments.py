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
    """What one request brings: segments in the order of their starts. Direct ones overlap with no other.

    `staged_bytes` land in a buffer: the segments that are staged, and what lies between.
    """

    span: ByteSpan
    segments: list[Segment]
    staged_bytes: int


class RangeSizes(NamedTuple):
    """How many bytes a range may have: the first, each other, and how many of these may be staged."""

    first: int
    most: int
    most_staged: int


def ranges(segments: Iterable[Segment], sizes: RangeSizes) -> list[Range]:
    """Return all segments in ranges of at most these sizes; a staged one that is larger is a range of its own."""
    plan = RangePlan(sizes)
    return [*plan.add(segments), *plan.end()]


class RangePlan:
    """Ranges in the making, of segments that are given bit by bit: one is open at a time, from `start` to `stop`."""

    def __init__(self, sizes: RangeSizes) -> None:
        self._sizes = sizes
        self._found: list[Range] = []
        self._segments: list[Segment] = []
        self._start = self._stop = self._direct_stop = self._staged_bytes = 0
        self._most = sizes.first

    def add(self, segments: Iterable[Segment]) -> list[Range]:
        """Go on with segments, none of which begins before one that was given earlier; return what is complete now."""
        self._found = []
        for segment in sorted(segments):
            if segment[3]:
                self._add_direct(segment)
            else:
                self._add_staged(segment)
        return self._found

    def end(self) -> list[Range]:
        """Return the range that is still open, if one is."""
        self._found = []
        self._close()
        return self._found

    def _add_staged(self, segment: Segment) -> None:
        start, stop, _, _ = segment
        new_bytes = stop - self._stop
        if start < self._direct_stop or not self._segments:
            is_other = True
        elif new_bytes <= 0:
            is_other = False
        else:
            is_too_much = self._staged_bytes + new_bytes > self._sizes.most_staged
            is_other = is_too_much or not self._takes(start, stop)
        if is_other:
            self._begin(start)
            new_bytes = stop - start
        if new_bytes > 0:
            self._staged_bytes += new_bytes
            self._stop = stop
        self._segments.append(segment)

    def _add_direct(self, segment: Segment) -> None:
        start, stop, owner, _ = segment
        while start < stop:
            here = min(stop, self._start + self._most)
            is_too_much = self._staged_bytes + max(start - self._stop, 0) > self._sizes.most_staged
            is_too_late = not self._segments or here <= start or start < self._stop
            if is_too_much or is_too_late or not self._takes(start, here):
                self._begin(start)
                here = min(stop, start + self._most)
            self._staged_bytes += start - self._stop
            self._segments.append(Segment(start, here, owner, is_direct=True))
            start = self._stop = self._direct_stop = here

    def _takes(self, start: int, stop: int) -> bool:
        """Say whether a segment that goes on behind the open range is so near that both are fetched together."""
        if stop - self._start > self._most:
            return False
        gap_bytes = _GAP_PART * (start - self._stop)
        return gap_bytes <= self._stop - self._start or gap_bytes <= stop - start

    def _begin(self, start: int) -> None:
        self._close()
        self._segments = []
        self._start = self._stop = self._direct_stop = start
        self._staged_bytes = 0

    def _close(self) -> None:
        if self._segments:
            self._found.append(Range(ByteSpan(self._start, self._stop), self._segments, self._staged_bytes))
            self._most = self._sizes.most


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
