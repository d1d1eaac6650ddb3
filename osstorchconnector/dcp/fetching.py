"""Ranges of many objects on their way into memory, so many requests and so many bytes at a time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from ..client.client import OssClient
from ..client.flight import RunningTasks, Work
from ..client.memory import Memory
from ..client.operations import Operations
from ..errors import OssIntegrityError, OssObjectChangedError
from ..files.coverage import Coverage
from ..files.read_plan import leftovers
from ..protocol.checksum import SpanSums
from ..protocol.values import ByteSpan, Download, ObjectStat
from ..uri import OssUri

FIRST_HELD_BYTES = 32 << 20
_JUDGED_RANGES = 8


class FetchedFile:
    """One object that ranges are read of: all from the same one, and checked when all of it was read."""

    def __init__(self, uri: OssUri) -> None:
        self.uri = uri
        self.stat: ObjectStat | None = None
        self.waiting: deque[Fetch] = deque()
        self._coverage = Coverage(0)

    @property
    def etag(self) -> str:
        return self.stat.etag if self.stat is not None else ""

    def landed(self, download: Download, span: ByteSpan) -> None:
        """Take note of a range; raises if it is not what was asked for, or the whole is not the object."""
        if self.stat is None:
            self.stat = download.stat
            self._coverage = Coverage(download.stat.size)
        if download.span != span or download.stat.etag != self.stat.etag:
            raise OssObjectChangedError(
                f"GetObject {self.uri}: bytes {span.start} to {span.stop} are not there (the object has "
                f"{download.stat.size} bytes): it was truncated, or replaced while it was read"
            )
        if self._coverage.missing(span) != [span]:
            return  # read twice, in part at least: then the sum over all is not to be had
        self._coverage.add(span, download.crc64)
        whole = self._coverage.crc64
        if whole is not None and self.stat.crc64 not in (None, whole):
            raise OssIntegrityError(
                f"GetObject {self.uri}: the {self.stat.size} bytes received have CRC-64 {whole}, "
                f"OSS says {self.stat.crc64}"
            )

    def leftovers(self) -> list[ByteSpan]:
        """Return the few bytes that nobody asked for, if they are so few that the whole is worth checking."""
        return leftovers(self._coverage.missing(), self.stat.size) if self.stat is not None else []


class Fetch:
    """One range: where it lands, which is asked when it begins, and what to do when it has.

    `sums` are the parts of it whose CRC-32 is wanted, in the order of their starts; they are in `crcs` then. Of its
    bytes `held_bytes` land in memory of the loader's.
    """

    __slots__ = ("_place", "crcs", "done", "file", "held_bytes", "span", "sums")

    def __init__(
        self,
        file: FetchedFile,
        span: ByteSpan,
        place: Callable[[], Memory],
        done: Callable[[Fetch], object],
        sums: list[ByteSpan],
        held_bytes: int,
    ) -> None:
        self.file, self.span, self._place, self.done, self.sums = file, span, place, done, sums
        self.held_bytes = held_bytes
        self.crcs: list[int] = []

    def begin(self) -> Work[Download]:
        """Return the work of fetching, for a loop thread; the memory is taken now."""
        memory = self._place()

        async def work(operations: Operations) -> Download:
            sums = SpanSums(self.sums, self.span.start) if self.sums else None
            download = await operations.get(
                self.file.uri, self.span, into=memory, if_match=self.file.etag, checksum=sums
            )
            self.crcs = sums.crcs if sums is not None else []
            return download

        return work


class HeldBytes:
    """How many bytes that are still to be copied may be asked for. Pure.

    Few at first: what comes all at once is whole late, and takes new memory, page by page. More, up to `most_bytes`, as
    long as to wait for them takes twice as long as to work on them: then the network is far or slow.
    """

    def __init__(self, most_bytes: int) -> None:
        self.limit_bytes, self._most_bytes = min(FIRST_HELD_BYTES, most_bytes), most_bytes
        self._start_judging()

    def note(self, *, waited_seconds: float, worked_seconds: float) -> None:
        """A range has come and was worked on."""
        self._ranges += 1
        self._waited_seconds += waited_seconds
        self._worked_seconds += worked_seconds
        if self._ranges == _JUDGED_RANGES:
            if self._waited_seconds > 2 * self._worked_seconds:
                self.limit_bytes = min(self.limit_bytes * 3 // 2, self._most_bytes)
            self._start_judging()

    def _start_judging(self) -> None:
        self._ranges = 0
        self._waited_seconds = self._worked_seconds = 0.0


class Fetcher:
    """Fetches ranges, `concurrency` at a time and at most `memory_bytes` in memory that is not a tensor's.

    The first range of each file goes alone, as it tells the ETag that all others are asked for with. `done` of each
    is called on the thread that calls `run`.
    """

    def __init__(self, client: OssClient, *, concurrency: int, workers: int, memory_bytes: int) -> None:
        self._client = client
        self._tasks = RunningTasks[Fetch, Download](client, workers)
        self._concurrency, self._may_hold = concurrency, HeldBytes(memory_bytes)
        self._coming: Iterator[FetchedFile] = iter(())
        self._begun: list[FetchedFile] = []
        self._ready: deque[Fetch] = deque()
        self._held_bytes = 0

    def run(self, files: Iterable[FetchedFile], landed_bytes: Callable[[int], object]) -> None:
        """Fetch what waits in `files`, and a few bytes more where that completes an object, which is then checked.

        A file is taken from `files` when there is nothing left to ask for of those before it. When this returns or
        raises, nothing writes to any of the memory any more, unless it raises `OssTimeoutError` as
        `RunningTasks.abandon` does.
        """
        self._coming = iter(files)
        total = 0
        try:
            while self._top_up():
                asked = time.perf_counter()
                fetch, download = self._tasks.wait_for_one()
                came = time.perf_counter()
                fetch.file.landed(download, fetch.span)
                fetch.done(fetch)
                self._held_bytes -= fetch.held_bytes
                self._ready.extend(fetch.file.waiting)
                fetch.file.waiting.clear()
                total += fetch.span.size
                landed_bytes(total)
                self._may_hold.note(waited_seconds=came - asked, worked_seconds=time.perf_counter() - came)
            for file in self._begun:
                for span in file.leftovers():
                    file.landed(self._client.get(file.uri, span, if_match=file.etag), span)
        except BaseException:
            self._coming = iter(())  # drop the reference cycle: generator -> `RankLoad` -> this fetcher -> generator
            self._tasks.abandon()
            raise

    def _top_up(self) -> bool:
        """Ask for as much as may be under way; False if there is nothing more to come."""
        while len(self._tasks) < self._concurrency and (self._ready or self._begin_file()):
            held_bytes = self._ready[0].held_bytes
            if self._tasks and self._held_bytes + held_bytes > self._may_hold.limit_bytes:
                break
            fetch = self._ready.popleft()
            self._held_bytes += held_bytes
            self._tasks.begin(fetch, fetch.begin())
        return bool(self._tasks)

    def _begin_file(self) -> bool:
        """Make the first range of the next file ready; False if there is no more."""
        for file in self._coming:
            self._begun.append(file)
            if file.waiting:
                self._ready.append(file.waiting.popleft())
                return True
        return False
