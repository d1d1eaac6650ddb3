"""Which bytes of an object have been seen, and the CRC-64 they make, in whatever order they come. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from ..protocol.checksum import combine_crc64
from ..protocol.values import ByteSpan


class _Run(NamedTuple):
    start: int
    stop: int
    crc: int


def gaps(span: ByteSpan, held: Iterable[ByteSpan]) -> list[ByteSpan]:
    """Return the parts of `span` that none of `held` covers; these come in the order of their starts."""
    found = []
    start = span.start
    for piece in held:
        if piece.start > start:
            found.append(ByteSpan(start, min(piece.start, span.stop)))
        start = max(start, piece.stop)
        if start >= span.stop:
            return found
    found.append(ByteSpan(start, span.stop))
    return found


class Coverage:
    """The bytes of one object that were seen, each counted once.

    Runs that touch are joined and so are their CRC-64s: when every byte has been added there is one run, and its
    CRC-64 is the object's.
    """

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._runs: list[_Run] = []  # in order, apart from each other
        self._covered_bytes = 0

    @property
    def missing_bytes(self) -> int:
        return self._size_bytes - self._covered_bytes

    @property
    def crc64(self) -> int | None:
        """The whole object's CRC-64, or None as long as bytes are missing."""
        if self.missing_bytes:
            return None
        return self._runs[0].crc if self._runs else 0

    def missing(self, span: ByteSpan | None = None) -> list[ByteSpan]:
        """Return the parts of `span` (of the whole object if None) that were not seen, in order."""
        if span is None:
            span = ByteSpan(0, self._size_bytes)
        if not span.size:
            return []
        first = max(self._after(span.start) - 1, 0)
        return gaps(span, [ByteSpan(run.start, run.stop) for run in self._runs[first : self._after(span.stop)]])

    def add(self, span: ByteSpan, crc: int) -> None:
        """Count the bytes of `span`, whose CRC-64 is `crc`; `ValueError` if one of them was counted before."""
        if not span.size:
            return
        place = self._after(span.start)
        before = self._runs[place - 1] if place else None
        after = self._runs[place] if place < len(self._runs) else None
        if (before and before.stop > span.start) or (after and after.start < span.stop):
            raise ValueError(f"bytes {span.start} to {span.stop} were counted already, in part at least")
        self._covered_bytes += span.size
        run, first, last = _Run(span.start, span.stop, crc), place, place
        if before and before.stop == run.start:
            run, first = _joined(before, run), place - 1
        if after and after.start == run.stop:
            run, last = _joined(run, after), place + 1
        self._runs[first:last] = [run]

    def _after(self, position: int) -> int:
        """Index of the first run that starts behind `position`."""
        return bisect_right(self._runs, position, key=_start)


def _start(run: _Run) -> int:
    return run.start


def _joined(left: _Run, right: _Run) -> _Run:
    return _Run(left.start, right.stop, combine_crc64(left.crc, right.crc, right.stop - right.start))
