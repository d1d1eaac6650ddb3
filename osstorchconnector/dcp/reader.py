"""Loading: torch's `StorageReader` on OSS."""

from __future__ import annotations

import dataclasses
import logging
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

import torch.distributed as dist
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, TensorStorageMetadata
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from ..client.client import OssClient
from ..client.engine import engine
from ..errors import OssConfigError, OssError, OssIntegrityError, OssNotFoundError, OssObjectChangedError
from ..tensors.isolation import CollectionPause, garbage_collection_paused, outside_contexts
from ..uri import OssUri
from .allowed import AllowList
from .load_item import LoadContext, LoadItem, StoredItem
from .loading import RankLoad, open_ahead
from .storage import Access, HasClient, HasFolder, Progress, ProgressCallback, summary
from .torch_dcp import ExtensionRegistry, StorageMeta

_logger = logging.getLogger(__name__)

DEFAULT_MEMORY_BYTES = 96 << 20
# A stated length is checked against the file if it exceeds the request by more than this.
TRUSTED_BYTES = 64 << 20
# How many times a load starts over because another save has replaced the checkpoint.
MOST_REPLACEMENTS = 4
# For so long at most garbage collection stays paused between the metadata and the load.
MOST_PLANNING_SECONDS = 1.0


class ReaderOptions(TypedDict, total=False):
    """Options of `OssStorageReader`, without its location and credentials."""

    weights_only: bool
    safe_types: Iterable[Any]
    memory_bytes: int
    extension_registry: ExtensionRegistry | None
    progress: ProgressCallback | bool | None


