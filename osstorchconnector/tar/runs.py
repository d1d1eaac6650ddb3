"""Which requests bring members of tars, and the members in what they brought.

    members in the order in which they are wanted -> `runs_of` -> `MemberRun`s, a range each -> `outcomes` -> members

Neighbours in a tar come by one range. Where the order jumps, as that of a shuffled chunk or of a batch does, members
are gathered in a window first, and those of it that are neighbours come together. A window gives out its members in the
order in which they were wanted.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

from ..client.client import OssClient
from ..client.operations import Operations
from ..errors import OssError, OssIntegrityError, OssTarError
from ..files.data_object import DataObject
from ..files.reader import OssReader
from ..files.span_reader import SpanReader
from ..index.info import ObjectInfo
from ..protocol.values import ByteSpan, Download
from ..uri import MemberUri, OssUri
from .headers import BLOCK_BYTES, Read, TarEntry, next_entry, padded, plain_entry
from .ranges import GAP_BYTES, RUN_BYTES, Arrival, Ranges
from .samples import split_name

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

    def put(self, number: int, result: T) -> None:
        """Add a result."""
        self._results[number] = result

    def ready(self) -> Iterator[T]:
        """Yield the results whose turn it is."""
        while self._next in self._results:
            self._next += 1
            yield self._results.pop(self._next - 1)


Sample = dict[str, DataObject]
Arrived = tuple[ObjectInfo, Arrival | OssError]
Outcome = tuple[ObjectInfo, DataObject | Sample | OssError]


class _Place(NamedTuple):
    """A member's tar, the tar's ETag, and where the member lies in it: in the order in which members are sorted."""

    tar: tuple[str, str, str]
    start: int
    stop: int


class MemberRun:
    """Members of one tar that come by one range, and their numbers in the window that they are wanted for."""

    __slots__ = ("_tar", "infos", "is_of_chunk", "memory", "numbers", "ranges", "start", "stop", "window")

    def __init__(self, place: _Place, window: Window[Arrived], ranges: Ranges, *, is_of_chunk: bool) -> None:
        self._tar, self.start, self.stop = place
        self.numbers: list[int] = []
        self.infos: list[ObjectInfo] = []
        self.window = window
        self.ranges, self.is_of_chunk = ranges, is_of_chunk
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
        return Arrival(self.ranges, memory, download, len(self.numbers))

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
        bucket, _, tar_key, start, stop, _ = _fields(info)
        place = _Place((bucket, tar_key, info.etag), start, stop)
        if gathered.breaks_off(place):
            yield from gathered.runs()
        gathered.add(info, place)
        if gathered.is_full():
            yield from gathered.runs()
    yield from gathered.runs()


class _Gathered:
    """The members of the present window. They are neighbours, one behind the other, until one is not."""

    def __init__(self, ranges: Ranges, first_rows: int, chunk_rows: int) -> None:
        self._chunk_rows, self._ranges = chunk_rows, ranges
        self._rows_left = first_rows or chunk_rows
        self._infos: list[ObjectInfo] = []
        self._places: list[_Place] = []
        self._is_row, self._bytes = True, 0

    def breaks_off(self, place: _Place) -> bool:
        """Say whether the window ends before this member: what it has is worth a request of its own."""
        if not self._infos or not self._is_row:
            return False
        if self._follows(place):
            return place.stop - self._places[0].start > RUN_BYTES
        return len(self._infos) >= _ENOUGH_ROWS or self._bytes >= _ENOUGH_BYTES

    def add(self, info: ObjectInfo, place: _Place) -> None:
        self._is_row = self._is_row and (not self._infos or self._follows(place))
        self._infos.append(info)
        self._places.append(place)
        self._bytes += place.stop - place.start
        self._rows_left -= 1

    def is_full(self) -> bool:
        if self._chunk_rows:
            return self._rows_left <= 0 or self._bytes >= _CHUNK_BYTES
        if self._is_row:
            return False
        return len(self._infos) >= _WINDOW_ROWS or self._bytes >= _WINDOW_BYTES

    def runs(self) -> Iterator[MemberRun]:
        """Yield the window's runs, in the order in which their first members are wanted, and begin another one."""
        is_of_chunk = bool(self._chunk_rows) and not self._is_row
        infos, places, window = self._infos, self._places, Window[Arrived]()
        numbers = range(len(infos)) if self._is_row else sorted(range(len(infos)), key=places.__getitem__)
        self._infos, self._places, self._is_row, self._bytes = [], [], True, 0
        if self._chunk_rows and self._rows_left <= 0:
            self._rows_left = self._chunk_rows
        runs: list[MemberRun] = []
        for number in numbers:
            place = places[number]
            if not runs or not runs[-1].takes(place):
                runs.append(MemberRun(place, window, self._ranges, is_of_chunk=is_of_chunk))
            runs[-1].add(number, infos[number], place.stop)
        yield from sorted(runs, key=lambda run: min(run.numbers))

    def _follows(self, place: _Place) -> bool:
        last = self._places[-1]
        return 0 <= place.start - last.stop <= GAP_BYTES and place.tar == last.tar


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


def outcomes(client: OssClient, run: MemberRun, download: Download | OssError) -> Iterator[Outcome]:
    """Yield the members whose turn it is, now that `run` has arrived: what is known of each, and the member.

    A member that can't be had is an error in its place: `OssTarError` if it is not where it should be, and
    `OssIntegrityError` if the tar, of which the last range has come, is not what OSS says.
    """
    came = download if isinstance(download, OssError) else _checked_arrival(client, run, download)
    for number, info in zip(run.numbers, run.infos, strict=True):
        run.window.put(number, (info, came))
    # A member is copied only when it is its turn: the memory of the one before it is free then, and in the cache.
    for info, arrived in run.window.ready():
        if isinstance(arrived, OssError):
            yield info, arrived
        else:
            found = _cut(client, info, arrived)
            arrived.note_copied()
            yield info, found


