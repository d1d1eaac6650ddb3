"""Ranges of many files on their way into memory: which is requested next, within a number of requests and of bytes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from ..client.client import OssClient
from ..client.flight import RunningTasks, Work
from ..client.limits import TransferLimit
from ..client.memory import Memory
from ..client.operations import Operations
from ..errors import OssObjectChangedError, OssServiceError
from ..files.coverage import ReceivedObject
from ..protocol.checksum import SpanSums
from ..protocol.values import ByteSpan, Download
from ..uri import OssUri

FIRST_STAGED_BYTES = 32 << 20
_JUDGED_RANGES = 8
_RANGE_NOT_SATISFIABLE = 416


class FetchedFile(ReceivedObject):
    """One object that ranges are read of.

    `coming` plans these ranges, one by one. Those that are planned already are in `waiting`.
    """

    __slots__ = ("coming", "waiting")

    def __init__(self, uri: OssUri) -> None:
        super().__init__(uri)
        self.waiting: deque[Fetch] = deque()
        self.coming: Iterator[Fetch] = iter(())

    def plan_next(self) -> bool:
        """Plan one more range; False if there is no more."""
        for fetch in self.coming:
            self.waiting.append(fetch)
            return True
        return False

    def forget(self) -> None:
        """Drop what was not begun: file -> `Fetch` -> file is a reference cycle, and so is `coming`."""
        self.waiting.clear()
        self.coming = iter(())

    def landed(self, download: Download, span: ByteSpan) -> None:
        """Take note of a range; raises if it is not what was asked for, or the whole is not the object."""
        self.count(self.check_same(download, span))


class Fetch:
    """One range: the memory it goes to, which is asked for when it begins, and what to do when it has come.

    `sums` are the parts of it whose CRC-32 is wanted, in the order of their starts; they are in `crcs` then. Of the
    memory `staged_bytes` are not the target's, so the bytes there are still to be copied.
    """

    __slots__ = ("_memory", "crcs", "done", "file", "span", "staged_bytes", "sums")

    def __init__(
        self,
        file: FetchedFile,
        span: ByteSpan,
        memory: Callable[[], Memory],
        done: Callable[[Fetch], object],
        sums: list[ByteSpan],
        staged_bytes: int,
    ) -> None:
        self.file, self.span, self._memory, self.done, self.sums = file, span, memory, done, sums
        self.staged_bytes = staged_bytes
        self.crcs: list[int] = []

    def begin(self, in_flight: TransferLimit) -> Work[Download]:
        """Return the work of fetching, for a loop thread, which notes its time; the memory is taken now."""
        memory = self._memory()

        # Runs on a loop thread. It reads the ETag, which the caller's thread sets when the first range has come: those
        # that begin before are asked for without, and `check_same` compares what they bring. The caller's thread reads
        # `crcs` after it took this task out of the queue of those that have ended.
        async def work(operations: Operations) -> Download:
            sums = SpanSums(self.sums, self.span.start) if self.sums else None
            begun = time.perf_counter()
            try:
                download = await operations.get(
                    self.file.uri, self.span, into=memory, if_match=self.file.etag, checksum=sums
                )
            except OssServiceError as error:
                if error.status != _RANGE_NOT_SATISFIABLE:
                    raise
                raise OssObjectChangedError(
                    f"{self.file.uri.shown} ends before byte {self.span.start}: it was truncated, or replaced while it "
                    f"was read ({error})"
                ) from error
            in_flight.note(time.perf_counter() - begun, self.span.size)
            self.crcs = sums.crcs if sums is not None else []
            return download

        return work


class StagingBudget:
    """How many bytes that are still to be copied may be requested at a time.

    Few at first: many requests at once all end late, and take new memory, which the system gives page by page. More, up
    to `most_bytes`, as long as waiting for the bytes takes twice as long as working on them: then the network is far or
    slow.
    """

    def __init__(self, most_bytes: int) -> None:
        self.limit_bytes, self._most_bytes = min(FIRST_STAGED_BYTES, most_bytes), most_bytes
        self._start_judging()

    def note(self, *, waited_seconds: float, worked_seconds: float) -> None:
        """Take in how long one range was waited for and worked on."""
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
    """Fetches ranges, as many at a time as `in_flight` says, and at most `memory_bytes` in memory of no tensor.

    All ranges of a file must be of one version. Those that begin before its ETag is known are compared when they come.
    `done` of each is called on the thread that calls `run`.
    """

    def __init__(self, client: OssClient, *, in_flight: TransferLimit, workers: int, memory_bytes: int) -> None:
        self._client = client
        self._tasks = RunningTasks[Fetch, Download](client, workers)
        self._in_flight, self._budget = in_flight, StagingBudget(memory_bytes)
        self._coming: Iterator[FetchedFile] = iter(())
        self._begun: list[FetchedFile] = []
        self._open: deque[FetchedFile] = deque()  # those that may have more ranges to request
        self._next: Fetch | None = None
        self._staged_bytes = 0

    def run(self, files: Iterable[FetchedFile], landed_bytes: Callable[[int], object]) -> None:
        """Fetch what `files` ask for, and a few bytes more where that completes an object, which is then checked.

        A file is taken from `files` when every range of those before it has been requested. Ranges are planned when
        they can be requested, and while others are waited for. When this returns or raises, nothing writes to any of
        the memory any more, unless it raises the `OssTimeoutError` of `RunningTasks.abandon`.
        """
        self._coming = iter(files)
        try:
            self._fetch_all(landed_bytes)
            for file in self._begun:
                file.waiting.extend([_to_check(file, span) for span in file.leftovers()])
            self._open.extend(self._begun)
            self._fetch_all(lambda total: None)
        except BaseException:
            self._coming = iter(())  # drop the reference cycle: generator -> `RankLoad` -> this fetcher -> generator
            self._next = None
            for file in self._begun:
                file.forget()
            self._tasks.abandon()
            raise

    def _fetch_all(self, landed_bytes: Callable[[int], object]) -> None:
        """Fetch what is planned or coming; return when nothing is under way."""
        total = 0
        while self._top_up():
            self._plan_ahead()
            asked = time.perf_counter()
            fetch, download = self._tasks.wait_for_one()
            came = time.perf_counter()
            fetch.file.landed(download, fetch.span)
            fetch.done(fetch)
            self._staged_bytes -= fetch.staged_bytes
            total += fetch.span.size
            landed_bytes(total)
            self._budget.note(waited_seconds=came - asked, worked_seconds=time.perf_counter() - came)

    def _top_up(self) -> bool:
        """Request as much as may be under way; False if there is nothing more to come."""
        while len(self._tasks) < self._in_flight.limit:
            fetch = self._next = self._next or self._find_next()
            if fetch is None:
                break
            if self._tasks and self._staged_bytes + fetch.staged_bytes > self._budget.limit_bytes:
                break
            self._next = None
            self._staged_bytes += fetch.staged_bytes
            self._tasks.begin(fetch, fetch.begin(self._in_flight))
        return bool(self._tasks)

    def _find_next(self) -> Fetch | None:
        """Return the next range to request: of the file that is open, else of the next file."""
        while self._open or self._open_next():
            file = self._open[0]
            if file.waiting or file.plan_next():
                return file.waiting.popleft()
            self._open.popleft()
        return None

    def _open_next(self) -> bool:
        for file in self._coming:
            self._begun.append(file)
            self._open.append(file)
            return True
        return False

    def _plan_ahead(self) -> None:
        """Plan ranges of the file that comes next, as long as no request has ended."""
        file = self._open[0] if self._open else self._begun[-1]
        while not self._tasks.has_ended_task and file.plan_next():
            pass


def _to_check(file: FetchedFile, span: ByteSpan) -> Fetch:
    """Return the fetch of bytes that nobody needs, except to check the whole object."""
    memory = memoryview(bytearray(span.size))
    return Fetch(file, span, lambda: memory, _nothing, [], 0)


def _nothing(fetch: Fetch) -> None:
    """Nobody waits for these bytes."""