class OssStorageReader(HasFolder, StorageReader):
    """Reads distributed checkpoints from `oss://bucket/prefix`, written by this library or by torch's own writers.

        reader = OssStorageReader("oss://bucket/ckpt/step-100", endpoint=ENDPOINT, region=REGION)
        dcp.load(state, storage_reader=reader)

    Each rank fetches only the bytes that it needs, in parallel. The bytes of a large tensor go directly into the
    tensor's memory. An item that is read completely is checked against the CRC-32 that was stored with it, and a file
    that is read completely against the CRC-64 that OSS has. A checkpoint can't run code: objects that are not tensors,
    and the metadata, may contain only harmless types (containers and values of Python, numpy and torch).

    Arguments:
        fs, path: an `OssDCPFileSystem` (or `OssClient`) and the checkpoint; or the checkpoint alone, with `endpoint`.
        endpoint: OSS's endpoint, or an `OssClient`; with a client do not give the next four. With "", local files.
        cred_path, cred_provider, anonymous, config_path, region: credentials and settings, as for `OssClient`.
        weights_only: False allows any class or function in the checkpoint's pickles. These can run code: use it only
            for checkpoints that you trust.
        safe_types: more classes (with their own class and static methods) and functions that objects and the metadata
            may contain; or pairs of one and its full name.
        memory_bytes: about how many bytes the load may hold besides the target tensors.
        extension_registry: torch's registry, for items that were saved with extensions.
        progress: True for a tqdm bar, or a callable that gets the number of bytes done and the total.

    Errors, raised here or by `dcp.load` (which wraps them in a `CheckpointException`):
        OssConfigError: no checkpoint or no endpoint was named.
        OssUsageError: a safe type is neither a class nor a function.
        OssNotFoundError: there is no checkpoint. The text says so if a save there did not finish.
        OssIntegrityError: data or metadata is damaged, or the data does not match the metadata.
        UnsafePickleError: a pickle names a class or function that is not allowed.
        OssObjectChangedError: another save replaced the checkpoint during the load, and the load could not start over.
        Other `OssError`s: a request failed after all retries.

    You do not call most of these methods; torch does, in this order. On every rank: [reset,] read_metadata,
    set_up_storage_reader, prepare_local_plan, read_data. On the coordinator also prepare_global_plan before read_data.
    """

    def __init__(
        self,
        fs: HasClient | OssClient | str | os.PathLike[str] | None = None,
        path: str | os.PathLike[str] | None = None,
        *,
        endpoint: str | OssClient | None = None,
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        region: str = "",
        anonymous: bool = False,
        weights_only: bool = True,
        safe_types: Iterable[Any] = (),
        memory_bytes: int = DEFAULT_MEMORY_BYTES,
        extension_registry: ExtensionRegistry | None = None,
        progress: ProgressCallback | bool | None = None,
    ) -> None:
        super().__init__()
        self._open(fs, path, Access(endpoint, cred_path, cred_provider, config_path, region, anonymous))
        self._allowed = AllowList(safe_types) if weights_only else None
        self._memory_bytes = memory_bytes
        self._registry = extension_registry or ExtensionRegistry()
        self._progress = progress
        self._load_id = str(uuid.uuid4())
        self._metadata: Metadata | None = None
        self._rank, self._etag = None, ""  # whose metadata was read, and which
        self._unreadable: OssError | None = None  # why the checkpoint's metadata, which may be there, was not read
        self._planning: CollectionPause | None = None

    # the order of calls

    def reset(self, checkpoint_id: str | os.PathLike[str] | None = None) -> None:
        """Prepare for another load, of `checkpoint_id` if it is given."""
        self._metadata = self._unreadable = None
        self._move(checkpoint_id)
        self._load_id = str(uuid.uuid4())

    @outside_contexts
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return the checkpoint's metadata, or with `rank=` the metadata of that rank alone.

        Raises `OssNotFoundError` if there is none, and `OssIntegrityError` or `UnsafePickleError` if it can't be read.
        """
        # After any error torch asks again, for the rank's own metadata. If the first error was that the metadata is
        # there and can't be read, raise that error again.
        rank, unreadable = kwargs.get("rank"), self._unreadable
        self._unreadable = None
        if rank is not None and unreadable is not None:
            raise unreadable
        open_ahead(self._folder.client, self._folder.uri.bucket)
        self._end_planning()
        pause = CollectionPause()
        try:
            metadata, self._etag = self._folder.read_metadata(rank, self._allowed)
            end_soon(pause)
            self._planning = pause
        except OssNotFoundError:
            raise
        except OssError as error:
            _logger.error("the metadata of %s can't be read: %s", self._folder.id, error)
            self._unreadable = error if rank is None else None
            raise
        finally:
            if self._planning is None:
                pause.end()
        self._rank = rank
        described = getattr(metadata, "storage_meta", None) or StorageMeta()
        described.load_id = self._load_id
        metadata.storage_meta = described
        return metadata

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Begin a load of the checkpoint that `metadata` describes; torch calls this on every rank."""
        self._metadata = metadata

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Return this rank's plan; it also records which version of the metadata the rank has read."""
        return dataclasses.replace(plan, storage_data=_Read(self._etag)) if self._rank is None else plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Return the plans of all ranks; on the coordinator.

        Raises `OssObjectChangedError` if the ranks have read different metadata, because a save came between them.
        """
        read = {plan.storage_data for plan in plans if isinstance(plan.storage_data, _Read)}
        if len(read) > 1:
            raise OssObjectChangedError(f"{self._replaced()}: its ranks have read different metadata. Load it again")
        if len(plans) > 1:
            return [dataclasses.replace(plan, storage_data=_Read(self._etag, len(plans))) for plan in plans]
        return plans

    @outside_contexts
    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Load the tensors and objects of this rank's plan. Returns a completed future.

        If a save replaced the checkpoint during the load, and removed data of the old one, this loads the new one
        from the beginning. It raises `OssObjectChangedError` if it can't do that, because other ranks may have loaded
        the old one or the new one has other contents. For other errors see the class.
        """
        context = LoadContext(planner, self._registry, self._allowed)
        ranks = plan.storage_data.ranks if isinstance(plan.storage_data, _Read) else _world_size()
        with garbage_collection_paused():
            self._end_planning()
            for may_follow in range(MOST_REPLACEMENTS, -1, -1):
                try:
                    self._load(self._items(plan, context))
                    break
                except (OssNotFoundError, OssObjectChangedError) as error:
                    if not may_follow:
                        raise
                    self._follow(error, ranks)
        future: Future[None] = Future()
        future.set_result(None)
        return future

    # the steps

    def _end_planning(self) -> None:
        if self._planning is not None:
            self._planning.end()
            self._planning = None

    def _follow(self, error: OssError, ranks: int) -> None:
        """Go over to the checkpoint that has taken the place of the one that is loaded; raise `error` if none has."""
        if self._metadata is None or not self._etag:
            raise error
        metadata, etag = self._folder.read_metadata(self._rank, self._allowed)
        if etag == self._etag:
            raise error
        if ranks > 1 and self._rank is None:
            raise OssObjectChangedError(f"{self._replaced()} by {ranks} ranks: load it again ({error})") from error
        if metadata.state_dict_metadata != self._metadata.state_dict_metadata:
            raise OssObjectChangedError(
                f"{self._replaced()} by one of other contents: load it again ({error})"
            ) from error
        _logger.info("%s, so all of the new one is loaded (%s)", self._replaced(), error)
        self._metadata, self._etag = metadata, etag

    def _replaced(self) -> str:
        return f"{self._folder.id} was replaced by another save while it was loaded"

    def _load(self, items: Mapping[OssUri, list[LoadItem]]) -> None:
        load = RankLoad(self.client, items, memory_bytes=self._memory_bytes)
        retries = self.client.retries
        progress = Progress(self._progress, f"load {self._folder.id}", load.total_bytes)
        try:
            load.run(progress.reach)
        except BaseException:
            progress.close()
            raise
        progress.end()
        summed_up = summary(load.total_bytes, progress.seconds, self.client.retries - retries)
        _logger.info("loaded %s: %s", self._folder.id, summed_up)

    def _items(self, plan: LoadPlan, context: LoadContext) -> dict[OssUri, list[LoadItem]]:
        """Return the items of a plan by file, in the plan's order."""
        table = _TableOfContents(self._metadata, self._folder.member)
        items: dict[OssUri, list[LoadItem]] = {}
        sizes: dict[OssUri, int] = {}
        # Neighbours are mostly in one file, and the table has one URI for each: it need not be looked up again.
        uri, of_file = None, list[LoadItem]()
        for request in plan.items:
            stored = table.stored(request)
            if stored.length > TRUSTED_BYTES and stored.length > _asked_bytes(request, stored) + TRUSTED_BYTES:
                self._check_end(stored, sizes)
            if stored.uri is not uri:
                uri = stored.uri
                of_file = items.setdefault(uri, [])
            of_file.append(LoadItem(request, stored, context))
        return items

    def _check_end(self, stored: StoredItem, sizes: dict[OssUri, int]) -> None:
        """Raise unless the file is as long as the metadata says: ranges of what is not there would take all memory."""
        if stored.uri not in sizes:
            sizes[stored.uri] = self.client.head(stored.uri).size
        if stored.start + stored.length > sizes[stored.uri]:
            raise OssIntegrityError(
                f"the metadata says that {stored.where} ends at byte {stored.start + stored.length} of a file of "
                f"{sizes[stored.uri]} bytes"
            )


