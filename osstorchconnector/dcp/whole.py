"""All of a checkpoint, without knowing what is in it: what it holds, whether it can be read, and as one object."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorStorageMetadata,
)
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem

from ..client.client import OssClient
from ..errors import OssError
from ..tensors.isolation import outside_contexts
from .allowed import HARMLESS
from .folder import CheckpointFolder, is_rank_metadata, metadata_name
from .reader import OssStorageReader
from .run import remove_checkpoint
from .storage import ProgressCallback
from .tensors import QUANTISED_DTYPES
from .torch_dcp import load_everything


class HeldEntry(NamedTuple):
    """A tensor or an object of a checkpoint: its name, and for a tensor its dtype and shape."""

    name: str
    dtype: torch.dtype | None
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The bytes of the tensor's elements; 0 for an object."""
        return self.dtype.itemsize * torch.Size(self.shape).numel() if self.dtype is not None else 0


class CheckedFile(NamedTuple):
    """A file of a checkpoint: its name and size, how many items were read, and what is wrong, if anything is."""

    name: str
    size: int
    items: int
    problem: str = ""


class WholeCheckpoint:
    """A distributed checkpoint in OSS (or, with a client of local files, in a folder).

    Raises `OssNotFoundError` where none is, and `OssIntegrityError` for metadata that is damaged. A checkpoint that
    was saved with `use_collectives=False` has metadata for each rank: then all of them are looked at.
    """

    def __init__(self, client: OssClient, uri: str) -> None:
        self._client = client
        self._folder = CheckpointFolder(client, uri)
        self._ranks: list[int | None] = [None]
        names = self._folder.metadata_names()
        if names and all(map(is_rank_metadata, names)):
            self._ranks = [*sorted(int(name[2:].partition(".")[0]) for name in names)]
        self._metadata = [self._folder.read_metadata(rank, HARMLESS)[0] for rank in self._ranks]

    def entries(self) -> Iterator[HeldEntry]:
        """Yield what is in it, by name."""
        found = {name: entry for metadata in self._metadata for name, entry in metadata.state_dict_metadata.items()}
        for name in sorted(found):
            entry = found[name]
            if isinstance(entry, TensorStorageMetadata):
                yield HeldEntry(name, entry.properties.dtype, tuple(entry.size))
            else:
                yield HeldEntry(name, None, ())

    def sizes(self) -> dict[str, int]:
        """Return the sizes in bytes of the files that it consists of, by name; those that are missing are left out."""
        wanted = {info.relative_path for metadata in self._metadata for info in metadata.storage_data.values()}
        return {name: size for name, size in self._listed().items() if name in wanted}

    def check(self, progress: ProgressCallback | None = None) -> Iterator[CheckedFile]:
        """Read everything, and yield what became of each file. Nothing is kept in memory.

        Files must be there and be as long as the metadata says. Each tensor and object must come out as a load would
        take it; bytes are checked by the CRC-32 that was stored with an item, and by the CRC-64 that OSS has of a file.
        `progress` is called with the bytes of files that are done, and of all.
        """
        sizes, done = self._listed(), 0
        total = sum(self.sizes().values())

        def told(read: int, _of: int) -> None:
            if progress is not None:
                progress(done + read, total)

        for metadata in self._metadata:
            for index in _not_stored(metadata):
                yield CheckedFile(".metadata", 0, 0, f"it does not say where {index.fqn} is stored")
            files = defaultdict[str, list[MetadataIndex]](list)
            for index, info in metadata.storage_data.items():
                files[info.relative_path].append(index)
            for name, indices in sorted(files.items()):
                size = sizes.get(name)
                yield CheckedFile(name, size or 0, len(indices), self._problem(metadata, name, indices, size, told))
                done += size or 0
                told(0, 0)

    def load(self, progress: ProgressCallback | None = None) -> dict[str, Any]:
        """Return all of it as one dictionary, in memory, nested as it was saved.

        Raises the `OssError` of what can't be read, and `OssNotFoundError` for metadata of ranks, of which each has
        only a part.
        """
        reader = OssStorageReader(self._client, self._folder.id, progress=progress)
        state: dict[str, Any] = {}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # one process is intended
            try:
                _load_everything(state, reader)
            except CheckpointException as error:  # there is one rank: what it met, a Ctrl-C too, says more
                raise error.failures[0][0] from None
        return state

    def remove(self) -> None:
        """Remove the checkpoint: its metadata first, so that what is left never looks like a checkpoint."""
        for rank in self._ranks:
            if rank is not None:
                self._folder.remove([metadata_name(rank)])
        remove_checkpoint(self._client, self._folder.uri)

    def _listed(self) -> dict[str, int]:
        start = len(self._folder.uri.key)
        return {found.key[start:]: found.size for found in self._client.list(self._folder.uri)}

    def _problem(
        self,
        metadata: Metadata,
        name: str,
        indices: Sequence[MetadataIndex],
        size: int | None,
        progress: ProgressCallback,
    ) -> str:
        """Read all items of a file; return what is wrong, or an empty text."""
        if size is None:
            return "it is missing"
        stop = max(info.offset + info.length for info in (metadata.storage_data[index] for index in indices))
        if stop > size:
            return f"it has {size} bytes, and the metadata says that it has {stop}"
        reader = OssStorageReader(self._client, self._folder.id, progress=progress)
        reader.set_up_storage_reader(metadata, True)
        try:
            reader.read_data(LoadPlan([_wanted(metadata, index) for index in indices]), _Discard(metadata))
        except OssError as error:
            return str(error)
        return ""


