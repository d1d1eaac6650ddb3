"""Members of tars by their numbers, as the methods of 1.2.3 ask for them."""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterable, Iterator, Sequence

from ..client.client import OssClient
from ..errors import OssError, OssObjectChangedError, OssTarError, OssUsageError
from ..files.data_object import DataObject
from ..index.info import ObjectInfo
from ..index.shared import SharedIndex
from ..tar.listing import TarFile, TarListing
from ..uri import MemberUri, OssUri
from .objects import UnreadObject

_KEPT_TARS = 16


class Members:
    """Which members are wanted: those of these numbers, or `sizes` members from each on; all without numbers.

    Raises `OssUsageError` for a negative number, or if there are not as many sizes as numbers.
    """

    def __init__(self, chunks: Sequence[int], sizes: Sequence[int]) -> None:
        if sizes and len(sizes) != len(chunks):
            raise OssUsageError(f"sizes: {len(sizes)} are given, and {len(chunks)} chunks")
        if any(number < 0 for number in itertools.chain(chunks, sizes)):
            raise OssUsageError("chunks and sizes: a negative number is none of a member")
        self._chunks, self._sizes = tuple(chunks), tuple(sizes)

    def numbers(self, count: int) -> Iterator[int]:
        """Yield the numbers, of a tar that has `count` members. Those past the end are yielded where they are named."""
        if not self._chunks:
            yield from range(count)
        elif not self._sizes:
            yield from self._chunks
        else:
            for first, size in zip(self._chunks, self._sizes, strict=True):
                yield from range(first, min(first + size, max(count, first + 1)))


class OpenedTars:
    """The tars that a client has given members of, with what their indexes tell, so that it is read only once."""

    def __init__(self) -> None:
        self._tables: dict[tuple[OssUri, OssUri | None], SharedIndex] = {}

    def member(self, client: OssClient, tar: OssUri, index: OssUri | None, number: int) -> DataObject:
        """Return one member. If the tar was replaced since its index was read, the index is read again."""
        table = self._tables.get((tar, index))
        wanted = Members([number], [])
        if table is not None:
            try:
                return next(_fetched(client, tar, table, wanted, include_errors=False))
            except OssObjectChangedError:
                pass
        return next(self.members(client, tar, index, wanted, include_errors=False))

    def members(
        self, client: OssClient, tar: OssUri, index: OssUri | None, wanted: Members, include_errors: bool
    ) -> Generator[DataObject, None, None]:
        """Yield members, by an index that is read now."""
        table = SharedIndex(TarListing(client, (TarFile(tar, index),)), folder=client.config.index_dir)
        self._tables.pop((tar, index), None)
        self._tables[tar, index] = table
        if len(self._tables) > _KEPT_TARS:
            self._tables.pop(next(iter(self._tables)), None)
        yield from _fetched(client, tar, table, wanted, include_errors)


def _fetched(
    client: OssClient, tar: OssUri, table: SharedIndex, wanted: Members, include_errors: bool
) -> Generator[DataObject, None, None]:
    from ..datapipes.fetcher import fetch  # imports torch

    count = table.count()
    for is_there, group in itertools.groupby(wanted.numbers(count), key=lambda number: number < count):
        if is_there:
            yield from fetch(client, table.at(group), skip=unread if include_errors else None)
        elif include_errors:
            yield from _missing(tar, group, count)
        else:
            raise _no_member(tar, next(group), count)


def _missing(tar: OssUri, numbers: Iterable[int], count: int) -> Iterator[DataObject]:
    for number in numbers:
        uri = MemberUri(tar.bucket, str(number), tar.key, 0, 0)
        yield UnreadObject(uri, _no_member(tar, number, count), label=str(number))


def _no_member(tar: OssUri, number: int, count: int) -> OssTarError:
    return OssTarError(f"{tar.shown} has no member {number}: there are {count}, and they are counted from 0")


def unread(info: ObjectInfo, error: OssError) -> DataObject:
    """Return the object that stands in the place of one that could not be read."""
    return UnreadObject(info.uri, error, label=info.label)
