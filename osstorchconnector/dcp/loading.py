"""Reading the items of one rank's plan: what is to be fetched, in which ranges, and who waits for which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial

import torch

from ..client.client import OssClient
from ..client.values import ByteSpan
from ..objects.ranges import cut, piece_bytes
from ..uri import OssUri
from .fetching import Fetch, FetchedFile, Fetcher
from .segments import Run, runs
from .tensors import memory
from .wanted import Wanted

MIN_RANGE_BYTES, MAX_RANGE_BYTES = 1 << 20, 8 << 20
# Of what has to be copied: the sooner the first range is whole, the sooner that begins.
MAX_RUN_BYTES = 4 << 20


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
        self._range_bytes = min(piece_bytes(self.total_bytes, transfer.prefetch_concurrency), MAX_RANGE_BYTES)
        # Ranges that need memory are so large that one for each request in flight fits.
        fitting = min(self._range_bytes, memory_bytes // transfer.prefetch_concurrency, MAX_RUN_BYTES)
        self._run_bytes = max(fitting, MIN_RANGE_BYTES)
        self._spare: list[memoryview] = []
        self._files = [self._planned(FetchedFile(uri), items) for uri, items in by_uri.items()]

    def run(self, landed_bytes: Callable[[int], object]) -> None:
        """Read it all; when this returns or raises, nothing writes to the targets any more."""
        self._fetcher.run(self._files, landed_bytes)

    # what is to be fetched

    def _planned(self, file: FetchedFile, items: list[Wanted]) -> FetchedFile:
        """Return the file with its fetches in the order of their bytes, except for what is there already: nothing."""
        numbered = [(number, span) for number, item in enumerate(items) for span in item.spans]
        fetches: list[Fetch] = []
        for run in runs(numbered, max_bytes=self._run_bytes):
            fetches += self._fetches_of_run(file, run, [items[number] for number in dict.fromkeys(run.members)])
        for item in items:
            if item.direct is not None:
                fetches += self._fetches_of_tensor(file, item, *item.direct)
            elif not item.spans:
                self._complete(file, item)
        file.waiting.extend(sorted(fetches, key=lambda fetch: fetch.span.start))
        return file

    def _fetches_of_tensor(self, file: FetchedFile, item: Wanted, data: ByteSpan, view: memoryview) -> list[Fetch]:
        fetches = []

        def done(fetch: Fetch) -> None:
            self._take(file, item, fetch)

        for span in cut(data, self._range_bytes):
            target = view[span.start - data.start : span.stop - data.start]
            sums = [span] if item.summed is not None else []
            fetches.append(Fetch(file, span, partial(_same, target), done, sums, needs_memory=False))
        item.outstanding += len(fetches)
        return fetches

    def _fetches_of_run(self, file: FetchedFile, run: Run, items: list[Wanted]) -> list[Fetch]:
        shared = _Memory(run.span, self._spare)
        pieces = cut(run.span, self._run_bytes) if run.span.size > self._run_bytes else [run.span]
        missing = len(pieces)

        def done(fetch: Fetch) -> None:
            nonlocal missing
            missing -= 1
            _note_sums(owners[fetch.span.start], fetch)
            if not missing:
                shared.hand_out(items)
                for item in items:
                    self._arrived(file, item)
                if not any(item.outstanding for item in items):
                    shared.give_back()

        fetches = []
        owners: dict[int, list[Wanted]] = {}  # of the sums of the range that starts there
        for item in items:
            item.outstanding += 1
        for piece in pieces:
            sums = _sums(items, piece)
            owners[piece.start] = [item for item, _ in sums]
            fetches.append(Fetch(file, piece, partial(shared.part, piece), done, [span for _, span in sums]))
        return fetches

    # what has come

    def _take(self, file: FetchedFile, item: Wanted, fetch: Fetch) -> None:
        _note_sums([item] * len(fetch.sums), fetch)
        self._arrived(file, item)

    def _arrived(self, file: FetchedFile, item: Wanted) -> None:
        item.outstanding -= 1
        if not item.outstanding:
            self._complete(file, item)

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


class _Memory:
    """Memory for a run of spans, from the `spare` there is when the first of its ranges is fetched, or new."""

    def __init__(self, span: ByteSpan, spare: list[memoryview]) -> None:
        self._span, self._spare = span, spare
        self._memory: memoryview | None = None

    def part(self, piece: ByteSpan) -> memoryview:
        if self._memory is None:
            fits = next((number for number, one in enumerate(self._spare) if len(one) >= self._span.size), None)
            self._memory = _new_memory(self._span.size) if fits is None else self._spare.pop(fits)
        return self._memory[piece.start - self._span.start : piece.stop - self._span.start]

    def give_back(self) -> None:
        """Nobody needs the bytes any more: others may have the memory."""
        if self._memory is not None:
            self._spare.append(self._memory)
            self._memory = None

    def hand_out(self, items: list[Wanted]) -> None:
        """Give each item those of its spans that are here."""
        view, (first, last) = self.part(self._span), self._span
        for item in items:
            for start, stop in item.spans:
                if first <= start and stop <= last:
                    item.pieces[start] = view[start - first : stop - first]


def _new_memory(size_bytes: int) -> memoryview:
    """Return memory with whatever stands in it: unlike a `bytearray`'s nobody has to write zeros there first."""
    return memory(torch.empty(size_bytes, dtype=torch.uint8))


def _sums(items: list[Wanted], piece: ByteSpan) -> list[tuple[Wanted, ByteSpan]]:
    """Return the parts of the range that belong to data whose CRC-32 is wanted, and whose they are, in order."""
    found = []
    for item in items:
        summed = item.summed if item.direct is None else None
        if summed is not None and summed.start < piece.stop and piece.start < summed.stop:
            found.append((item, ByteSpan(max(summed.start, piece.start), min(summed.stop, piece.stop))))
    return sorted(found, key=_start_of_sum)


def _start_of_sum(found: tuple[Wanted, ByteSpan]) -> int:
    return found[1].start


def _note_sums(owners: list[Wanted], fetch: Fetch) -> None:
    for owner, span, crc in zip(owners, fetch.sums, fetch.crcs, strict=True):
        owner.crcs.append((span.start, span.size, crc))


def _same(view: memoryview) -> memoryview:
    return view
