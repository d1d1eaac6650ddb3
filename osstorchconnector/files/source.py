"""An object's bytes, fetched as they are asked for: which way of reading suits, and all ways put together.

- The head block came with the first request.
- `RandomBlocks` suit a reader that jumps, `ReadAhead` one that goes forward: both bring blocks, to copy from.
- A direct read brings a large gap in parallel straight into the caller's memory.

`AccessPattern` chooses. It knows where the reader has read, and nothing of requests.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum, auto

from ..client.client import OssClient
from ..client.memory import Memory, copy_bytes, prefault
from ..config import TransferConfig
from ..errors import OssError, OssIntegrityError
from ..protocol.checksum import crc64
from ..protocol.values import ByteSpan, Download, ObjectStat
from ..uri import OssUri
from .blocks import NO_BLOCK, Block, RandomBlocks, ReadAhead
from .coverage import gaps
from .object_requests import ObjectRequests
from .read_plan import DIRECT_BYTES, FIRST_BYTES, SKIP_BYTES, begins_torch_archive, cut, request_bytes

_logger = logging.getLogger(__name__)


class Way(Enum):
    """A way to get bytes that are not here."""

    RANDOM_BLOCKS = auto()
    READ_AHEAD = auto()
    DIRECT = auto()


class AccessPattern:
    """Where a reader has read lately, and the way of reading that suits its next read.

    A run is a row of reads that go forward, with steps of at most `SKIP_BYTES` between them.
    """

    __slots__ = ("_direct_stop", "_run_start", "last_span", "run_bytes")

    def __init__(self) -> None:
        self.last_span = ByteSpan(0, 0)  # the bytes that were handed out last
        self.run_bytes = 0  # how far the run has come before the present read; 0 after a jump
        self._run_start = 0
        self._direct_stop = 0  # the end of the last direct read

    def begin_read(self, position: int) -> None:
        """A read begins at `position`: it continues the run, or begins another one."""
        if not self.last_span.start <= position <= self.last_span.stop + SKIP_BYTES:
            self._run_start = position
        self.run_bytes = max(position - self._run_start, 0)

    def choose(self, *, direct_bytes: int, is_ahead: bool) -> Way:
        """Return how to get bytes that are not here.

        `direct_bytes` is how many of them, side by side, have memory of the caller's to go to; 0 if he wants a block.
        `is_ahead` says that read-ahead has fetched the first of them.
        """
        if direct_bytes >= (DIRECT_BYTES if self.run_bytes else FIRST_BYTES):
            return Way.DIRECT
        return Way.READ_AHEAD if self.run_bytes or is_ahead else Way.RANDOM_BLOCKS

    def note_block(self, span: ByteSpan) -> None:
        """A block was handed out."""
        self.last_span = span

    def note_read_into(self, span: ByteSpan, *, is_direct: bool) -> None:
        """The caller's memory was filled with the bytes of `span`."""
        self.last_span = span
        if is_direct:
            self._direct_stop = span.stop

    def small_run_bytes(self, position: int) -> int:
        """Return how far the reader has come by reads that are served from blocks.

        Between large reads (a checkpoint's tensors) there are small ones. What they would read ahead is the next
        tensor, which would then have to be copied. The prefetch behind the large read keeps the network busy already.
        """
        if self._run_start <= self._direct_stop <= position:
            return position - self._direct_stop
        return self.run_bytes


