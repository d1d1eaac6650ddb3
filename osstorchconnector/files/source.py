"""An object's bytes, fetched as they are asked for, all from one and the same object, and checked when all were seen.

What has been fetched is here for a while: the beginning (it came with the first request), a few lone blocks of a
reader that jumps, and the blocks ahead of one that goes forward.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from concurrent.futures import Future

from ..client.client import OssClient
from ..client.flight import ParallelRead, RunningTasks
from ..client.memory import find_pages
from ..client.operations import Operations
from ..config import TransferConfig
from ..errors import OssError, OssIntegrityError, OssServiceError
from ..protocol.checksum import crc64
from ..protocol.values import ByteSpan, Download, ObjectStat
from ..uri import OssUri
from .coverage import ReceivedObject, gaps
from .read_ahead import NO_BLOCK, Block, ReadAhead
from .read_plan import (
    DIRECT_BYTES,
    FIRST_BYTES,
    SKIP_BYTES,
    Pace,
    cut,
    landing_ahead_bytes,
    lone_span,
    next_stop,
    pace,
    piece_bytes,
)

_logger = logging.getLogger(__name__)

_MAX_LONE_BLOCKS = 8
_RANGE_NOT_SATISFIABLE = 416


class ObjectSource:
    """The bytes of one object. Positions given to `block` and `fill` are positions of bytes that exist.

    `first` is a download that was made already; otherwise the first request is sent by `open`.
    """

    def __init__(self, client: OssClient, uri: OssUri, transfer: TransferConfig, first: Download | None = None) -> None:
        self._client, self._uri, self._transfer = client, uri, transfer
        self._received = ReceivedObject(uri)
        self._first = NO_BLOCK
        self._lone: list[Block] = []  # the one used last at the end
        self._ahead: ReadAhead | None = None
        self._ahead_tasks: RunningTasks[None, Download] | None = None
        self._last = ByteSpan(0, 0)  # what was handed out last
        self._run_start = 0  # where the reader's way forward began
        self._run_bytes = 0  # its length before the present read
        self._landed_stop = 0  # where the last read ended that landed in the caller's memory
        self._latency_seconds = float("inf")
        self._has_asked_again = False
        self._pid = os.getpid()
        if first is not None:
            self._begin(first)

    def open(self, position: int = 0) -> ObjectStat:
        """Return what is known of the object; the first time, ask for the bytes at `position` to learn it."""
        stat = self._received.stat
        return stat if stat is not None else self._begin(self._first_download(position))

    def step_to(self, position: int) -> None:
        """A read begins at `position`: has the reader gone forward, or jumped?"""
        if not self._last.start <= position <= self._last.stop + SKIP_BYTES:
            self._run_start = position
        self._run_bytes = max(position - self._run_start, 0)

    def block(self, position: int, wanted_bytes: int) -> Block:
        """Return a block that holds the byte at `position`, of any size; the next call may retire it.

        `wanted_bytes` is how many the reader is after, from there on.
        """
        self._check()
        block = self._held_alone(position)
        if block is None and (self._run_bytes or self._is_ahead(position)):
            block = self._block_ahead(position, wanted_bytes)
        elif block is None:
            block = self._lone_block(position, wanted_bytes)
        self._last = block.span
        return block

    def fill(self, position: int, view: memoryview) -> None:
        """Fill `view` with the bytes from `position` on; what is not here, if it is much, lands in it directly."""
        self._check()
        span = ByteSpan(position, position + len(view))
        missing = gaps(span, self._held_spans())
        direct_bytes = DIRECT_BYTES if self._run_bytes else FIRST_BYTES
        if max((gap.size for gap in missing), default=0) < direct_bytes:
            self._copy(span, view)
        else:
            self._land(span, view, missing)
            self._landed_stop = span.stop
        self._last = span

    def close(self, *, check: bool) -> None:
        """Let everything go; with `check`, first fetch the last few bytes that nobody read, to check the whole.

        Raises `OssIntegrityError` then. If they can't be had, that is logged: all that was asked for was delivered.
        """
        try:
            if check and self._has_asked_again and not self._received.failure:
                self._fetch_leftovers()
        except OssIntegrityError:
            raise
        except OssError as error:
            _logger.warning("%s was read but not checked as a whole: %s", self._uri.shown, error)
        finally:
            self._retire_all()

    def first_download(self) -> Download:
        """Return the first download, made now if there was none: another source can begin with it."""
        self.open()
        first = self.first_here()
        assert first is not None
        return first

    def first_here(self) -> Download | None:
        """Return the first download if there was one, without its bytes once they were let go; for any thread."""
        stat = self._received.stat
        if stat is None:
            return None
        data, span = bytes(self._first.data), self._first.span
        if len(data) != span.size:  # let go just now
            data, span = b"", ByteSpan(0, 0)
        return Download(stat, span, data, crc64(data))

    # the beginning

    def _first_download(self, position: int) -> Download:
        try:
            return self._timed_get(ByteSpan(position, position + FIRST_BYTES))
        except OssServiceError as error:
            if error.status != _RANGE_NOT_SATISFIABLE or not position:
                raise
        return self._timed_get(ByteSpan(0, FIRST_BYTES))  # there is nothing at `position`: how much is there?

    def _begin(self, first: Download) -> ObjectStat:
        self._first = Block(first.span.start, first.body, len(first.body))
        self._cover(first, self._first.view)
        return first.stat

    # blocks

    def _held_alone(self, position: int) -> Block | None:
        if self._first.holds(position):
            return self._first
        for block in self._lone:
            if block.holds(position):
                self._lone.remove(block)
                self._lone.append(block)
                return block
        return None

    def _held_spans(self) -> Sequence[ByteSpan]:
        ahead = self._ahead.spans() if self._ahead is not None else []
        return sorted([self._first.span, *(block.span for block in self._lone), *ahead])

    def _is_ahead(self, position: int) -> bool:
        return self._ahead is not None and self._ahead.holds(position)

    def _lone_block(self, position: int, wanted_bytes: int) -> Block:
        download = self._request(lone_span(position, wanted_bytes, self.open().size))
        block = Block(download.span.start, download.body, len(download.body))
        self._lone = [*self._lone[1 - _MAX_LONE_BLOCKS :], block]
        return block

    def _block_ahead(self, position: int, wanted_bytes: int) -> Block:
        size = self.open().size
        ahead = self._ahead
        if ahead is None or not ahead.start <= position <= ahead.stop + SKIP_BYTES:
            gap = position - self._last.stop  # a few bytes that were skipped are fetched too
            ahead = self._look_ahead_from(self._last.stop if 0 <= gap <= SKIP_BYTES else position)
        plan = self._pace(self._run_of_small_reads(position))
        stop = next_stop(ahead.stop, ByteSpan(position, position + wanted_bytes), plan, size)
        ahead.extend(stop, plan.block_bytes, most=self._concurrency, needed=position)
        return ahead.take(position)

    def _run_of_small_reads(self, position: int) -> int:
        """Return how far the reader has come by reads that are served from blocks.

        Between large reads (a checkpoint's tensors) there are small ones: what they would fetch ahead is the next
        tensor, which would have to be copied. `_follow` has fetched as much of that as keeps the wire busy.
        """
        if self._run_start <= self._landed_stop <= position:
            return position - self._landed_stop
        return self._run_bytes

    def _pace(self, run_bytes: int) -> Pace:
        return pace(run_bytes, latency_seconds=self._latency_seconds, concurrency=self._concurrency)

    def _look_ahead_from(self, start: int) -> ReadAhead:
        self._drop_ahead()
        tasks = self._ahead_tasks = RunningTasks[None, Download](self._client, self._workers)

        def fetch(span: ByteSpan, memory: memoryview) -> Future[Download]:
            return tasks.start(lambda operations: self._get(operations, span, memory))

        self._ahead = ReadAhead(start, fetch, self._cover)
        return self._ahead

    def _retire_all(self) -> None:
        """Let go of all that is held, also of what the reader has its hands on."""
        for block in (self._first, *self._lone):
            block.retire()
        if self._ahead is not None:
            self._ahead.retire()
        self._lone.clear()
        self._drop_ahead()

    def _drop_ahead(self) -> None:
        if self._ahead_tasks is not None:
            self._ahead_tasks.stop()
        self._ahead = self._ahead_tasks = None

    # large reads

    def _copy(self, span: ByteSpan, view: memoryview) -> None:
        position = span.start
        while position < span.stop:
            block = self.block(position, span.stop - position)
            position += _copied(block, position, view[position - span.start :])

    def _land(self, span: ByteSpan, view: memoryview, missing: Sequence[ByteSpan]) -> None:
        read = self._new_read()
        longest = max(gap.size for gap in missing)
        each = piece_bytes(longest, self._concurrency, latency_seconds=self._latency_seconds)
        pieces = [piece for gap in missing for piece in cut(gap, each)]
        try:
            read.begin((piece, _part(view, span, piece)) for piece in pieces)
            find_pages(view)
            for held in gaps(span, missing):
                self._copy_held(held, _part(view, span, held))
            read.finish(lambda free: self._follow(span, most=free))
        except BaseException:
            read.abandon()
            raise

    def _copy_held(self, span: ByteSpan, view: memoryview) -> None:
        position = span.start
        while position < span.stop:
            block = self._held_alone(position)
            if block is None:
                assert self._ahead is not None
                block = self._ahead.take(position)
            position += _copied(block, position, view[position - span.start :])

    def _follow(self, span: ByteSpan, *, most: int) -> None:
        """Fetch on behind a large read that has nearly landed, if the reader goes forward."""
        wanted = landing_ahead_bytes(self._run_bytes, latency_seconds=self._latency_seconds)
        ahead, size = self._ahead, self.open().size
        if not wanted or span.stop == size:
            return
        if ahead is None or not ahead.start <= span.stop <= ahead.stop:
            ahead = self._look_ahead_from(span.stop)
        plan = self._pace(self._run_bytes)
        stop = next_stop(ahead.stop, span, plan._replace(ahead_bytes=wanted), size)
        ahead.extend(stop, plan.block_bytes, most=most)

    def _fetch_leftovers(self) -> None:
        read = self._new_read()
        try:
            read.begin((span, memoryview(bytearray(span.size))) for span in self._received.leftovers())
            read.finish(lambda free: None)
        except BaseException:
            read.abandon()
            raise

    def _new_read(self) -> ParallelRead:
        return ParallelRead(self._client, self._get, self._cover, concurrency=self._concurrency, workers=self._workers)

    # requests, and what is believed of them

    @property
    def _concurrency(self) -> int:
        return self._transfer.prefetch_concurrency

    @property
    def _workers(self) -> int:
        return self._transfer.prefetch_worker

    def _request(self, span: ByteSpan) -> Download:
        download = self._timed_get(span)
        self._same(download, span)
        self._cover(download, memoryview(download.body))
        return download

    def _timed_get(self, span: ByteSpan) -> Download:
        begun = time.perf_counter()
        download = self._client.get(self._uri, span, if_match=self._received.etag)
        self._note_latency(time.perf_counter() - begun)
        return download

    async def _get(self, operations: Operations, span: ByteSpan, memory: memoryview) -> Download:
        begun = time.perf_counter()
        download = await operations.get(self._uri, span, into=memory, if_match=self._received.etag)
        self._note_latency(time.perf_counter() - begun)
        return self._same(download, span)

    def _note_latency(self, seconds: float) -> None:
        self._latency_seconds = min(self._latency_seconds, seconds)

    def _same(self, download: Download, span: ByteSpan) -> Download:
        self._has_asked_again = True
        return self._received.check_same(download, span)

    def _cover(self, download: Download, view: memoryview) -> None:
        try:
            self._received.count(download, view)
        except OssIntegrityError:
            self._retire_all()
            raise
        self._check()

    def _check(self) -> None:
        if self._received.failure:
            raise OssIntegrityError(self._received.failure)
        if self._pid != os.getpid():  # a forked child: what is under way comes to the parent
            self._ahead = self._ahead_tasks = None
            self._pid = os.getpid()


def _copied(block: Block, position: int, view: memoryview) -> int:
    """Copy what the block holds from `position` on into `view`; return how much that was."""
    start = position - block.start
    count = min(block.stop - position, len(view))
    view[:count] = block.view[start : start + count]
    return count


def _part(view: memoryview, span: ByteSpan, part: ByteSpan) -> memoryview:
    """Return what holds `part`, in a view that holds `span`."""
    return view[part.start - span.start : part.stop - span.start]
