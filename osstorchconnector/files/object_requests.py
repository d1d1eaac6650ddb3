"""Requests for one object. Each is timed and counted, and checked to be of the object that the first one found."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future

from ..client.client import OssClient
from ..client.flight import ParallelRead, RunningTasks
from ..client.limiter import transfer_limit
from ..client.limits import TransferLimit
from ..client.memory import Memory
from ..client.operations import Operations
from ..config import TransferConfig
from ..errors import OssServiceError
from ..protocol.values import ByteSpan, Download
from ..uri import OssUri
from .coverage import ReceivedObject
from .read_plan import FIRST_BYTES

SpanTasks = RunningTasks[None, Download]

_RANGE_NOT_SATISFIABLE = 416
# Of an object that is opened, most likely all is read, and in parallel; but a small one needs few connections.
_BYTES_PER_CONNECTION = 16 << 20


def _nothing(*_: object) -> None:
    """The default of the callbacks."""


class ObjectRequests:
    """Sends the requests of one reader. `ReceivedObject` checks that all answers are of one object, and raises if not.

    The reader's thread sends, counts and waits. Loop threads only fetch, and write two attributes here without a lock:
    `has_asked_again` only ever becomes True. If two threads write `latency_seconds` at once, either value will do.
    """

    def __init__(self, client: OssClient, uri: OssUri, transfer: TransferConfig) -> None:
        self._client, self._uri, self._transfer = client, uri, transfer
        self.received = ReceivedObject(uri)
        self.count = self.received.count
        self.latency_seconds = float("inf")  # the smallest of all answers
        self.has_asked_again = False  # a request after the first download was answered

    @functools.cached_property
    def _in_flight(self) -> TransferLimit:
        return transfer_limit(self._client.endpoint, self._transfer.prefetch_concurrency)

    @property
    def concurrency(self) -> int:
        """The largest number of requests under way at a time, as of now."""
        return self._in_flight.limit

    @property
    def size(self) -> int:
        """The object's size in bytes; the first download must have been counted."""
        stat = self.received.stat
        assert stat is not None
        return stat.size

    def get_first(self, position: int) -> Download:
        """Return up to 64 KiB from `position` on, or from 0 if the object ends before that. They are not counted."""
        try:
            return self._timed_get(ByteSpan(position, position + FIRST_BYTES))
        except OssServiceError as error:
            if error.status != _RANGE_NOT_SATISFIABLE or not position:
                raise
        return self._timed_get(ByteSpan(0, FIRST_BYTES))

    def get(self, span: ByteSpan) -> Download:
        """Return the bytes of `span`, counted."""
        download = self._checked(self._timed_get(span), span)
        self.count(download, memoryview(download.body))
        return download

    def open_ahead(self, size_bytes: int) -> None:
        """Begin connections for parallel reads of an object of this size."""
        count = min(self.concurrency, size_bytes // _BYTES_PER_CONNECTION)
        if count > 1:
            self.new_tasks().open_ahead(self._uri.bucket, count)

    def new_tasks(self) -> SpanTasks:
        """Return a group of requests that can be stopped together, for `start`."""
        return RunningTasks(self._client, self._transfer.prefetch_worker)

    def start(self, tasks: SpanTasks, span: ByteSpan, target: memoryview) -> Future[Download]:
        """Begin to fetch `span` into `target`. The caller must count the result."""
        return tasks.start(lambda operations: self._get_into(operations, span, target))

    def get_into(
        self,
        targets: Iterable[tuple[ByteSpan, Memory]],
        *,
        meanwhile: Iterable[object] = (),
        landed: Callable[[ByteSpan], None] = _nothing,
        when_half_free: Callable[[int], None] = _nothing,
        most: int | None = None,
    ) -> None:
        """Fetch each span into its memory, in parallel, and count it; at most `most` at a time.

        The steps of `meanwhile` are taken on this thread while requests are under way, and `landed` is called when a
        span has come. `when_half_free` is called once, with the number of requests that are free from then on: at least
        half of `concurrency`. If this method raises, nothing writes to the memory any more, except after the
        `OssTimeoutError` of `RunningTasks.abandon`.
        """

        def count(download: Download, target: Memory) -> None:
            self.count(download, target if isinstance(target, memoryview) else None)
            landed(download.span)

        workers = self._transfer.prefetch_worker
        read = ParallelRead(self._client, self._get_into, count, in_flight=self._in_flight, workers=workers, most=most)
        try:
            read.begin(targets)
            read.meanwhile(meanwhile)
            read.finish(when_half_free)
        except BaseException:
            read.abandon()
            raise

    def _timed_get(self, span: ByteSpan) -> Download:
        begun = time.perf_counter()
        download = self._client.get(self._uri, span, if_match=self.received.etag)
        self._note(time.perf_counter() - begun, span.size)
        return download

    async def _get_into(self, operations: Operations, span: ByteSpan, target: Memory) -> Download:
        begun = time.perf_counter()
        download = await operations.get(self._uri, span, into=target, if_match=self.received.etag)
        self._note(time.perf_counter() - begun, span.size)
        return self._checked(download, span)

    def _note(self, seconds: float, size_bytes: int) -> None:
        self.latency_seconds = min(self.latency_seconds, seconds)
        self._in_flight.note(seconds, size_bytes)

    def _checked(self, download: Download, span: ByteSpan) -> Download:
        self.has_asked_again = True
        return self.received.check_same(download, span)
