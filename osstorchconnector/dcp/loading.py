"""Reading the items of one rank's plan: which ranges bring them, into which memory, and what happens when one has come.

RankLoad     all of a rank's items by file; a file is planned when it is its turn, while others are on their way
  _Range     one range of a file on its way, in one request or several: it tells its items what has come
    RangeMemory    where its bytes land: in targets, and between these in a buffer of the pool
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter, itemgetter

import torch

from ..client.client import OssClient
from ..client.flight import RunningTasks
from ..client.limiter import transfer_limit
from ..client.memory import Memory, Pieces, part
from ..files.read_plan import cut, request_bytes
from ..protocol.values import ByteSpan
from ..tensors.memory import memory, uninitialised
from ..uri import OssUri
from .fetching import Fetch, FetchedFile, Fetcher
from .load_item import LoadItem
from .segments import Range, RangePlan, RangeSizes, Segment

MIN_RANGE_BYTES = 1 << 20
# Of what has to be copied: the sooner the first range is whole, the sooner that begins.
MAX_STAGED_BYTES = 4 << 20
# The first range of a file is small when many others follow: it is requested before those are planned.
FIRST_RANGE_BYTES, MANY_RANGES = 64 << 10, 4
# How many items of a file are planned at a time: few before its first request.
FIRST_BATCH_ITEMS, BATCH_ITEMS = 4, 256


def open_ahead(client: OssClient, bucket: str) -> None:
    """Begin the connections that a load from `bucket` needs, while its metadata is read."""
    transfer = client.config.checkpoint
    limit = transfer_limit(client.endpoint, transfer.prefetch_concurrency).limit
    RunningTasks[None, None](client, transfer.prefetch_worker).open_ahead(bucket, limit)


class RankLoad:
    """Everything that one rank reads in one load, with at most about `memory_bytes` beside the targets."""

    def __init__(self, client: OssClient, items: Mapping[OssUri, list[LoadItem]], *, memory_bytes: int) -> None:
        transfer = client.config.checkpoint
        self._client, self._items = client, items
        in_flight = transfer_limit(client.endpoint, transfer.prefetch_concurrency)
        self._fetcher = Fetcher(
            client,
            in_flight=in_flight,
            workers=transfer.prefetch_worker,
            memory_bytes=memory_bytes,
        )
        self.total_bytes = sum(map(_fetched_bytes, items.values()))
        self._range_bytes = request_bytes(self.total_bytes, in_flight.limit)
        # Ranges that need memory are so large that one for each request in flight fits.
        fitting = min(self._range_bytes, memory_bytes // in_flight.limit, MAX_STAGED_BYTES)
        self._pool = BufferPool(max(fitting, MIN_RANGE_BYTES))

    def run(self, progressed: Callable[[int], object]) -> None:
        """Read it all; `progressed` is told how many bytes have come.

        When this returns or raises, nothing writes to the targets any more; where that can't be had, it raises as
        `Fetcher.run` does.
        """
        files = (self._file(uri, items) for uri, items in self._items.items())
        self._fetcher.run(files, progressed)

    def _file(self, uri: OssUri, items: list[LoadItem]) -> FetchedFile:
        file = FetchedFile(uri)
        file.coming = self._fetches(file, sorted(items, key=_START))
        return file

    def _fetches(self, file: FetchedFile, items: list[LoadItem]) -> Iterator[Fetch]:
        """Plan the requests for items, in the order of their bytes; items that need no bytes are finished now."""
        first = FIRST_RANGE_BYTES if _fetched_bytes(items) > MANY_RANGES * self._range_bytes else self._range_bytes
        plan = RangePlan(RangeSizes(first, self._range_bytes, self._pool.size_bytes))
        fetch_whole = partial(_fetch_whole, self._client, file)
        for batch in batches(items):
            segments: list[Segment] = []
            for number in batch:
                found = items[number].segments(number)
                if not found:
                    items[number].finish(fetch_whole)
                segments += found
            for span in plan.add(segments):
                yield from _RangeOnItsWay(span, items, self._pool, fetch_whole).fetches(file)
        for span in plan.end():
            yield from _RangeOnItsWay(span, items, self._pool, fetch_whole).fetches(file)


_START = attrgetter("start")
_SPAN = itemgetter(1)
_SIZE_BYTES = attrgetter("size_bytes")


def _fetched_bytes(items: Iterable[LoadItem]) -> int:
    return sum(map(_SIZE_BYTES, items))


def batches(items: Sequence[LoadItem]) -> Iterator[range]:
    """Yield all numbers of items, which are in the order of their starts: few at first, so that requests begin soon.

    The items of a batch begin behind the end of all those before.
    """
    first, most, reached = 0, FIRST_BATCH_ITEMS, 0
    for number, item in enumerate(items):
        if number - first >= most and item.start >= reached:
            yield range(first, number)
            first, most = number, BATCH_ITEMS
        if item.stop > reached:
            reached = item.stop
    yield range(first, len(items))


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
        self._outstanding = 0  # requests

    def fetches(self, file: FetchedFile) -> list[Fetch]:
        """Return the requests for it: one, unless more bytes of it are staged than one buffer takes."""
        whole, staged_bytes = self._range.span, self._range.staged_bytes
        is_cut = staged_bytes > self._pool.size_bytes
        pieces = cut(whole, self._pool.size_bytes) if is_cut else [whole]
        self._outstanding = len(pieces)
        found = []
        for piece in pieces:
            checksummed = _checksummed(self._range.segments, self._items, piece, is_whole=not is_cut)
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
        arrived, waiting = self._memory.hand_out()
        for item in arrived:
            item.finish(self._fetch_whole)
        if all(item.lets_go_of_staging() for item in waiting):
            self._memory.give_back()


def _checksummed(
    segments: list[Segment], items: Sequence[LoadItem], piece: ByteSpan, *, is_whole: bool
) -> list[tuple[LoadItem, ByteSpan]]:
    """Return the parts of a request whose CRC-32 is needed, each with its item, in the order of their starts.

    `is_whole` says that the request has all bytes of the segments.
    """
    found: list[tuple[LoadItem, ByteSpan]] = []
    for start, stop, owner, _ in segments:
        item = items[owner]
        needed = item.checksummed
        if needed is None:
            continue
        if is_whole and start <= needed.start and needed.stop <= stop:
            found.append((item, needed))
            continue
        start = max(needed.start, start, piece.start)
        stop = min(needed.stop, stop, piece.stop)
        if start < stop:
            found.append((item, ByteSpan(start, stop)))
    found.sort(key=_SPAN)
    return found


class RangeMemory:
    """Where the bytes of one range land, whose segments `items` own."""

    def __init__(self, found: Range, items: Sequence[LoadItem], pool: BufferPool) -> None:
        self._range, self._items, self._pool = found, items, pool
        self._buffer: memoryview | None = None
        self._memory: Memory | None = None

    def of(self, piece: ByteSpan) -> Memory:
        """Return where this part of the range lands; the buffer is taken when the first part asks."""
        if self._memory is None:
            self._memory = self._lay_out()
        start = self._range.span.start
        return part(self._memory, piece.start - start, piece.stop - start)

    def hand_out(self) -> tuple[list[LoadItem], list[LoadItem]]:
        """Tell each item what has come of it; return those that are complete now, and those that wait for more."""
        assert self._buffer is not None
        items, buffer = self._items, self._buffer
        arrived: list[LoadItem] = []
        waiting: list[LoadItem] = []
        for (start, stop, owner, is_direct), here in _places(self._range):
            item = items[owner]
            is_last = item.receive(start, stop, None if is_direct else buffer[here : here + stop - start])
            (arrived if is_last else waiting).append(item)
        return arrived, waiting

    def give_back(self) -> None:
        """Nobody needs the bytes in the buffer any more: other ranges may have it."""
        assert self._buffer is not None
        self._pool.give_back(self._buffer)
        self._buffer = self._memory = None

    def _lay_out(self) -> Memory:
        staged_bytes = self._range.staged_bytes
        self._buffer = buffer = self._pool.take(staged_bytes)
        if staged_bytes == self._range.span.size:
            return buffer[:staged_bytes]
        views: list[memoryview] = []
        used = 0
        for segment, here in _places(self._range):
            if segment.is_direct:
                views += [buffer[used:here], self._items[segment.owner].target_memory(segment)]
                used = here
        views = [view for view in (*views, buffer[used:staged_bytes]) if len(view)]
        return views[0] if len(views) == 1 else Pieces(views)


def _places(found: Range) -> Iterator[tuple[Segment, int]]:
    """Yield each segment and where it begins in the buffer; of a direct one, where the bytes behind it go on."""
    used, reached = 0, found.span.start  # of the buffer, and of the file
    for segment in found.segments:
        here = used + segment[0] - reached
        yield segment, here
        if segment[3]:
            used, reached = here, segment[1]


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
