"""The members of tars, as rows of the table of objects: from an index, or else from the tar's headers.

    `TarFile` -> its size and ETag, its index -> rows: name, size, number, where it lies

An index is the file that the caller names, or `NAME.tar.idx` beside `NAME.tar`. Without one the headers are read
(`scan`). Where an index has no names, and names are wanted (for a filter, for groups), the headers are read at the
places that it tells, many at a time.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple

from ..client.client import OssClient
from ..client.operations import Operations
from ..errors import OssConfigError, OssError, OssNotFoundError, OssTarError
from ..index.labels import folder_around
from ..index.layout import UNKNOWN_SIZE, Batch
from ..index.shared_file import Wait
from ..index.tar_places import TarPlaces
from ..protocol.values import ByteSpan, ObjectStat
from ..uri import OssUri, parse_object_uri, parse_uri
from .headers import TarEntry
from .index_file import MAX_INDEX_BYTES, TarIndex, index_of, pack_index, unpack_index
from .samples import MemberRow, grouped
from .scan import headers_at, scan, unreadable

BATCH_ROWS = 1000
INDEX_SUFFIX = ".idx"

# The index of one tar, or those of several: a URI or a local path each; None for beside the tar.
TarIndexes = str | os.PathLike[str] | OssUri | Iterable[str | OssUri | None] | None

_logger = logging.getLogger(__name__)

_CONCURRENCY = 32


class TarFile(NamedTuple):
    """A tar, or all below a prefix that ends in `/`, and where its index is: a URI or a local path; None for beside."""

    uri: OssUri
    index_place: OssUri | str | None = None

    @property
    def is_prefix(self) -> bool:
        """Whether this is a folder of tars."""
        return not self.uri.key or self.uri.key.endswith("/")

    @property
    def index_uri(self) -> OssUri | None:
        """Where the index is, or may be; None if that is a local path."""
        if self.index_place is None:
            return OssUri(self.uri.bucket, self.uri.key + INDEX_SUFFIX)
        return None if isinstance(self.index_place, str) else self.index_place


class _Opened(NamedTuple):
    """A tar that is there, and its index if it has one."""

    uri: OssUri
    stat: ObjectStat
    listed: TarIndex | None


def tar_files(tars: str | Iterable[str | tuple[str, str | None]], indexes: TarIndexes) -> tuple[TarFile, ...]:
    """Return the tars that a caller has named: one, several, pairs with their indexes, or prefixes.

    Raises `OssConfigError` for anything else, and `OssUriError` for a wrong URI.
    """
    if isinstance(tars, str):
        if not (indexes is None or isinstance(indexes, str | os.PathLike | OssUri)):
            raise OssConfigError("tar_index_uri: one tar has one index")
        given: list[Any] = [(tars, indexes)]
    else:
        several: list[Any] = list(tars)
        pairs: list[Any] = [tar if isinstance(tar, tuple | list) else (tar, None) for tar in several]
        if indexes is not None and not isinstance(indexes, str | os.PathLike | OssUri):
            beside = list(indexes)
            if len(beside) != len(several) or any(isinstance(tar, tuple | list) for tar in several):
                raise OssConfigError("tar_index_uri: as many indexes are wanted as tars, or pairs of both as tar_uri")
            pairs = list(zip(several, beside, strict=True))
        elif indexes:
            raise OssConfigError("tar_index_uri: one index can't be that of several tars: give pairs as tar_uri")
        given = [tuple(pair) if len(pair) == 2 else (pair, None) for pair in pairs]
    if not given:
        raise OssConfigError("tar_uri: an empty list; name one or several")
    return tuple(_tar_file(tar, index) for tar, index in given)


def _tar_file(tar: object, index: object) -> TarFile:
    if not isinstance(tar, str):
        raise OssConfigError(f"tar_uri: {tar!r:.200} is no URI, and no pair of a tar's and its index's")
    found = TarFile(parse_uri(tar), _index_place(index))
    if found.is_prefix and found.index_place is not None:
        raise OssConfigError(f"tar_index_uri: {tar} is a folder, whose tars have their indexes beside them")
    return found


def _index_place(index: object) -> OssUri | str | None:
    if isinstance(index, OssUri):
        return index
    place = os.fspath(index) if isinstance(index, str | os.PathLike) else index
    if not (place is None or isinstance(place, str)):
        raise OssConfigError(f"tar_index_uri: {index!r:.200} is neither a URI nor a path")
    return parse_object_uri(place) if place and place.startswith("oss://") else place or None


class TarListing:
    """The members of tars, one tar after the other, in the order in which they lie there. A `Source` of the table.

    With `names`, every row has its member's name and size; else only those of tars whose index has them. With
    `samples`, a row is a sample of members that share a basename. `keep_index` stores an index that had to be made
    beside the tar. The label of a row is its number in its tar, or the name of the folder that holds it with `folders`.
    """

    def __init__(
        self,
        client: OssClient,
        tars: tuple[TarFile, ...],
        *,
        names: bool = False,
        samples: bool = False,
        keep_index: bool = False,
        folders: bool = False,
    ) -> None:
        self._client, self._tars, self._keep_index, self._folders = client, tars, keep_index, folders
        self._names, self._samples = names or samples, samples

    def batches(self, cursor: bytes, wait: Wait = Future.result) -> Generator[Batch, None, None]:
        first, done, etag = _unpack_cursor(cursor)
        opened = self._client.map(
            _open, itertools.islice(self._files(), first, None), concurrency=_CONCURRENCY, workers=1, kind="pages"
        )
        with contextlib.closing(opened):
            for number, (file, stat, data) in enumerate(opened, first):
                tar = _Opened(file.uri, stat, self._index(file, stat, data))
                if etag and etag != stat.etag:
                    raise OssTarError(f"{file.uri.shown} was replaced while its members were listed")
                total = done
                with contextlib.closing(self._rows(tar)) as members:
                    rows = grouped(members) if self._samples else members
                    next(itertools.islice(rows, done, done), None)
                    while taken := list(itertools.islice(rows, BATCH_ROWS)):
                        yield self._batch(tar, taken, total, _pack_cursor(number, total + len(taken), stat.etag))
                        total += len(taken)
                if not total:
                    _logger.warning("the tar %s has no member", file.uri.shown)
                done, etag = 0, ""

    def _files(self) -> Iterator[TarFile]:
        for tar in self._tars:
            if not tar.is_prefix:
                yield tar
                continue
            found = [TarFile(OssUri(tar.uri.bucket, listed.key)) for listed in self._client.list(tar.uri)]
            found = [file for file in found if file.uri.key.endswith(".tar")]
            if not found:
                raise OssNotFoundError(f"no object under {tar.uri.shown} ends in .tar")
            yield from found

    def _index(self, file: TarFile, stat: ObjectStat, data: bytes | None) -> TarIndex | None:
        place = file.index_uri or file.index_place
        if isinstance(file.index_place, str):
            data = _local_index(file.index_place)
        if data is None:
            return None
        try:
            index = unpack_index(data, stat.size)
            if index.etag and stat.etag and index.etag != stat.etag:
                raise OssTarError("it was made of another tar: the ETag differs")
            if index.details is None:
                self._check_ends(_Opened(file.uri, stat, index), index.bounds)
        except OssTarError as error:
            hint = "make it again by generate_tar_archive(..., index_only=True) (docs/tar.md#packing)"
            raise OssTarError(f"the index {place} can't be used for {file.uri.shown}: {error}; {hint}") from None
        return index

    def _check_ends(self, tar: _Opened, bounds: Sequence[int]) -> None:
        """Raise `OssTarError` unless the first member begins, and the last one ends, where the index says.

        What lies between is checked where a member is read: each must end where the next one begins.
        """
        first = next((entry.start for entry in self._entries(tar, 0, bounds[-1]) if entry.is_member), bounds[-1])
        if first != bounds[0]:
            raise OssTarError(f"the first member begins at byte {first}, not {bounds[0]}")
        behind = next((entry for entry in self._entries(tar, bounds[-1], tar.stat.size) if entry.is_member), None)
        if behind is not None:
            raise OssTarError(f"it lacks a member at byte {behind.start}")

    def _rows(self, tar: _Opened) -> Generator[MemberRow, None, None]:
        index = tar.listed
        if index is None:
            yield from self._scanned(tar)
        elif index.details is not None:
            bounds = zip(index.bounds, index.bounds[1:], strict=False)
            for name, size, (start, stop) in zip(index.details.names, index.details.sizes, bounds, strict=True):
                yield MemberRow(name, size, start, stop)
        else:
            rows = (
                MemberRow("", UNKNOWN_SIZE, *bounds) for bounds in zip(index.bounds, index.bounds[1:], strict=False)
            )
            yield from self._named(tar, rows) if self._names else rows

    def _named(self, tar: _Opened, rows: Iterable[MemberRow]) -> Iterator[MemberRow]:
        """Yield the rows with names and sizes, from the members' headers."""

        async def read(operations: Operations, row: MemberRow) -> MemberRow:
            return await _read_headers(operations, tar, row)

        concurrency = self._client.config.dataset.prefetch_concurrency
        named = self._client.map(read, rows, concurrency=concurrency, workers=1, size=_no_bytes)
        with contextlib.closing(named):
            yield from named

    def _scanned(self, tar: _Opened) -> Generator[MemberRow, None, None]:
        """Yield the rows of a tar without an index; keep one if that is wanted."""
        seen: list[TarEntry] = []
        member: TarEntry | None = None
        stop = 0
        for entry in self._entries(tar, 0, tar.stat.size):
            if entry.is_member:
                if member is not None:
                    yield MemberRow(member.name, member.size, member.start, entry.start)
                member = entry
            if self._keep_index:
                seen.append(entry)
            stop = entry.stop
        if member is not None:
            yield MemberRow(member.name, member.size, member.start, stop)
        if self._keep_index:
            self._keep(tar, seen)

    def _entries(self, tar: _Opened, start: int, stop: int) -> Iterator[TarEntry]:
        """Yield the entries between two positions, from their headers.

        Raises `OssTarError` where the tar is damaged or cut off.
        """
        try:
            with contextlib.closing(scan(self._client, tar.uri, tar.stat, start)) as found:
                yield from itertools.takewhile(lambda entry: entry.start < stop, found)
        except OssTarError as error:
            raise unreadable(tar.uri.shown, error) from None

    def _batch(self, tar: _Opened, rows: Sequence[MemberRow], first: int, cursor: bytes) -> Batch:
        names, sizes, starts, stops = zip(*rows, strict=True)
        places = TarPlaces(tar.uri.path[1:], tar.stat.etag, starts, stops, self._samples)
        numbers = range(first, first + len(rows))
        labels = list(map(folder_around, names)) if self._folders else list(map(str, numbers))
        return Batch("", names, sizes, labels, cursor, places=places)

    def _keep(self, tar: _Opened, seen: list[TarEntry]) -> None:
        place = OssUri(tar.uri.bucket, tar.uri.key + INDEX_SUFFIX)
        try:
            self._client.put(place, pack_index(index_of(seen, tar_size=tar.stat.size, etag=tar.stat.etag)))
        except OssError as error:
            _logger.warning("the index of %s could not be kept: %s", tar.uri.shown, error)