@dataclasses.dataclass(frozen=True)
class _Read:
    """Travels in plans: the ETag of the metadata that a rank has read, and how many ranks load together."""

    etag: str
    ranks: int = 1


def end_soon(pause: CollectionPause) -> None:
    """Have a pause end after `MOST_PLANNING_SECONDS`, if it has not ended before.

    Between the metadata and the load, torch plans. A plan of thousands of tensors creates many objects, and Python
    would look for garbage among all objects of the process. `read_data` ends the pause. If the plan fails, torch does
    not tell the reader, so this timer ends it.
    """
    thread = engine.threads(1)[0]
    thread.call(thread.loop.call_later, MOST_PLANNING_SECONDS, pause.end)


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _asked_bytes(request: ReadItem, stored: StoredItem) -> int:
    return request.lengths.numel() * stored.dtype.itemsize if stored.dtype is not None else 0


class _TableOfContents:
    """What the metadata says of the items of a plan. `member` returns the object that the metadata calls a name."""

    def __init__(self, metadata: Metadata | None, member: Callable[[str], OssUri]) -> None:
        if metadata is None:
            raise OssConfigError("read_data before set_up_storage_reader: there is no metadata yet")
        self._storage, self._tensors = metadata.storage_data, metadata.state_dict_metadata
        self._member = member
        self._uris: dict[str, OssUri] = {}
        self._shapes: dict[str, dict[Any, tuple[int, ...]]] = {}

    def stored(self, request: ReadItem) -> StoredItem:
        """Return where the requested item is, and of a tensor, what it is."""
        index = request.storage_index
        fqn = index.fqn
        info = self._storage.get(index)
        if info is None:
            raise OssIntegrityError(f"the metadata does not say where {fqn} is stored")
        uri = self._uris.get(info.relative_path) or self._uri(info.relative_path)
        descriptors = getattr(info, "transform_descriptors", None)
        named = tuple(descriptors) if descriptors else ()
        if request.type == LoadItemType.BYTE_IO:
            return StoredItem(fqn, uri, info.offset, info.length, named, None, ())
        tensor = self._tensors[fqn]
        if not isinstance(tensor, TensorStorageMetadata):
            raise OssIntegrityError(f"{uri}: the metadata has {fqn} as an object, a tensor is asked for")
        chunks, hint = tensor.chunks, index.index
        if hint is not None and hint < len(chunks) and chunks[hint].offsets == index.offset:
            shape = tuple(chunks[hint].sizes)
        else:
            shape = self._shape(index, tensor)
        return StoredItem(fqn, uri, info.offset, info.length, named, tensor.properties.dtype, shape)

    def _uri(self, relative_path: str) -> OssUri:
        uri = self._uris[relative_path] = self._member(relative_path)
        return uri

    def _shape(self, index: MetadataIndex, tensor: TensorStorageMetadata) -> tuple[int, ...]:
        shapes = self._shapes.get(index.fqn)
        if shapes is None:
            shapes = {tuple(chunk.offsets): tuple(chunk.sizes) for chunk in tensor.chunks}
            self._shapes[index.fqn] = shapes
        if index.offset is None or tuple(index.offset) not in shapes:
            raise OssIntegrityError(f"the metadata has no part of {index.fqn} at {index.offset}")
        return shapes[tuple(index.offset)]
