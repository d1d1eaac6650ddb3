"""Reading the items of one rank's plan: which ranges bring them, into which memory, and what happens when one has come.

RankLoad     all of a rank's items by file; a file is planned when it is its turn, while others are on their way
  _Range     one range of a file on its way, in one request or several: it tells its items what has come
    RangeMemory    where its bytes land: in targets, and between these in a buffer of the pool
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch

from ..client.client import OssClient
from ..client.flight import RunningTasks
from ..client.memory import Memory, Pieces, part
from ..files.read_plan import cut, request_bytes
from ..protocol.values import ByteSpan
from ..uri import OssUri
from .fetching import Fetch, FetchedFile, Fetcher
from .load_item import LoadItem, LoadState
from .segments import Range, RangeSizes, Segment, ranges
from .tensors import memory, uninitialised

MIN_RANGE_BYTES, MAX_RANGE_BYTES = 1 << 20, 8 << 20
# Of what has to be copied: the sooner the first range is whole, the sooner that begins.
MAX_STAGED_BYTES = 4 << 20
# The first range of a file is fetched alone, as it brings the ETag. It is small when many others wait for it.
FIRST_RANGE_BYTES, MANY_RANGES = 64 << 10, 4


def open_ahead(client: OssClient, bucket: str) -> None:
    """Begin the connections that a load from `bucket` needs, while its metadata is read."""
    transfer = client.config.checkpoint
    RunningTasks[None, None](client, transfer.prefetch_worker).open_ahead(bucket, transfer.prefetch_concurrency)


class RankLoad:
    """Everything that one rank reads in one load, with at most about `memory_bytes` beside the targets."""

    def __init__(self, client: OssClient, items: Iterable[tuple[OssUri, LoadItem]], *, memory_bytes: int) -> None:
        transfer = client.config.checkpoint
        self._client = client
        self._fetcher = Fetcher(
            client,
            concurrency=transfer.prefetch_concurrency,
            workers=transfer.prefetch_worker,
            memory_bytes=memory_bytes,
        )
        self.total_bytes = 0
        self._by_uri: dict[OssUri, list[LoadItem]] = defaultdict(list)
        for uri, item in items:
            self._by_uri[uri].append(item)
            self.total_bytes += item.size_bytes
        self._range_bytes = min(request_bytes(self.total_bytes, transfer.prefetch_concurrency), MAX_RANGE_BYTES)
        # Ranges that need memory are so large that one for each request in flight fits.
        fitting = min(self._range_bytes, memory_bytes // transfer.prefetch_concurrency, MAX_STAGED_BYTES)
        self._pool = BufferPool(max(fitting, MIN_RANGE_BYTES))

    def run(self, progressed: Callable[[int], object]) -> None:
        """Read it all; `progressed` is told how many bytes have come.

        When this returns or raises, nothing writes to the targets any more; where that can't be had, it raises as
        `Fetcher.run` does.
        """
        files = (self._planned(uri, items) for uri, items in self._by_uri.items())
        self._fetcher.run(files, progressed)

    def _planned(self, uri: OssUri, items: list[LoadItem]) -> FetchedFile:
        """Return the file with its fetches in the order of their bytes; items that need no bytes are finished now."""
        file = FetchedFile(uri)
        file_bytes = sum([item.size_bytes for item in items])
        first = FIRST_RANGE_BYTES if file_bytes > MANY_RANGES * self._range_bytes else self._range_bytes
        sizes = RangeSizes(first, self._range_bytes, self._pool.size_bytes)
        segments = [segment for number, item in enumerate(items) for segment in item.segments(number)]
        fetch_whole = partial(_fetch_whole, self._client, file)
        for found in ranges(segments, sizes):
            file.waiting += _RangeOnItsWay(found, items, self._pool, fetch_whole).fetches(file)
        for item in items:
            if item.state is LoadState.PLANNED:
                item.finish(fetch_whole)
        return file


def _fetch_whole(client: OssClient, file: FetchedFile, span: ByteSpan) -> memoryview:
    """Fetch all bytes of an item that is laid out in another way than was assumed."""
    data = bytearray(span.size)
    download = client.get(file.uri, span, into=memoryview(data), if_match=file.etag)
    file.landed(download, span)
    return memoryview(data)


class _RangeOnItsWay:
    """One range of a file, from the plan until its items have what it brings.

    It refers to no `RankLoad`: the fetches that a failed load has not begun refer to this, and would be a cycle.
    """

    def __init__(
        self,
        found: Range,
        items: Sequence[LoadItem],
        pool: BufferPool,
        fetch_whole: Callable[[ByteSpan], memoryview],
    ) -> None:
        self._range, self._items, self._pool, self._fetch_whole = found, items, pool, fetch_whole
        self._memory = RangeMemory(found, items, pool)
        self._owners = [items[number] for number in dict.fromkeys([segment.owner for segment in found.segments])]
        self._outstanding = 0  # requests
        for item in self._owners:
            item.expect_range()

    def fetches(self, file: FetchedFile) -> list[Fetch]:
        """Return the requests for it: one, unless more bytes of it are staged than one buffer takes."""
        whole, staged_bytes = self._range.span, self._range.staged_bytes
        is_cut = staged_bytes > self._pool.size_bytes
        pieces = cut(whole, self._pool.size_bytes) if is_cut else [whole]
        self._outstanding = len(pieces)
        found = []
        for piece in pieces:
            checksummed = _checksummed(self._range.segments, self._items, piece)
            found.append(
                Fetch(
                    file,
                    piece,
                    partial(self._memory.of, piece),
                    partial(self._has_come, [item for item, _ in checksummed]),
                    [span for _, span in checksummed],
                    piece.size if is_cut else self._pool.taken_bytes(staged_bytes),
                )
            )
        return found

    def _has_come(self, checksummed: list[LoadItem], fetch: Fetch) -> None:
        """A request has ended well; `checksummed` are the items whose CRC-32s the fetch has, in that order."""
        for item, span, crc in zip(checksummed, fetch.sums, fetch.crcs, strict=True):
            item.receive_crc(span, crc)
        self._outstanding -= 1
        if self._outstanding:
            return
        self._memory.hand_out()
        for item in self._owners:
            if item.end_range():
                item.finish(self._fetch_whole)
        if all(item.lets_go_of_staging() for item in self._owners):
            self._memory.give_back()


def _checksummed(
    segments: list[Segment], items: Sequence[LoadItem], piece: ByteSpan
) -> list[tuple[LoadItem, ByteSpan]]:
    """Return the parts of a request whose CRC-32 is needed, each with its item, in the order of their starts."""
    found = []
    for start, stop, owner, _ in segments:
        item = items[owner]
        needed = item.checksummed
        if needed is not None:
            start = max(needed.start, start, piece.start)
            stop = min(needed.stop, stop, piece.stop)
            if start < stop:
                found.append((item, ByteSpan(start, stop)))
    return sorted(found, key=_start_of_part)


def _start_of_part(found: tuple[LoadItem, ByteSpan]) -> int:
    return found[1].start


class RangeMemory:
    """Where the bytes of one range land, whose segments `items` own."""

    def __init__(self, found: Range, items: Sequence[LoadItem], pool: BufferPool) -> None:
        self._range, self._items, self._pool = found, items, pool
        self._buffer: memoryview | None = None
        self._memory: Memory | None = None
        self._staged_starts: list[tuple[Segment, int]] = []  # where in the buffer a segment begins

    def of(self, piece: ByteSpan) -> Memory:
        """Return where this part of the range lands; the buffer is taken when the first part asks."""
        if self._memory is None:
            self._memory = self._lay_out()
        start = self._range.span.start
        return part(self._memory, piece.start - start, piece.stop - start)

    def hand_out(self) -> None:
        """Give each item those of its segments that came into the buffer."""
        assert self._buffer is not None
        for (first, stop, owner, _), start in self._staged_starts:
            self._items[owner].receive(first, self._buffer[start : start + stop - first])

    def give_back(self) -> None:
        """Nobody needs the bytes in the buffer any more: other ranges may have it."""
        assert self._buffer is not None
        self._pool.give_back(self._buffer)
        self._buffer = self._memory = None

    def _lay_out(self) -> Memory:
        staged_bytes = self._range.staged_bytes
        self._buffer = buffer = self._pool.take(staged_bytes)
        views: list[memoryview] = []
        reached, used = self._range.span.start, 0  # of the file, and of the buffer
        for segment in self._range.segments:
            here = used + segment.start - reached
            if not segment.is_direct:
                self._staged_starts.append((segment, here))
                continue
            views += [buffer[used:here], self._items[segment.owner].target_memory(segment)]
            used, reached = here, segment.stop
        views = [view for view in (*views, buffer[used:staged_bytes]) if len(view)]
        return views[0] if len(views) == 1 else Pieces(views)


class BufferPool:
    """Buffers for ranges. Those of `size_bytes` are used again: the system gives new memory page by page, slowly."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._buffers: list[memoryview] = []

    def taken_bytes(self, needed_bytes: int) -> int:
        """Return how much memory is taken for this many bytes: at most twice as much."""
        return self.size_bytes if self.size_bytes < 2 * needed_bytes <= 2 * self.size_bytes else needed_bytes

    def take(self, needed_bytes: int) -> memoryview:
        """Return memory for this many bytes, whose contents are undefined."""
        taken_bytes = self.taken_bytes(needed_bytes)
        if self._buffers:
            buffer = self._buffers.pop()
            if taken_bytes == self.size_bytes:
                return buffer
            del buffer  # both together might be too much
        return new_buffer(taken_bytes)

    def give_back(self, buffer: memoryview) -> None:
        """Keep a buffer that nobody needs any more for the next range."""
        if len(buffer) == self.size_bytes:
            self._buffers.append(buffer)


def new_buffer(size_bytes: int) -> memoryview:
    """Return memory whose contents are undefined: unlike with a `bytearray`, no zeros are written to it first."""
    return memory(uninitialised((size_bytes,), torch.uint8))