async def _open(operations: Operations, file: TarFile) -> tuple[TarFile, ObjectStat, bytes | None]:
    """Return what OSS says about a tar, and its index if that is in OSS."""
    stat = await operations.head(file.uri)
    place = file.index_uri
    if place is None:
        return file, stat, None
    try:
        found = await operations.get(place, ByteSpan(0, MAX_INDEX_BYTES))
    except OssNotFoundError:
        if file.index_place is not None:
            raise
        return file, stat, None
    if found.stat.size > MAX_INDEX_BYTES:
        raise OssTarError(f"the index {place.shown} has {found.stat.size} bytes: too many for an index")
    return file, stat, found.body


def _local_index(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_INDEX_BYTES + 1)
    except OSError as error:
        raise OssTarError(f"the index {path} can't be opened: {error.strerror}") from error
    if len(data) > MAX_INDEX_BYTES:
        raise OssTarError(f"the index {path} has too many bytes for an index")
    return data


async def _read_headers(operations: Operations, tar: _Opened, row: MemberRow) -> MemberRow:
    """Return a row with name and size; `OssTarError` if there is no member where it should be."""
    try:
        entry, _ = await headers_at(operations, tar.uri, tar.stat, row.start, row.stop)
    except OssTarError as error:
        raise _not_there(tar, row, str(error)) from None
    if entry is None or not entry.is_member or entry.stop > row.stop:
        raise _not_there(tar, row, "no file of the right size begins there")
    return row._replace(name=entry.name, size=entry.size)


def _not_there(tar: _Opened, row: MemberRow, reason: str) -> OssTarError:
    return OssTarError(f"the index is not of {tar.uri.shown}: the member at byte {row.start}: {reason}")


def _no_bytes(_: object) -> int:
    return 0


def _pack_cursor(number: int, done: int, etag: str) -> bytes:
    return f"{number} {done} {etag}".encode()


def _unpack_cursor(cursor: bytes) -> tuple[int, int, str]:
    number, done, etag = (cursor or b"0 0 ").decode().split(" ", 2)
    return int(number), int(done), etag
