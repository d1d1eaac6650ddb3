"""Reading the items of one rank's plan: what is to be fetched, in which ranges, and who waits for which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial

from ..client.client import OssClient
from ..files.read_plan import cut, request_bytes
from ..protocol.values import ByteSpan
from ..uri import OssUri
from .fetching import Fetch, FetchedFile, Fetcher
from .load_item import Wanted
from .places import Place, Spare
from .segments import Range, RangeSizes, Segment, ranges

MIN_RANGE_BYTES, MAX_RANGE_BYTES = 1 << 20, 8 << 20
# Of what has to be copied: the sooner the first range is whole, the sooner that begins.
MAX_HELD_BYTES = 4 << 20
# All ranges of a file wait for the first, which tells the ETag. If they are many, it is a small one.
FIRST_RANGE_BYTES, MANY_RANGES = 64 << 10, 4


class RankLoad:
    """Everything that one rank reads in one load, with at most about `memory_bytes` beside the targets."""

    def __init__(self, client: OssClient, wanted: Iterable[tuple[OssUri, Wanted]], *, memory_bytes: int) -> None:
        transfer = client.config.checkpoint
        self._client = client
        self._fetcher = Fetcher(
            client,
            concurrency=transfer.prefetch_concurrency,
            workers=transfer.prefetch_worker,
            memory_bytes=memory_bytes,
        )
        self.total_bytes = 0
        by_uri: dict[OssUri, list[Wanted]] = defaultdict(list)
        for uri, item in wanted:
            by_uri[uri].append(item)
            self.total_bytes += item.size_bytes
        self._range_bytes = min(request_bytes(self.total_bytes, transfer.prefetch_concurrency), MAX_RANGE_BYTES)
        # Ranges that need memory are so large that one for each request in flight fits.
        fitting = min(self._range_bytes, memory_bytes // transfer.prefetch_concurrency, MAX_HELD_BYTES)
        self._held_bytes = max(fitting, MIN_RANGE_BYTES)
        self._spare = Spare(self._held_bytes)
        self._by_uri = by_uri

    def run(self, landed_bytes: Callable[[int], object]) -> None:
        """Read it all; when this returns or raises, nothing writes to the targets any more."""
        # Each is planned when it is its turn, while others are on their way.
        files = (self._planned(FetchedFile(uri), items) for uri, items in self._by_uri.items())
        self._fetcher.run(files, landed_bytes)

    # what is to be fetched

    def _planned(self, file: FetchedFile, items: list[Wanted]) -> FetchedFile:
        """Return the file with its fetches in the order of their bytes, except for what is there already: nothing."""
        file_bytes = sum(item.size_bytes for item in items)
        first = FIRST_RANGE_BYTES if file_bytes > MANY_RANGES * self._range_bytes else self._range_bytes
        sizes = RangeSizes(first, self._range_bytes, self._held_bytes)
        segments = [segment for number, item in enumerate(items) for segment in item.segments(number)]
        for found in ranges(segments, sizes):
            file.waiting += self._fetches(file, found, items)
        for item in items:
            if not item.outstanding:
                self._complete(file, item)
        return file

    def _fetches(self, file: FetchedFile, found: Range, items: list[Wanted]) -> list[Fetch]:
        """Return the fetches for a range: one, unless it is larger than what may be held at a time."""
        owners = [items[number] for number in dict.fromkeys(segment.owner for segment in found.segments)]
        place = Place(found, items, self._spare)
        pieces = cut(found.span, self._held_bytes) if found.held_bytes > self._held_bytes else [found.span]
        missing = len(pieces)

        def done(fetch: Fetch) -> None:
            nonlocal missing
            missing -= 1
            for item, span, crc in zip(sums_of[fetch.span.start], fetch.sums, fetch.crcs, strict=True):
                item.crcs.append((span.start, span.size, crc))
            if not missing:
                place.hand_out()
                for item in owners:
                    item.outstanding -= 1
                    if not item.outstanding:
                        self._complete(file, item)
                if all(item.has_let_go() for item in owners):
                    place.give_back()

        for item in owners:
            item.outstanding += 1
        fetches = []
        sums_of: dict[int, list[Wanted]] = {}  # whose CRC-32s those are of the fetch that begins there
        for piece in pieces:
            sums = _sums(found.segments, items, piece)
            sums_of[piece.start] = [item for item, _ in sums]
            held_bytes = piece.size if len(pieces) > 1 else self._spare.taken_bytes(found.held_bytes)
            fetches.append(Fetch(file, piece, partial(place.of, piece), done, [span for _, span in sums], held_bytes))
        return fetches

    # what has come

    def _complete(self, file: FetchedFile, item: Wanted) -> None:
        if not item.finish():
            whole = item.whole_so_far()
            if whole is None:  # laid out in another way than was assumed, and only a part was fetched
                data = bytearray(item.whole.size)
                download = self._client.get(file.uri, item.whole, into=memoryview(data), if_match=file.etag)
                file.landed(download, item.whole)
                whole = memoryview(data)
            item.finish_whole(whole)
        item.pieces.clear()


def _sums(segments: list[Segment], items: list[Wanted], piece: ByteSpan) -> list[tuple[Wanted, ByteSpan]]:
    """Return the parts of the fetch that belong to data whose CRC-32 is wanted, and whose they are, in order."""
    found = []
    for segment in segments:
        summed = items[segment.owner].summed
        if summed is not None:
            start = max(summed.start, segment.start, piece.start)
            stop = min(summed.stop, segment.stop, piece.stop)
            if start < stop:
                found.append((items[segment.owner], ByteSpan(start, stop)))
    return sorted(found, key=_start_of_sum)


def _start_of_sum(found: tuple[Wanted, ByteSpan]) -> int:
    return found[1].start