class ObjectSource:
    """The bytes of one object. Positions given to `block_at` and `read_into` are positions of bytes that exist.

    `first` is a download that was made already; otherwise the first request is sent by `open`. All bytes come from
    the object first seen, else `OssObjectChangedError` is raised. When all were fetched, they are checked: then, and
    from then on, `OssIntegrityError` is raised if their CRC-64 is wrong.
    """

    def __init__(self, client: OssClient, uri: OssUri, transfer: TransferConfig, first: Download | None = None) -> None:
        self._uri = uri
        self._requests = ObjectRequests(client, uri, transfer)
        self._received = self._requests.received
        self._pattern = AccessPattern()
        self._head_block = NO_BLOCK
        self._random_blocks = RandomBlocks(self._requests)
        self._read_ahead = ReadAhead(self._requests)
        self._pid = os.getpid()
        if first is not None:
            self._begin(first)

    def open(self, position: int = 0) -> ObjectStat:
        """Return what is known of the object; the first time, ask for the bytes at `position` to learn it."""
        stat = self._received.stat
        if stat is None:
            stat = self._begin(self._requests.get_first(position))
            self._requests.open_ahead(stat.size)
        return stat

    @property
    def known_size(self) -> int | None:
        """The object's size in bytes; None before the first answer."""
        return None if self._received.stat is None else self._received.stat.size

    def begin_read(self, position: int) -> None:
        """A read begins at `position`: the reader has gone forward, or jumped."""
        self._pattern.begin_read(position)

    def block_at(self, position: int, wanted_bytes: int) -> Block:
        """Return a block that holds the byte at `position`, of any size; the next call may retire it.

        `wanted_bytes` is how many the reader is after, from there on.
        """
        self._check()
        block = self._kept_block(position)
        if block is None:
            block = self._fetched_block(position, wanted_bytes)
        self._pattern.note_block(block.span)
        return block

    def read_into(self, position: int, target: memoryview) -> None:
        """Fill `target` with the bytes from `position` on."""
        self._check()
        span = ByteSpan(position, position + len(target))
        missing = gaps(span, self._held_spans())
        largest = max((gap.size for gap in missing), default=0)
        is_direct = self._pattern.choose(direct_bytes=largest, is_ahead=False) is Way.DIRECT
        if is_direct:
            self._read_directly(span, target, missing)
        else:
            self._copy_blocks(span, target)
        self._pattern.note_read_into(span, is_direct=is_direct)

    @property
    def concurrency(self) -> int:
        """How many requests may be under way at a time, as of now."""
        return self._requests.concurrency

    def read_spans(
        self,
        targets: Iterable[tuple[ByteSpan, Memory]],
        *,
        meanwhile: Iterable[object],
        landed: Callable[[ByteSpan], None],
        most: int | None = None,
    ) -> None:
        """Fetch each span into its memory, whatever is here already; as `ObjectRequests.get_into`."""
        self._check()
        try:
            self._requests.get_into(targets, meanwhile=meanwhile, landed=landed, most=most)
        except OssIntegrityError:
            self._retire_all()
            raise

    def close(self, *, check: bool) -> None:
        """Let everything go; with `check`, first fetch the last few bytes that nobody read, to check the whole.

        Raises `OssIntegrityError` then. If those bytes can't be fetched, that is only logged: the reader got all the
        bytes that it asked for.
        """
        try:
            if check and self._requests.has_asked_again and not self._received.failure:
                self._requests.get_into((span, memoryview(bytearray(span.size))) for span in self._received.leftovers())
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
        """Return the first download if there was one, without its bytes once they were let go.

        Any thread may call this, also while the reader's thread lets the bytes go: that empties the block field by
        field, hence the look at the length.
        """
        stat = self._received.stat
        if stat is None:
            return None
        data, span = bytes(self._head_block.data), self._head_block.span
        if len(data) != span.size:
            data, span = b"", ByteSpan(0, 0)
        return Download(stat, span, data, crc64(data))

    def _begin(self, first: Download) -> ObjectStat:
        self._head_block = Block(first.span.start, first.body, len(first.body))
        try:
            self._requests.count(first, self._head_block.view)
        except OssIntegrityError:
            self._retire_all()
            raise
        return first.stat

    # blocks

    def _kept_block(self, position: int) -> Block | None:
        return self._head_block if self._head_block.holds(position) else self._random_blocks.find(position)

    def _held_spans(self) -> Sequence[ByteSpan]:
        return sorted([self._head_block.span, *self._random_blocks.spans(), *self._read_ahead.spans()])

    def _fetched_block(self, position: int, wanted_bytes: int) -> Block:
        pattern = self._pattern
        way = pattern.choose(direct_bytes=0, is_ahead=self._read_ahead.holds(position))
        try:
            if way is Way.RANDOM_BLOCKS:
                if self._is_first_look_at_end(position) and begins_torch_archive(self._head_block.view):
                    self._prefetch_all_that_follows()
                return self._random_blocks.fetch(position, wanted_bytes)
            run_bytes = pattern.small_run_bytes(position)
            return self._read_ahead.fetch(position, wanted_bytes, run_bytes=run_bytes, after=pattern.last_span.stop)
        except OssIntegrityError:
            self._retire_all()
            raise

    def _is_first_look_at_end(self, position: int) -> bool:
        size = self._requests.size
        return not self._requests.has_asked_again and position >= size - FIRST_BYTES and not self._head_block.start

    def _prefetch_all_that_follows(self) -> None:
        requests = self._requests
        self._read_ahead.prefetch_behind(self._head_block.span, run_bytes=requests.size, most=requests.concurrency)

    def _copy_blocks(self, span: ByteSpan, target: memoryview) -> None:
        position = span.start
        while position < span.stop:
            block = self.block_at(position, span.stop - position)
            position += _copied(block, position, target[position - span.start :])

    # direct reads

    def _read_directly(self, span: ByteSpan, target: memoryview, missing: Sequence[ByteSpan]) -> None:
        """Fetch what is `missing` straight into `target`; copy the rest of `span` from the blocks that hold it."""
        largest = max(gap.size for gap in missing)
        each = request_bytes(largest, self._requests.concurrency, latency_seconds=self._requests.latency_seconds)

        def copy_what_is_held() -> Iterator[None]:
            yield from prefault([target])
            for held in gaps(span, missing):
                self._copy_held(held, _slice(target, span, held))
                yield

        try:
            self._requests.get_into(
                [(request, _slice(target, span, request)) for gap in missing for request in cut(gap, each)],
                meanwhile=copy_what_is_held(),
                when_half_free=lambda free: self._prefetch_behind_large_read(span, most=free),
            )
        except OssIntegrityError:
            self._retire_all()
            raise

    def _copy_held(self, span: ByteSpan, target: memoryview) -> None:
        position = span.start
        while position < span.stop:
            block = self._kept_block(position) or self._read_ahead.take(position)
            position += _copied(block, position, target[position - span.start :])

    def _prefetch_behind_large_read(self, span: ByteSpan, *, most: int) -> None:
        self._read_ahead.prefetch_behind(span, run_bytes=self._pattern.run_bytes, most=most)

    # the end

    def _retire_all(self) -> None:
        """Let go of all that is held, also of the block that the reader still uses."""
        self._head_block.retire()
        self._random_blocks.retire()
        self._read_ahead.retire()

    def _check(self) -> None:
        if self._received.failure:
            raise OssIntegrityError(self._received.failure)
        if self._pid != os.getpid():
            self._read_ahead.forget()  # forked: the requests belong to the parent process
            self._pid = os.getpid()


def _copied(block: Block, position: int, target: memoryview) -> int:
    """Copy what the block holds from `position` on into `target`; return how much that was."""
    start = position - block.start
    count = min(block.stop - position, len(target))
    copy_bytes(target[:count], block.view[start : start + count])
    return count


def _slice(target: memoryview, span: ByteSpan, inner: ByteSpan) -> memoryview:
    """Return the memory for `inner`, of a `target` that is the memory for `span`."""
    return target[inner.start - span.start : inner.stop - span.start]
