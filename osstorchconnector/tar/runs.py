"""Which requests bring members of tars.

    members in the order in which they are wanted -> `runs_of` -> `MemberRun`s, a range each -> `members`

Neighbours in a tar come by one range. Where the order jumps, as that of a shuffled chunk or of a batch does, members
are gathered in a window first, and those of it that are neighbours come together. A window gives out its members in the
order in which they were wanted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

from ..client.operations import Operations
from ..errors import OssError
from ..index.info import ObjectInfo
from ..protocol.values import ByteSpan, Download
from ..uri import OssUri
from .ranges import GAP_BYTES, RUN_BYTES, Arrival, Ranges

T = TypeVar("T")

# Of a member that is larger than a range, so much comes at first, and the rest when it is read.
FIRST_BYTES = 16 << 20
# From this size on the memory of a range is used again.
_LEAST_KEPT_BYTES = 512 << 10
# A window where nothing is known of the order, and one of a chunk: as much of it as memory is taken for.
_WINDOW_ROWS, _WINDOW_BYTES = 256, 32 << 20
_CHUNK_BYTES = 256 << 20
# Where the order jumps, the neighbours before the jump are a range of their own if they have at least this size.
_ENOUGH_ROWS, _ENOUGH_BYTES = 8, 1 << 20


class Window(Generic[T]):
    """Results that arrive in any order, and leave in that of their numbers."""

    def __init__(self) -> None:
        self._results: dict[int, T] = {}
        self._next = 0

    def put(self, numbers: Iterable[int], results: Iterable[T]) -> None:
        """Add results."""
        self._results.update(zip(numbers, results, strict=True))

    def ready(self) -> Iterator[T]:
        """Yield the results whose turn it is."""
        while self._next in self._results:
            self._next += 1
            yield self._results.pop(self._next - 1)


# A member that is wanted, and what the range that was to bring it has brought.
Arrived = tuple[ObjectInfo, Arrival | OssError]


class _Place(NamedTuple):
    """A member's tar, the tar's ETag, and where the member lies in it: in the order in which members are sorted."""

    tar: tuple[str, str, str]
    start: int
    stop: int


class MemberRun:
    """Members of one tar that come by one range, in the order in which they lie there.

    Those of a window, where they are wanted in another order, have numbers in it; without one they are given out as
    they come.
    """

    __slots__ = ("_tar", "infos", "is_of_chunk", "memory", "numbers", "ranges", "start", "stop", "window")

    def __init__(
        self, place: _Place, ranges: Ranges, window: Window[Arrived] | None = None, *, is_of_chunk: bool = False
    ) -> None:
        self._tar, self.start, self.stop = place
        self.infos: list[ObjectInfo] = []
        self.ranges, self.window, self.is_of_chunk = ranges, window, is_of_chunk
        self.numbers: list[int] = []
        self.memory: bytearray | None = None

    @property
    def uri(self) -> OssUri:
        """The tar."""
        return OssUri(self._tar[0], self._tar[1])

    @property
    def etag(self) -> str:
        """The ETag of the tar when it was listed."""
        return self._tar[2]

    @property
    def size(self) -> int:
        """The number of bytes in the range."""
        return self.span.size

    @property
    def weight(self) -> int:
        """For how many bytes it counts among those that are fetched ahead."""
        return self.ranges.weight(self.size, is_of_chunk=self.is_of_chunk)

    @property
    def span(self) -> ByteSpan:
        """The range that is fetched."""
        return ByteSpan(self.start, min(self.stop, self.start + FIRST_BYTES))

    def arrival(self, download: Download) -> Arrival:
        """Return what has come, for all its members."""
        memory, self.memory = self.memory, None
        return Arrival(self.ranges, memory, download, len(self.infos))

    def takes(self, place: _Place) -> bool:
        """Say whether a member, which begins no earlier than the others, comes by the same range."""
        is_near = place.start - self.stop <= GAP_BYTES and place.stop - self.start <= RUN_BYTES
        return is_near and place.tar == self._tar

    def add(self, number: int, info: ObjectInfo, stop: int) -> None:
        """Add a member that `takes` was true for."""
        self.numbers.append(number)
        self.infos.append(info)
        self.stop = max(self.stop, stop)


def runs_of(
    infos: Iterable[ObjectInfo], ranges: Ranges, *, first_rows: int = 0, chunk_rows: int = 0
) -> Iterator[MemberRun]:
    """Yield the runs that bring members of tars, in the order in which the first of each is wanted.

    Members are in a random order within each `chunk_rows` of them, the first time within `first_rows`; 0 if nothing is
    known of their order.
    """
    gathered = _Gathered(ranges, first_rows, chunk_rows)
    for info in infos:
        yield from gathered.add(info)
    yield from gathered.rest()


class _Gathered:
    """The members of the present window. They are a row, one behind the other, until one does not follow the last."""

    def __init__(self, ranges: Ranges, first_rows: int, chunk_rows: int) -> None:
        self._chunk_rows, self._ranges = chunk_rows, ranges
        self._rows_left = first_rows or chunk_rows
        self._begin()

    def _begin(self) -> None:
        self._infos: list[ObjectInfo] = []
        self._places: list[_Place] = []
        self._is_row, self._bytes = True, 0
        if self._chunk_rows and self._rows_left <= 0:
            self._rows_left = self._chunk_rows

    def add(self, info: ObjectInfo) -> Sequence[MemberRun]:
        """Add a member, and return the runs of a window that ends before it or with it.

        It is called for each member, so it calls little.
        """
        bucket, _, key, start, stop, _ = info.uri  # type: ignore[misc]  # a MemberUri
        place = tuple.__new__(_Place, ((bucket, key, info.etag), start, stop))
        ended: Sequence[MemberRun] = ()
        if self._is_row and self._infos:
            first, last = self._places[0], self._places[-1]
            follows = 0 <= start - last.stop <= GAP_BYTES and place.tar == last.tar
            if follows:
                is_enough = stop - first.start > RUN_BYTES
            else:
                is_enough = len(self._infos) >= _ENOUGH_ROWS or self._bytes >= _ENOUGH_BYTES
            if is_enough:
                ended = self.rest()
            self._is_row = follows or is_enough
        self._infos.append(info)
        self._places.append(place)
        self._bytes += stop - start
        self._rows_left -= 1
        if (not self._is_row or self._chunk_rows) and self._is_full():
            return [*ended, *self.rest()]
        return ended

    def _is_full(self) -> bool:
        if self._chunk_rows:
            return self._rows_left <= 0 or self._bytes >= _CHUNK_BYTES
        return len(self._infos) >= _WINDOW_ROWS or self._bytes >= _WINDOW_BYTES

    def rest(self) -> Sequence[MemberRun]:
        """Return the window's runs, in the order in which their first members are wanted, and begin another one."""
        infos, places, is_row = self._infos, self._places, self._is_row
        self._begin()
        if not infos:
            return ()
        if is_row:
            run = MemberRun(places[0], self._ranges)
            run.infos, run.stop = infos, places[-1].stop
            return [run]
        window, runs = Window[Arrived](), list[MemberRun]()
        for number in sorted(range(len(infos)), key=places.__getitem__):
            place = places[number]
            if not runs or not runs[-1].takes(place):
                runs.append(MemberRun(place, self._ranges, window, is_of_chunk=bool(self._chunk_rows)))
            runs[-1].add(number, infos[number], place.stop)
        return sorted(runs, key=lambda run: min(run.numbers))


async def fetch_run(operations: Operations, run: MemberRun) -> Download:
    """Return the bytes of a run. If the tar has been replaced since it was listed, that is an error."""
    span, ranges, begun = run.span, run.ranges, time.perf_counter()

    def note() -> None:
        ranges.note(time.perf_counter() - begun)

    if not _LEAST_KEPT_BYTES <= span.size <= RUN_BYTES:
        return await operations.get(run.uri, span, if_match=run.etag, on_first_byte=note)
    memory = ranges.take()
    into = memoryview(memory)[: span.size]
    download = await operations.get(run.uri, span, into=into, if_match=run.etag, on_first_byte=note)
    run.memory = memory  # not if it failed: then nobody knows who still writes to it
    return download