_load_everything = outside_contexts(load_everything)


class _Discard(LoadPlanner):
    """Takes everything and keeps nothing. Targets have no memory, so what is read for them is decoded and dropped."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def set_up_planner(self, *arguments: Any, **options: Any) -> None:
        """Nothing is to be set up."""

    def create_local_plan(self) -> LoadPlan:
        raise NotImplementedError("the plan is made without a planner")

    def create_global_plan(self, global_plan: list[LoadPlan]) -> list[LoadPlan]:
        return global_plan

    def finish_plan(self, central_plan: LoadPlan) -> LoadPlan:
        return central_plan

    def load_bytes(self, read_item: ReadItem, value: Any) -> None:
        """Drop an object, which was checked."""

    def resolve_tensor(self, read_item: ReadItem) -> torch.Tensor:
        entry = self._metadata.state_dict_metadata[read_item.storage_index.fqn]
        assert isinstance(entry, TensorStorageMetadata)
        dtype = entry.properties.dtype
        if dtype in QUANTISED_DTYPES:  # there are none without memory
            return torch._empty_affine_quantized(tuple(read_item.lengths), scale=1.0, zero_point=0, dtype=dtype)
        return torch.empty(read_item.lengths, dtype=dtype, device="meta")

    def commit_tensor(self, read_item: ReadItem, tensor: torch.Tensor) -> None:
        """Drop a tensor."""


def _not_stored(metadata: Metadata) -> Iterator[MetadataIndex]:
    for name, entry in metadata.state_dict_metadata.items():
        if isinstance(entry, BytesStorageMetadata):
            indices = [MetadataIndex(name)]
        else:
            indices = [MetadataIndex(name, chunk.offsets) for chunk in entry.chunks]
        yield from (index for index in indices if index not in metadata.storage_data)


def _wanted(metadata: Metadata, index: MetadataIndex) -> ReadItem:
    """Return the request for all of an item."""
    entry = metadata.state_dict_metadata.get(index.fqn)
    if isinstance(entry, TensorStorageMetadata):
        lengths = _chunk(entry, index).sizes
        kind = LoadItemType.TENSOR
    else:
        lengths, kind = torch.Size([0]), LoadItemType.BYTE_IO
    nothing = torch.Size([0] * len(lengths))
    return ReadItem(kind, index, nothing, index, nothing, lengths)


def _chunk(entry: TensorStorageMetadata, index: MetadataIndex) -> ChunkStorageMetadata:
    return next(chunk for chunk in entry.chunks if index.offset is None or chunk.offsets == index.offset)
