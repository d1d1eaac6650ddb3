"""Which ranges of a data file to ask for, and where they land. Pure.

What is wanted of a file is a list of spans. Some have a destination, a tensor's own memory, and are fetched by
themselves; the others are fetched together in runs of neighbours, into memory that is taken apart afterwards.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..client.values import ByteSpan

# Two spans at most this part of their run apart are fetched in one: at most 1 % is fetched for nothing.
_GAP_PART = 128


class Run(NamedTuple):
    """Neighbouring spans that are fetched together; `members` are indices into what was given."""

    span: ByteSpan
    members: list[int]


def runs(spans: Iterable[tuple[int, ByteSpan]], *, max_bytes: int) -> list[Run]:
    """Return the numbered spans in runs of at most `max_bytes`; one that is larger is a run of its own."""
    found: list[Run] = []
    start, stop, members = 0, -1, list[int]()
    for number, span in sorted(spans, key=_start):
        first, last = span
        if members and (last <= stop or _belongs(first, last, start, stop, max_bytes)):
            members.append(number)
            stop = max(stop, last)
        else:
            if members:
                found.append(Run(ByteSpan(start, stop), members))
            start, stop, members = first, last, [number]
    if members:
        found.append(Run(ByteSpan(start, stop), members))
    return found


def _start(numbered: tuple[int, ByteSpan]) -> int:
    return numbered[1][0]


def _belongs(first: int, last: int, start: int, stop: int, max_bytes: int) -> bool:
    """Say whether what begins at `first` and ends at `last` is near the run from `start` to `stop`."""
    return last - start <= max_bytes and first - stop <= max(stop - start, last - first) // _GAP_PART


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
