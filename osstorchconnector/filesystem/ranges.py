"""Which requests bring many ranges of many objects: neighbours come with one request. No I/O."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ..protocol.values import ByteSpan

# A request costs client and server about as much as 100 KiB of data: smaller gaps are fetched and dropped.
GAP_BYTES = 64 << 10
# One connection brings this much quickly. A range that is longer is fetched by several requests, by itself.
MOST_BYTES = 8 << 20


class WantedRange(NamedTuple):
    """Bytes of an object that stand at `place` in the result."""

    path: str
    start: int
    stop: int
    place: int


class JoinedRequest(NamedTuple):
    """One request, and the ranges that it brings."""

    path: str
    span: ByteSpan
    wanted: tuple[WantedRange, ...]


def join(
    wanted: Iterable[WantedRange], *, gap_bytes: int = GAP_BYTES, most_bytes: int = MOST_BYTES
) -> list[JoinedRequest]:
    """Return the requests for these ranges, none of them empty, by object and position.

    Ranges of one object at most `gap_bytes` apart come together, while the request has at most `most_bytes`. A longer
    range is a request of its own.
    """
    requests: list[JoinedRequest] = []
    run: list[WantedRange] = []
    start = stop = 0
    for each in sorted(wanted):
        end = max(stop, each.stop)
        if run and (each.path != run[0].path or each.start - stop > gap_bytes or end - start > most_bytes):
            requests.append(JoinedRequest(run[0].path, ByteSpan(start, stop), tuple(run)))
            run = []
        if not run:
            start, end = each.start, each.stop
        run.append(each)
        stop = end
    if run:
        requests.append(JoinedRequest(run[0].path, ByteSpan(start, stop), tuple(run)))
    return requests


def cut_out(request: JoinedRequest, body: bytes) -> list[tuple[int, bytes]]:
    """Return place and bytes of each range; those past the end of the object are shorter, or empty."""
    base = request.span.start
    if len(request.wanted) == 1 and request.span == (request.wanted[0].start, request.wanted[0].stop):
        return [(request.wanted[0].place, body)]
    return [(each.place, body[each.start - base : each.stop - base]) for each in request.wanted]


def even_spans(size: int, most_bytes: int) -> list[ByteSpan]:
    """Return an object in spans of at most `most_bytes` and nearly equal length, for copies by parts."""
    count = max(-(-size // most_bytes), 1)
    edges = [size * number // count for number in range(count + 1)]
    return [ByteSpan(start, stop) for start, stop in itertools.pairwise(edges)]


def needs_size(start: int | None, end: int | None) -> bool:
    """Say whether a range counts from the end of the object, as slices do."""
    return (start is not None and start < 0) or (end is not None and end < 0)


def resolved(start: int | None, end: int | None, size: int) -> tuple[int, int]:
    """Return first byte and end (not included) of the slice `[start:end]` of an object of `size` bytes."""
    first, stop, _ = slice(start, end).indices(size)
    return first, max(first, stop)


def broadcast(
    paths: object, starts: object, ends: object
) -> tuple[list[str], Sequence[int | None], Sequence[int | None]]:
    """Return the arguments of `cat_ranges` as lists of one length; `TypeError` or `ValueError` if they are not."""
    if not isinstance(paths, list):
        raise TypeError(f"paths: a list is wanted, not a {type(paths).__name__}")
    first: Sequence[Any] = starts if isinstance(starts, Sequence) else [starts] * len(paths)
    last: Sequence[Any] = ends if isinstance(ends, Sequence) else [ends] * len(paths)
    if not len(paths) == len(first) == len(last):
        raise ValueError(f"{len(paths)} paths, {len(first)} starts and {len(last)} ends: they must be as many")
    return paths, first, last
