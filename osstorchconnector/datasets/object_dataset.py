"""Where a dataset's objects come from: the constructors that both kinds of dataset have."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import wait
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from ..client.client import OssClient, as_client
from ..client.operations import Operations
from ..datapipes.fetcher import checked_transform, identity
from ..datapipes.lister import OssObjectLister, OssObjectNames
from ..datapipes.manifest import ManifestParser, OssManifestParser
from ..datapipes.numbered_objects import NumberedObjects
from ..datapipes.saved import OssSavedObjects, save_index
from ..datapipes.tar_lister import GroupBy, OssTarLister
from ..errors import OssConfigError
from ..files.data_object import DataObject
from ..index.classes import LabelNumbers
from ..index.filters import Filter
from ..index.info import ObjectInfo
from ..index.labels import LabelSource
from ..index.shared import ObjectIndex
from ..protocol.values import Download
from ..uri import MemberUri, OssUri
from .shown import ROWS, Facts, line, page, pictures_of

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ..datapipes.fetcher import OnError
    from ..index.orders import RankBalance

Transform = Callable[[DataObject], Any]

PICTURE_SECONDS = 2.0


class ObjectDataset:
    """Where the objects come from: one of the `from_` methods. All of them take:

    endpoint: str | OssClient
        OSS's endpoint, or a client, which then replaces the access settings below.
    cred_path, cred_provider, anonymous, config_path, region
        Access settings, as for `OssClient`.
    transform: function of a `DataObject`
        Makes the item. An error that it raises arrives as an `OssTransformError` that names the object.
    filter: str | several str | range | function of an `ObjectInfo` = None
        Selects objects before they are fetched: by a suffix, several of them, a range of sizes in bytes, or a function.
    options
        Those of the class. Here they are typed for `OssIterableDataset`; `OssMapDataset` declares its own.
    """

    def __init__(self, objects: NumberedObjects, client: OssClient, transform: Transform = identity) -> None:
        assert objects.index is not None
        self._objects, self._index = objects, objects.index
        self._numbers_of_labels: LabelNumbers | None = None
        self._client, self._transform = client, checked_transform(transform)

    @classmethod
    def from_prefix(
        cls,
        oss_uri: str | Iterable[str],
        endpoint: str | OssClient,
        *,
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        transform: Transform = identity,
        region: str = "",
        anonymous: bool = False,
        keep_folder_markers: bool = False,
        allow_empty: bool = False,
        filter: Filter = None,
        labels: LabelSource = "",
        **options: Unpack[StreamOptions],
    ) -> Self:
        """Create a dataset of all objects whose URIs start with `oss_uri`, in OSS's order; or with several prefixes.

        They are listed once, at first use, for all processes and epochs. Markers of folders (the key ends in `/`, the
        object is empty) are left out and counted in `skipped_folder_markers`, unless `keep_folder_markers` is set. At
        first use, a prefix without objects raises `OssNotFoundError`, which suggests a prefix, unless `allow_empty` is
        set.

        With `labels="folders"`, `oss_uri` is a folder, and an object's label is the number of the first folder below it
        that the object is in: `train/cat/1.jpg` has the number of `cat`. Folders are numbered from 0, in sorted order,
        as torchvision's `ImageFolder` does; `classes` has their names. Objects outside of folders are left out, with a
        warning. The first object comes when all are listed. At first use, `OssNotFoundError` if there is no folder.
        """
        client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)
        lister = OssObjectLister(
            _several("oss_uri", oss_uri),
            client,
            keep_folder_markers=keep_folder_markers,
            allow_empty=allow_empty,
            filter=filter,
            labels=labels,
        )
        return cls._of(lister, client, transform, options)

    @classmethod
    def from_objects(
        cls,
        object_uris: str | Iterable[str],
        endpoint: str | OssClient,
        *,
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        transform: Transform = identity,
        region: str = "",
        anonymous: bool = False,
        filter: Filter = None,
        **options: Unpack[StreamOptions],
    ) -> Self:
        """Create a dataset of the objects `object_uris`, in this order; nothing is listed. Raises `OssUriError`."""
        client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)
        names = OssObjectNames(object_uris, filter=filter, folder=client.config.index_dir)
        return cls._of(names, client, transform, options)

    @classmethod
    def from_manifest_file(
        cls,
        manifest_file_path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        manifest_parser: ManifestParser,
        oss_base_uri: str,
        endpoint: str | OssClient,
        *,
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        transform: Transform = identity,
        region: str = "",
        anonymous: bool = False,
        filter: Filter = None,
        labels: LabelSource = "",
        **options: Unpack[StreamOptions],
    ) -> Self:
        """Create a dataset of the objects that a manifest names, with their labels, in its order; or several manifests.

        A manifest is a local file or an `oss://bucket/key`. `manifest_parser` gets it as a binary file and yields
        (key, label); the object's URI is `oss_base_uri + key`. It is parsed once, at first use, for all processes and
        epochs. An entry that names no object raises `OssManifestError` with file and entry number, at first use. With
        `labels="folders"`, the first folder in a key takes the place of the label, as for `from_prefix`.
        """
        client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)
        manifests = _several("manifest_file_path", manifest_file_path)
        parser = OssManifestParser(manifests, manifest_parser, oss_base_uri, client, filter=filter, labels=labels)
        return cls._of(parser, client, transform, options)

    @classmethod
    def from_index(
        cls,
        index_uri: str | os.PathLike[str],
        endpoint: str | OssClient,
        *,
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        transform: Transform = identity,
        region: str = "",
        anonymous: bool = False,
        filter: Filter = None,
        **options: Unpack[StreamOptions],
    ) -> Self:
        """Create a dataset from an index that `save_index` has stored, in a local file or an `oss://bucket/key`.

        Nothing is listed, and no manifest is parsed. Labels and `classes` are read as they were saved. Labels that are
        not plain values (numbers, texts, lists and dictionaries of them) are refused, because loading them could run
        code.
        """
        client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)
        return cls._of(OssSavedObjects(index_uri, client, filter=filter), client, transform, options)

    @classmethod
    def from_tar(
        cls,
        tar_uri: str | Iterable[str | tuple[str, str | None]],
        tar_index_uri: str | os.PathLike[str] | Iterable[str | None] | None,
        endpoint: str | OssClient,
        *,
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        transform: Transform = identity,
        region: str = "",
        anonymous: bool = False,
        filter: Filter = None,
        labels: LabelSource = "",
        group_by: GroupBy = "",
        keep_index: bool = False,
        **options: Unpack[StreamOptions],
    ) -> Self:
        """Create a dataset of the members of a tar, in its order, or of several tars.

        `tar_uri` is `oss://bucket/name.tar`, a prefix that ends in `/` (all below it that end in `.tar`), several of
        both, or pairs of a tar and its index. `tar_index_uri` is the index, as `generate_tar_archive` writes it, in OSS
        or in a local file; several for several tars. With `None` it is `NAME.tar.idx` beside the tar; if that is not
        there, the headers of the tar are read instead, and `keep_index=True` stores an index there.

        A member is a `DataObject`: `key` is its name in the tar, `label` its number in the tar as text, `etag` that of
        the tar. With `labels="folders"`, the label is the number of the folder that holds the member, numbered as for
        `from_prefix`: `cat` for `train/cat/1.jpg`. Only regular files are members. With `group_by="basename"`,
        neighbours whose names differ only behind the first dot are one sample: a dictionary of `DataObject`s by what
        they have behind it (`{"jpg": ..., "json": ...}`).

        Neighbours are fetched together. At first use, and where a member is read, it raises `OssTarError` if the tar is
        damaged, cut off or compressed, or if the index is of another tar.
        """
        client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)
        lister = OssTarLister(
            tar_uri,
            client,
            indexes=tar_index_uri,
            group_by=group_by,
            keep_index=keep_index,
            filter=filter,
            labels=labels,
        )
        return cls._of(lister, client, transform, options)

    def __repr__(self) -> str:
        return line(self._facts())

    def _repr_html_(self) -> str:
        """Return a table of the first objects that are known, with pictures among them, for notebooks.

        Lists nothing. Fetches at most eight small pictures, 1 MiB in all, and leaves out what has not come in 2 s.
        """
        facts, index = self._facts(), self._present_index
        rows = [index.info(number) for number in range(min(facts.objects, ROWS))]
        return page(facts, rows, self._pictures(rows))

    def _facts(self) -> Facts:
        count, is_complete = self._present_index.known()
        kind = type(self).__name__
        return Facts(kind, self._objects.where, count, is_complete, self._labels.known_classes, self._notes())

    def _notes(self) -> list[str]:
        """Return what else a person wants to know of this kind of dataset."""
        return []

    def _pictures(self, rows: Sequence[ObjectInfo]) -> dict[int, bytes]:
        """Return the bytes of pictures among objects, by number; those that can't be had soon are left out."""
        wanted = [row for row in pictures_of(rows) if not isinstance(row.uri, MemberUri)]
        begun = {
            self._client.submit(partial(_fetched, row.uri)): number for number, row in enumerate(rows) if row in wanted
        }
        done, late = wait(begun, timeout=PICTURE_SECONDS)
        for future in late:
            future.cancel()
        return {begun[future]: future.result().body for future in done if future.exception() is None}

    @property
    def _present_index(self) -> ObjectIndex:
        """The table of the present epoch."""
        return self._index

    @property
    def _labels(self) -> LabelNumbers:
        index, known = self._present_index, self._numbers_of_labels
        if known is None or known.index is not index:
            self._numbers_of_labels = known = LabelNumbers(index)
        return known

    @classmethod
    def _of(cls, objects: NumberedObjects, client: OssClient, transform: Transform, options: StreamOptions) -> Self:
        make: Callable[..., Self] = cls  # each class refuses the options that it does not have
        return make(objects, client, transform, **options)

    @property
    def classes(self) -> list[Any]:
        """The labels of all objects, each once, sorted; with `labels="folders"` the names of the folders.

        Waits until the listing is complete, and fetches nothing, as do `class_to_idx` and `targets`. All three raise
        `OssUsageError` if an object has no label, and for labels that are neither texts nor whole numbers.
        """
        return self._labels.classes

    @property
    def class_to_idx(self) -> dict[Any, int]:
        """The number of each of `classes`, as in `targets`: its place in `classes`.

        A label that is a whole number, or a text of digits, has that number instead.
        """
        return self._labels.class_to_idx

    @property
    def targets(self) -> list[int]:
        """The number of each object's class, for samplers: by the object's number, in the order of the listing."""
        return self._labels.targets

    def keys(self) -> Iterator[str]:
        """Yield the `key` of each object, in the order of the listing, as soon as it is listed; nothing is fetched."""
        return (info.uri.path for info in self._present_index.items())

    def sizes(self) -> Iterator[int | None]:
        """Yield the size of each object in bytes, in the order of `keys`; None if it is not known before a request.

        Listings and indexes of tars tell sizes; names and manifests don't.
        """
        return (info.size for info in self._present_index.items())

    def save_index(self, index_uri: str | os.PathLike[str]) -> None:
        """Store the table of objects for `from_index`, in a local file or an `oss://bucket/key`, when it is complete.

        A later job that uses it needs no listing, and has the same objects in the same order.
        """
        save_index(self._index, index_uri, self._client)

    @property
    def retries(self) -> int:
        """The number of requests that the dataset's client has repeated so far, in this process and its workers."""
        return self._client.retries

    @property
    def skipped_folder_markers(self) -> int:
        """The number of folder markers that the listing has left out so far."""
        return self._index.skipped()


async def _fetched(uri: OssUri, operations: Operations) -> Download:
    return await operations.get(uri)


def _several(name: str, given: object) -> list[Any]:
    """Return one or several prefixes or manifests as a list; `OssConfigError` for none."""
    found = list(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else [given]
    if not found:
        raise OssConfigError(f"{name}: an empty list; name one or several")
    return found


class SourceOptions(TypedDict, total=False):
    """What all constructors take, as their docstring says."""

    cred_path: str
    cred_provider: object | None
    config_path: str
    transform: Transform
    region: str
    filter: Filter
    on_error: OnError


class StreamOptions(TypedDict, total=False):
    """What `OssIterableDataset` takes; another option is a `TypeError` that names it."""

    on_error: OnError
    shuffle: bool | Literal["chunks"]
    shuffle_chunk_size: int
    seed: int
    shard_ranks: bool | None
    even: RankBalance
    relist: Literal["never", "epoch"]
    in_order: bool