def _checked_arrival(client: OssClient, run: MemberRun, download: Download) -> Arrival | OssError:
    try:
        run.ranges.check(client, run.uri, download)
    except OssIntegrityError as error:
        return error
    return run.arrival(download)


def _cut(client: OssClient, info: ObjectInfo, arrived: Arrival) -> DataObject | Sample | OssError:
    _, key, _, start, stop, is_sample = _fields(info)
    try:
        if is_sample:
            return sample(client, info, arrived)
        if key and info.size is not None and stop <= arrived.stop:
            # Most members, with few calls of Python: there are many in a range.
            entry = plain_entry(arrived.read(start, BLOCK_BYTES), key, info.size, start)
            if entry is not None and entry.body + padded(info.size) == stop:
                body = arrived.read(entry.body, info.size)
                return DataObject(info.uri, body, label=info.label, etag=arrived.download.stat.etag)
        return member(client, info, arrived)
    except OssError as error:
        return error


def _fields(info: ObjectInfo) -> tuple[str, str, str, int, int, bool]:
    return info.uri  # type: ignore[return-value]  # a MemberUri: its fields without a call for each


def member(client: OssClient, info: ObjectInfo, arrived: Arrival) -> DataObject:
    """Return a member of a tar, from bytes that have its headers and its body, or the beginning of a large one.

    Raises `OssTarError` if what stands there is not the member that it should be.
    """
    uri = member_uri(info)
    try:
        entry = _checked(arrived.read, info, arrived.download)
    except OssTarError as error:
        raise _not_there(uri, error) from None
    return _data_object(client, uri if uri.key else uri.named(entry.name), info, arrived, entry)


def sample(client: OssClient, info: ObjectInfo, arrived: Arrival) -> Sample:
    """Return the members of a sample by what their names have behind the first dot.

    Raises `OssTarError` if what stands there is not what should, or if two of them have the same name.
    """
    uri = member_uri(info)
    try:
        if uri.stop <= arrived.stop:
            return _sample(client, info, arrived, arrived.read)
        with OssReader(client, uri.tar, transfer=client.config.dataset, first=arrived.download) as reader:

            def read(position: int, size: int) -> bytes:
                reader.seek(position)
                return reader.read(size)

            return _sample(client, info, arrived, read)
    except OssTarError as error:
        raise _not_there(uri, error) from None


def _sample(client: OssClient, info: ObjectInfo, arrived: Arrival, read: Read) -> Sample:
    uri, found, position = member_uri(info), Sample(), member_uri(info).start
    while position < uri.stop:
        entry = next_entry(read, position)
        if entry is None or entry.stop > uri.stop or entry.body + entry.size > arrived.download.stat.size:
            raise OssTarError("the tar ends in it")
        position = entry.stop
        if entry.is_member:
            base, extension = split_name(entry.name)
            if base != uri.key or extension in found:
                raise OssTarError(f"{entry.name!r:.200} stands there, and should not")
            found[extension] = _data_object(client, uri.named(entry.name), info, arrived, entry)
    return found


def _data_object(client: OssClient, uri: MemberUri, info: ObjectInfo, arrived: Arrival, entry: TarEntry) -> DataObject:
    download, stop, etag = arrived.download, entry.body + entry.size, arrived.download.stat.etag
    if stop <= download.span.stop:
        return DataObject(uri, arrived.read(entry.body, entry.size), label=info.label, etag=etag)
    reader = OssReader(client, uri.tar, transfer=client.config.dataset, first=download)
    return DataObject(uri, SpanReader(reader, uri, ByteSpan(entry.body, stop)), label=info.label, etag=etag)


def _not_there(uri: MemberUri, error: OssTarError) -> OssTarError:
    hint = "the index is not of this tar, or the tar is damaged: make the index again"
    return OssTarError(f"{uri.tar.shown}, the member at byte {uri.start}: {error}; {hint}")


def member_uri(info: ObjectInfo) -> MemberUri:
    """Return where a member lies."""
    uri = info.uri
    assert isinstance(uri, MemberUri)
    return uri


def check_behind(read: Read, entry: TarEntry, stop: int) -> None:
    """Raise `OssTarError` unless nothing but entries that are no members stands from `entry` to `stop`."""
    position = entry.stop
    while position < stop:
        following = next_entry(read, position)
        if following is None or following.is_member:
            raise OssTarError(f"another member stands before byte {stop}, where the next one should be")
        position = following.stop
    if position != stop:
        raise OssTarError(f"it ends at byte {position}, and not before the next one, at byte {stop}")


def _checked(read: Read, info: ObjectInfo, download: Download) -> TarEntry:
    """Return the entry at a member's place, if it is that member. `read` can read what was downloaded."""
    uri = member_uri(info)
    entry = next_entry(read, uri.start)
    if entry is None:
        raise OssTarError("the tar ends before it")
    if not entry.is_member:
        raise OssTarError(f"{entry.name!r:.200} is no file")
    if (uri.key and entry.name != uri.key) or (info.size is not None and entry.size != info.size):
        raise OssTarError(f"it is {entry.name!r:.200} of {entry.size} bytes, and should be {uri.key!r:.200}")
    if entry.body + entry.size > download.stat.size:
        raise OssTarError(f"{entry.name!r:.200} is cut off: the tar ends in it")
    if entry.stop != uri.stop and (entry.stop > uri.stop or uri.stop <= download.span.stop):
        check_behind(read, entry, uri.stop)
    return entry
