"""The public client: ours, with the arguments and methods of 1.2.3."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from ..client.transport.base import TransportFactory
from ..errors import OssNotFoundError, OssUsageError
from ..files.data_object import DataObject
from ..files.reader import OssReader
from ..files.writer import OssWriter
from ..index.info import ObjectInfo
from ..tar.archive import generate_tar_archive
from ..transfer import TransferClient
from ..uri import OssUri, parse_object_uri, parse_uri
from .members import Members, OpenedTars, unread
from .objects import OpenedObject, UnreadObject, WrittenObject

# The `type` of `get_object` that means a member of a tar.
_TAR_MEMBER = 3


class OssClient(TransferClient):
    __doc__ = f"""{(TransferClient.__mro__[1].__doc__ or "").rstrip()}

    It is also a context manager, which closes the client's connections.

    The arguments may be positional, in the order of the C++ connector. Those of its methods are here too, for programs
    that were written for it: `get_object`, `put_object`, `head_object`, `rename_object`, `remove_object`,
    `list_objects`, `list_objects_from_tar` and so on. They take bucket and key apart and return `DataObject`s. `uuid`,
    `id` and `total` have no effect.
    """

    def __init__(
        self,
        endpoint: str,
        cred_path: str = "",
        config_path: str = "",
        uuid: str = "",
        id: int = 0,
        total: int = 1,
        cred_provider: object | None = None,
        region: str = "",
        *,
        anonymous: bool = False,
        transport: Literal["", "direct", "aiohttp"] | TransportFactory = "",
    ) -> None:
        super().__init__(
            endpoint,
            cred_path=cred_path,
            cred_provider=cred_provider,
            config_path=config_path,
            region=region,
            anonymous=anonymous,
            transport=transport,
        )

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        super().__setstate__(state)
        self._tars = OpenedTars()

    # the methods of 1.2.3

    def get_object(self, bucket: str, key: str, size: int = 0, type: int = 0, label: Any = "") -> DataObject:
        """Return an object that is open for reading, with this label.

        The first request is sent when it is read, or when its size is needed: then a missing object raises
        `OssNotFoundError`. `size` has no effect.

        With `type=3`, return the member number `size` of the tar `key`, from 0 on; `label` is the key of the tar's
        index. It is fetched at once, and the tar's index is read only the first time. `OssTarError` if the tar has no
        such member.
        """
        uri = _uri(bucket, key)
        if type == _TAR_MEMBER:
            return self._tars.member(self, uri, _index_uri(bucket, label), size)
        return self._open_object(uri, label)

    def put_object(self, bucket: str, key: str) -> DataObject:
        """Return an object that is open for writing. It is stored by `close`, all at once.

        If the `with` block is left by an exception, or it is never closed, what was there before stays.
        """
        uri = _uri(bucket, key)
        return WrittenObject(OssWriter(self, uri, transfer=self.config.checkpoint), uri)

    def head_object(self, bucket: str, key: str) -> DataObject:
        """Return an object that is open for reading, with its ETag; `OssNotFoundError` if there is none.

        For a folder (there are objects below `key/`), return one of size 0 that can't be read: programs ask whether a
        name is a file or a folder in this way.
        """
        uri = _uri(bucket, key)
        try:
            return OpenedObject(uri, self._reader(uri), etag=self.head(uri).etag)
        except OssNotFoundError as error:
            folder = OssUri(uri.bucket, f"{uri.key.rstrip('/')}/")
            if not self.list_page(folder, max_keys=1).objects:
                raise
            return UnreadObject(uri, error, is_failure=False)

    def rename_object(self, bucket: str, key: str, new_bucket: str, new_key: str) -> None:
        """Copy an object (up to 1 GB) within OSS, then delete the old one: for a moment both exist.

        Raises `OssNotFoundError` if there is no such object. An object at the new place is replaced.
        """
        old, new = _uri(bucket, key), _uri(new_bucket, new_key)
        if old != new:
            self.copy(old, new)
            self.delete(old)

    def remove_object(self, bucket: str, key: str) -> None:
        """Delete an object; one that does not exist counts as deleted."""
        self.delete(_uri(bucket, key))

    def list_objects(self, bucket: str, prefix: str = "") -> Iterator[DataObject]:
        """Iterate over the objects whose keys start with `prefix`, in UTF-8 byte order, open for reading.

        Nothing of them is fetched before they are read. Markers of folders (empty, and the key ends in `/`) are left
        out.
        """
        return (self._open_object(info.uri, "", info.etag) for info in self._infos(bucket, prefix))

    def list_objects_with_preload(
        self, bucket: str, prefix: str = "", include_errors: bool = False
    ) -> Iterator[DataObject]:
        """Do the same as `list_objects`, and fetch the objects ahead, `prefetchConcurrency` requests in flight.

        An object that can't be read raises the error at its place; with `include_errors` a `DataObject` comes there
        whose `err()` is not 0.
        """
        return self._fetched(self._infos(bucket, prefix), include_errors)

    def list_objects_from_uris(
        self, object_uris: Iterable[DataObject | str], prefetch: bool = False, include_errors: bool = False
    ) -> Iterator[DataObject]:
        """Iterate over the objects that are named, in this order, open for reading, with the labels given.

        `object_uris` are made by `new_data_object`, or texts. With `prefetch` they are fetched ahead, and
        `include_errors` is as for `list_objects_with_preload`; without, a missing object raises `OssNotFoundError` when
        it is read.
        """
        if isinstance(object_uris, str):
            raise OssUsageError(f"object_uris: several URIs are wanted, not the one text {object_uris!r}")
        infos = (_named(given) for given in object_uris)
        if prefetch:
            return self._fetched(infos, include_errors)
        return (self._open_object(info.uri, info.label) for info in infos)

    def list_objects_from_uris_with_preload(
        self, object_uris: Iterable[DataObject | str], include_errors: bool = False
    ) -> Iterator[DataObject]:
        """Do the same as `list_objects_from_uris` with `prefetch`."""
        return self.list_objects_from_uris(object_uris, True, include_errors)

    def list_objects_from_tar(
        self,
        bucket: str,
        tar_key: str,
        index_key: str,
        chunks: Sequence[int] = (),
        sizes: Sequence[int] = (),
        prefetch: bool = False,
        include_errors: bool = False,
    ) -> Iterator[DataObject]:
        """Iterate over members of a tar, open for reading, fetched ahead with their neighbours.

        Without `chunks`, over all in their order. `chunks` are members' numbers, from 0 on. `sizes` has a
        count for each number: that member and those behind it, up to the tar's end. `index_key` is the tar's index; ""
        if it is `NAME.tar.idx` beside the tar, or if there is none and the tar's headers are to be read.

        A member that can't be read, or that the tar does not have, raises the error at its place; with `include_errors`
        a `DataObject` comes there whose `err()` is not 0. `prefetch` has no effect.
        """
        wanted = Members(chunks, sizes)
        return self._tars.members(self, _uri(bucket, tar_key), _index_uri(bucket, index_key), wanted, include_errors)

    def gen_tar_archive(self, tar_path: str, index_path: str, source_path: str, index_only: bool = False) -> int:
        """Pack objects or files into a tar with an index, as `generate_tar_archive` does; return 0."""
        return generate_tar_archive(self, "", "", tar_path, index_path, source_path, index_only)

    def _infos(self, bucket: str, prefix: str) -> Iterator[ObjectInfo]:
        for found in self.list(parse_uri(f"/{bucket}/{prefix}")):
            if found.size or not found.key.endswith("/"):
                yield ObjectInfo(OssUri(bucket, found.key), found.size, etag=found.etag)

    def _fetched(self, infos: Iterable[ObjectInfo], include_errors: bool) -> Iterator[DataObject]:
        from ..datapipes.fetcher import fetch  # imports torch

        return fetch(self, infos, skip=unread if include_errors else None)

    def _open_object(self, uri: OssUri, label: Any, etag: str = "") -> DataObject:
        return OpenedObject(uri, self._reader(uri), label=label, etag=etag)

    def _reader(self, uri: OssUri) -> OssReader:
        return OssReader(self, uri, transfer=self.config.dataset)


def _uri(bucket: str, key: str) -> OssUri:
    return parse_object_uri(f"/{bucket}/{key}")


def _index_uri(bucket: str, key: str) -> OssUri | None:
    return _uri(bucket, key) if key else None


def _named(given: DataObject | str) -> ObjectInfo:
    if isinstance(given, DataObject):
        return ObjectInfo(parse_object_uri(given.key), label=given.label)
    return ObjectInfo(parse_object_uri(given))
