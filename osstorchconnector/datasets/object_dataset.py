"""Where a dataset's objects come from: the constructors that both kinds of dataset have."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from ..client.client import OssClient, as_client
from ..datapipes.fetcher import checked_transform, identity
from ..datapipes.lister import OssObjectLister, OssObjectNames
from ..datapipes.manifest import ManifestParser, OssManifestParser
from ..datapipes.numbered_objects import NumberedObjects
from ..datapipes.saved import OssSavedObjects, save_index
from ..datapipes.tar_lister import GroupBy, OssTarLister
from ..errors import OssConfigError
from ..files.data_object import DataObject
from ..index.orders import Filter

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ..datapipes.fetcher import OnError
    from ..index.orders import RankBalance

Transform = Callable[[DataObject], Any]


class ObjectDataset:
    """Where the objects come from: one of the `from_` methods. All of them take:

    endpoint: str | OssClient
        OSS's endpoint, or a client, which then replaces the access settings below.
    cred_path, cred_provider, config_path, region
        Access settings, as for `OssClient`.
    transform: function of a `DataObject`
        Makes the item. An error that it raises arrives as an `OssTransformError` that names the object.
    filter: str | several str | range | function of an `ObjectInfo` = None
        Selects objects before they are fetched: by a suffix, several of them, a range of sizes in bytes, or a function.
    options
        Those of the class.
    """

    def __init__(self, objects: NumberedObjects, client: OssClient, transform: Transform = identity) -> None:
        assert objects.index is not None
        self._objects, self._index = objects, objects.index
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
        keep_folder_markers: bool = False,
        allow_empty: bool = False,
        filter: Filter = None,
        **options: Unpack[DatasetOptions],
    ) -> Self:
        """Create a dataset of all objects whose URIs start with `oss_uri`, in OSS's order; or with several prefixes.

        They are listed once, at first use, for all processes and epochs. Markers of folders (the key ends in `/`, the
        object is empty) are left out and counted in `skipped_folder_markers`, unless `keep_folder_markers` is set. At
        first use, a prefix without objects raises `OssNotFoundError`, which suggests a prefix, unless `allow_empty` is
        set.
        """
        client = as_client(
            endpoint, cred_path=cred_path, cred_provider=cred_provider, config_path=config_path, region=region
        )
        lister = OssObjectLister(
            _several("oss_uri", oss_uri),
            client,
            keep_folder_markers=keep_folder_markers,
            allow_empty=allow_empty,
            filter=filter,
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
        filter: Filter = None,
        **options: Unpack[DatasetOptions],
    ) -> Self:
        """Create a dataset of the objects `object_uris`, in this order; nothing is listed. Raises `OssUriError`."""
        client = as_client(
            endpoint, cred_path=cred_path, cred_provider=cred_provider, config_path=config_path, region=region
        )
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
        filter: Filter = None,
        **options: Unpack[DatasetOptions],
    ) -> Self:
        """Create a dataset of the objects that a manifest names, with their labels, in its order; or several manifests.

        A manifest is a local file or an `oss://bucket/key`. `manifest_parser` gets it as a binary file and yields
        (key, label); the object's URI is `oss_base_uri + key`. It is parsed once, at first use, for all processes and
        epochs. An entry that names no object raises `OssManifestError` with file and entry number, at first use.
        """
        client = as_client(
            endpoint, cred_path=cred_path, cred_provider=cred_provider, config_path=config_path, region=region
        )
        manifests = _several("manifest_file_path", manifest_file_path)
        parser = OssManifestParser(manifests, manifest_parser, oss_base_uri, client, filter=filter)
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
        filter: Filter = None,
        **options: Unpack[DatasetOptions],
    ) -> Self:
        """Create a dataset from an index that `save_index` has stored, in a local file or an `oss://bucket/key`.

        Nothing is listed, and no manifest is parsed. Labels are read as they were saved. Those that are not plain
        values (numbers, texts, lists and dictionaries of them) are refused, because loading them could run code.
        """
        client = as_client(
            endpoint, cred_path=cred_path, cred_provider=cred_provider, config_path=config_path, region=region
        )
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
        filter: Filter = None,
        group_by: GroupBy = "",
        keep_index: bool = False,
        **options: Unpack[DatasetOptions],
    ) -> Self:
        """Create a dataset of the members of a tar, in its order, or of several tars.

        `tar_uri` is `oss://bucket/name.tar`, a prefix that ends in `/` (all below it that end in `.tar`), several of
        both, or pairs of a tar and its index. `tar_index_uri` is the index, as `generate_tar_archive` writes it, in OSS
        or in a local file; several for several tars. With `None` it is `NAME.tar.idx` beside the tar; if that is not
        there, the headers of the tar are read instead, and `keep_index=True` stores an index there.

        A member is a `DataObject`: `key` is its name in the tar, `label` its number in the tar as text, `etag` that of
        the tar. Only regular files are members. With `group_by="basename"`, neighbours whose names differ only behind
        the first dot are one sample: a dictionary of `DataObject`s by what they have behind it
        (`{"jpg": ..., "json": ...}`).

        Neighbours are fetched together. At first use, and where a member is read, it raises `OssTarError` if the tar is
        damaged, cut off or compressed, or if the index is of another tar.
        """
        client = as_client(
            endpoint, cred_path=cred_path, cred_provider=cred_provider, config_path=config_path, region=region
        )
        lister = OssTarLister(
            tar_uri, client, indexes=tar_index_uri, group_by=group_by, keep_index=keep_index, filter=filter
        )
        return cls._of(lister, client, transform, options)

    @classmethod
    def _of(cls, objects: NumberedObjects, client: OssClient, transform: Transform, options: DatasetOptions) -> Self:
        make: Callable[..., Self] = cls  # each class refuses the options that it does not have
        return make(objects, client, transform, **options)

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


def _several(name: str, given: object) -> list[Any]:
    """Return one or several prefixes or manifests as a list; `OssConfigError` for none."""
    found = list(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else [given]
    if not found:
        raise OssConfigError(f"{name}: an empty list; name one or several")
    return found


class DatasetOptions(TypedDict, total=False):
    """Each class takes those that its docstring names, and refuses others with a `TypeError` that names them."""

    # of both
    on_error: OnError
    # of OssIterableDataset
    shuffle: bool | Literal["chunks"]
    shuffle_chunk_size: int
    seed: int
    shard_ranks: bool | None
    even: RankBalance
    relist: Literal["never", "epoch"]
    in_order: bool
    # of OssMapDataset
    share_listing: bool
