"""`.metadata`, DCP's table of contents: a pickle, read by an unpickler that knows only what such a table is made of."""

from __future__ import annotations

import collections
import functools
import io
import pathlib
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem as dcp_filesystem
from torch.distributed.checkpoint import metadata as dcp_metadata
from torch.distributed.checkpoint.metadata import Metadata

from ..errors import OssIntegrityError
from .collecting import collection_put_off
from .dry_run import Budget
from .opcodes import check_opcodes

_METADATA_CLASSES = (
    "Metadata",
    "TensorStorageMetadata",
    "BytesStorageMetadata",
    "ChunkStorageMetadata",
    "TensorProperties",
    "MetadataIndex",
    "StorageMeta",
    "_MEM_FORMAT_ENCODING",
)
# Paths stand in `storage_meta.checkpoint_id`. They are read as pure ones: one from Windows can be read anywhere.
_PATHS: dict[str, type[pathlib.PurePath]] = {
    "PosixPath": pathlib.PurePosixPath,
    "PurePosixPath": pathlib.PurePosixPath,
    "WindowsPath": pathlib.PureWindowsPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
}


# As many as torch's own tensors have at most: of more than that nothing is remembered.
MOST_DIMENSIONS = 64


class UnsafePickleError(OssIntegrityError, pickle.UnpicklingError):
    """A pickle names something that has no place in it, and that loading would call."""


def dump_metadata(metadata: Metadata) -> bytes:
    """Return what `.metadata` holds, as torch's own writer writes it."""
    with collection_put_off():
        return pickle.dumps(metadata)


def load_metadata(data: bytes, where: str) -> Metadata:
    """Return the metadata in `data`, which was found at `where`, without running anything that it names.

    Raises `UnsafePickleError` if it names what does not belong there, `OssIntegrityError` if it is not DCP's metadata.
    """
    try:
        check_opcodes(data)
        with collection_put_off():
            metadata = _MetadataUnpickler(io.BytesIO(data), where).load()
    except UnsafePickleError:
        raise
    except Exception as error:
        raise OssIntegrityError(f"{where}: not the metadata of a distributed checkpoint: {error!r}") from error
    if not isinstance(metadata, Metadata) or not isinstance(metadata.storage_data, dict):
        raise OssIntegrityError(f"{where}: not the metadata of a distributed checkpoint")
    return metadata


class _MetadataUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, where: str) -> None:
        super().__init__(file)
        self._where = where
        budget = Budget(len(file.getbuffer()))
        self._containers = {
            torch.Size: _sizes_by(budget.bounded(torch.Size)),
            collections.OrderedDict: budget.bounded(collections.OrderedDict),
        }

    def find_class(self, module: str, name: str) -> Any:
        found = _known(module, name)
        if found is None:
            raise UnsafePickleError(
                f"{self._where} names {module}.{name}, which DCP's metadata has no use for: nothing of it was loaded. "
                "If the checkpoint is to be trusted, read the file with torch's FileSystemReader"
            )
        return self._containers.get(found, found)

    def persistent_load(self, pid: Any) -> Any:
        raise UnsafePickleError(f"{self._where} refers to something outside itself ({pid!r}): nothing of it was loaded")


def _sizes_by(make: Callable[[Any], torch.Size]) -> Callable[[Any], torch.Size]:
    """Return what makes sizes of tensors as `make` does, those that it has made of a few numbers once only.

    Of thousands of tensors there are few sizes, and several of them in what is stored about each tensor.
    """
    known = functools.lru_cache(maxsize=1024)(make)
    return lambda contents: (known if type(contents) is tuple and len(contents) <= MOST_DIMENSIONS else make)(contents)


def _known(module: str, name: str) -> Any:
    if module == dcp_metadata.__name__ and name in _METADATA_CLASSES:
        return getattr(dcp_metadata, name, None)
    if module == dcp_filesystem.__name__ and name == "_StorageInfo":
        return dcp_filesystem._StorageInfo
    if module == "torch":
        found = getattr(torch, name, None)
        return found if found is torch.Size or isinstance(found, (torch.dtype, torch.layout)) else None
    if module == "torch.serialization" and name == "_get_layout":
        return _layout
    if module in ("pathlib", "pathlib._local"):
        return _PATHS.get(name)
    if (module, name) == ("collections", "OrderedDict"):
        return collections.OrderedDict
    return None


def _layout(name: object) -> torch.layout:
    layout = getattr(torch, str(name).removeprefix("torch."), None)
    if not isinstance(layout, torch.layout):
        raise pickle.UnpicklingError(f"{name!r} is no layout of tensors")
    return layout
