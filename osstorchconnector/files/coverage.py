"""Which bytes of an object were received, in whatever order they came, and whether they are the object's.

`Coverage` is the arithmetic: spans and their CRC-64s. `ReceivedObject` applies it to the answers of OSS.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

from ..client.attempts import READ_AGAIN
from ..errors import OssIntegrityError, OssObjectChangedError
from ..protocol.checksum import combine_crc64, crc64
from ..protocol.values import ByteSpan, Download, ObjectStat
from ..uri import OssUri
from .read_plan import leftovers


class _Run(NamedTuple):
    start: int
    stop: int
    crc: int


def gaps(span: ByteSpan, held: Iterable[ByteSpan]) -> list[ByteSpan]:
    """Return the gaps in `span`: what none of `held` covers. `held` is in the order of the starts."""
    found = []
    start = span.start
    for covered in held:
        if covered.start > start:
            found.append(ByteSpan(start, min(covered.start, span.stop)))
        start = max(start, covered.stop)
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

    @property
    def crc64_with_zeros(self) -> int:
        """The whole object's CRC-64 if every byte that is missing is a zero. Takes memory for the largest gap."""
        crc = stop = 0
        for run in [*self._runs, _Run(self._size_bytes, self._size_bytes, 0)]:
            gap_bytes = run.start - stop
            crc = combine_crc64(crc, crc64(bytes(gap_bytes)), gap_bytes)
            crc = combine_crc64(crc, run.crc, run.stop - run.start)
            stop = run.stop
        return crc

    def missing(self, span: ByteSpan | None = None) -> list[ByteSpan]:
        """Return the gaps in `span` (in the whole object if None): the bytes that were not seen, in order."""
        if span is None:
            span = ByteSpan(0, self._size_bytes)
        if not span.size:
            return []
        first = max(self._after(span.start) - 1, 0)
        return gaps(span, [ByteSpan(run.start, run.stop) for run in self._runs[first : self._after(span.stop)]])

    def add(self, span: ByteSpan, crc: int) -> None:
        """Count the bytes of `span`, whose CRC-64 is `crc`. Raises `ValueError` if one of them was counted before."""
        if not span.size:
            return
        index = self._after(span.start)
        before = self._runs[index - 1] if index else None
        after = self._runs[index] if index < len(self._runs) else None
        if (before and before.stop > span.start) or (after and after.start < span.stop):
            raise ValueError(f"bytes {span.start} to {span.stop} were counted already, in part at least")
        self._covered_bytes += span.size
        run, first, last = _Run(span.start, span.stop, crc), index, index
        if before and before.stop == run.start:
            run, first = _joined(before, run), index - 1
        if after and after.start == run.stop:
            run, last = _joined(run, after), index + 1
        self._runs[first:last] = [run]

    def _after(self, position: int) -> int:
        """Index of the first run that starts behind `position`."""
        return bisect_right(self._runs, position, key=_start)


def _start(run: _Run) -> int:
    return run.start


def _joined(left: _Run, right: _Run) -> _Run:
    return _Run(left.start, right.stop, combine_crc64(left.crc, right.crc, right.stop - right.start))


class ReceivedObject:
    """One object whose bytes come in several downloads.

    Every download must be of the object that the first one was of. Each byte counts once, however often it comes.
    When all bytes have been counted, their CRC-64 must be the one that OSS states, if it states one.
    """

    __slots__ = ("_coverage", "failure", "stat", "uri")

    def __init__(self, uri: OssUri) -> None:
        self.uri = uri
        self.stat: ObjectStat | None = None  # known from the first download that was counted
        self.failure = ""  # what `count` found wrong; a text, since a stored error would keep its frames alive
        self._coverage = Coverage(0)

    @property
    def etag(self) -> str:
        """The ETag to ask for; empty before the first download."""
        return self.stat.etag if self.stat is not None else ""

    @property
    def missing_bytes(self) -> int:
        """How many bytes were not counted yet; 0 before the first download."""
        return self._coverage.missing_bytes

    def check_same(self, download: Download, span: ByteSpan) -> Download:
        """Return `download` if it is `span` of the object first seen; raise `OssObjectChangedError` if not.

        Any thread may call this: it changes nothing, and `stat` is set once, before any further request is handed to
        a loop thread.
        """
        seen, now = self.stat, download.stat
        if seen is not None and (now.etag != seen.etag or now.size != seen.size):
            raise OssObjectChangedError(
                f"GetObject {self.uri.shown}: the object was replaced while it was read "
                f"(it had {seen.size} bytes, now {now.size}); {READ_AGAIN}"
            )
        if download.span != span:
            raise OssObjectChangedError(
                f"GetObject {self.uri.shown}: bytes {span.start} to {span.stop} are not there (the object has "
                f"{now.size} bytes): it was truncated, or replaced while it was read; {READ_AGAIN}"
            )
        return download

    def count(self, download: Download, data: memoryview | None = None) -> None:
        """Count the bytes of `download` that were not counted before. Call it on one thread at a time.

        `data` is those bytes. Without it a download that overlaps counted bytes can't be counted, so the object stays
        incomplete and unchecked. Raises `OssIntegrityError` if all bytes are there and their CRC-64 is not OSS's.
        """
        if self.stat is None:
            self.stat = download.stat
            self._coverage = Coverage(download.stat.size)
        span = download.span
        for gap in self._coverage.missing(span):
            if gap == span:
                self._coverage.add(gap, download.crc64)
            elif data is not None:
                self._coverage.add(gap, crc64(data[gap.start - span.start : gap.stop - span.start]))
        stated, whole = self.stat.crc64, self._coverage.crc64
        if whole is not None and stated is not None and whole != stated:
            what = f"the {self.stat.size} bytes received have CRC-64 {whole}, OSS says {stated}"
            self.failure = f"GetObject {self.uri.shown}: {what}"
            raise OssIntegrityError(self.failure)

    def is_whole_with_zeros(self) -> bool:
        """Say whether OSS's CRC-64 is that of the bytes counted, with zeros for all that are missing.

        Then the missing bytes need not be fetched: they are zeros. False says nothing.
        """
        return self.stat is not None and self._coverage.crc64_with_zeros == self.stat.crc64

    def leftovers(self) -> list[ByteSpan]:
        """Return the bytes that nobody asked for, if they are so few that checking the whole is worth their request."""
        return leftovers(self._coverage.missing(), self.stat.size) if self.stat is not None else []
