"""`.metadata`, DCP's table of contents: a pickle that is written as torch does, and read without trust.

`dump_metadata` writes it, and warns of what readers will refuse. `load_metadata` checks the opcodes, lets an unpickler
make it that knows only the names of such a table, and checks all types and numbers in it. A planner may have added
objects of its own: a dry run looks through these first.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import io
import logging
import math
import pathlib
import pickle
from collections.abc import Callable, Iterable
from itertools import chain
from operator import add, attrgetter, ge
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem as dcp_filesystem
from torch.distributed.checkpoint import metadata as dcp_metadata
from torch.distributed.checkpoint import planner as dcp_planner
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from ..errors import OssIntegrityError, OssUsageError
from ..tensors.isolation import garbage_collection_paused
from .allowed import HARMLESS, AllowList, listed
from .pickle_limits import Budget, DryRun, Filled, Kept, Name, check_opcodes
from .torch_dcp import StorageInfo, StorageMeta, metadata_class

_logger = logging.getLogger(__name__)

_NONE = type(None)
_CHUNKS = attrgetter("chunks")
_FIELDS = frozenset({"state_dict_metadata", "planner_data", "storage_data", "storage_meta", "version"})
# Torch's own tensors have at most this many dimensions; sizes of more are not kept for the next tensor.
MOST_DIMENSIONS = 64
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
# SHA-256 of metadata without objects of a planner's that was found to be right. What was made of it is not kept: its
# users may change it, and of many tensors it is large.
_checked: collections.deque[bytes] = collections.deque(maxlen=16)
# Planners keep plans there, to make the next ones faster.
_PLANNER_CLASSES = (
    "SavePlan",
    "WriteItem",
    "WriteItemType",
    "TensorWriteData",
    "BytesIOWriteData",
    "LoadPlan",
    "ReadItem",
    "LoadItemType",
)
# Paths stand in `storage_meta.checkpoint_id`. They are read as pure ones: one from Windows can be read anywhere.
_PATHS: dict[str, type[pathlib.PurePath]] = {
    "PosixPath": pathlib.PurePosixPath,
    "PurePosixPath": pathlib.PurePosixPath,
    "WindowsPath": pathlib.PureWindowsPath,
    "PureWindowsPath": pathlib.PureWindowsPath,
}


class UnsafePickleError(OssIntegrityError, pickle.UnpicklingError):
    """A pickle names something that has no place in it, and that loading would call."""


def dump_metadata(metadata: Metadata) -> bytes:
    """Return what `.metadata` holds, as torch's own writer writes it.

    Raises `OssUsageError` if a planner has put something there that can't be read again. What readers take only when
    they are told to, the log names.
    """
    try:
        with garbage_collection_paused():
            data = pickle.dumps(metadata)
        if not is_plain(metadata):
            pickle.loads(data)
    except Exception as error:
        raise OssUsageError(
            f"the planner has put into the checkpoint's metadata what can't be pickled and read again: {error!r}"
        ) from error
    if not is_plain(metadata):
        try:
            _warn_of(tuple(_refused(data, HARMLESS)))
        except Exception as error:
            _warn_of((), str(error))
    return data


def is_plain(metadata: Metadata) -> bool:
    """Say whether the metadata has torch's classes only, and none of a planner's."""
    planner_data = metadata.planner_data
    try:
        return (
            type(metadata) is Metadata
            and vars(metadata).keys() <= _FIELDS
            and _types(metadata.state_dict_metadata.values()) <= {TensorStorageMetadata, BytesStorageMetadata}
            and (planner_data is None or _is_plain(planner_data))
        )
    except TypeError:
        return False


def _is_plain(planner_data: Any) -> bool:
    """Say whether it is what the default planner keeps: the path to each entry of the state."""
    return (
        type(planner_data) is dict
        and _types(planner_data) <= {str}
        and _types(planner_data.values()) <= {tuple}
        and _types(chain.from_iterable(planner_data.values())) <= {str, int}
    )


def load_metadata(data: bytes, where: str, allowed: AllowList | None = HARMLESS) -> Metadata:
    """Return the metadata in `data`, which was found at `where`, without running anything that it names.

    A planner's own objects may stand in it as far as `allowed` says; None allows anything. Raises `UnsafePickleError`
    if it names what does not belong there, `OssIntegrityError` if it is not DCP's metadata.

    The same bytes are checked once in a process: a model and its optimiser are often loaded one after the other.
    """
    try:
        with garbage_collection_paused():
            digest = hashlib.sha256(data).digest()
            if digest in _checked:
                metadata = _MetadataUnpickler(data, is_vetted=False).load()
                assert isinstance(metadata, Metadata)
                return metadata
            check_opcodes(data)  # the first time it compiles a pattern: of thousands of objects, so within the pause
            try:
                metadata = check_metadata(_MetadataUnpickler(data, is_vetted=False).load())
            except _UnknownNameError:
                return check_metadata(_with_others_objects(data, where, allowed))
            _checked.append(digest)
            return metadata
    except UnsafePickleError:
        raise
    except Exception as error:
        raise OssIntegrityError(f"{where}: not the metadata of a distributed checkpoint: {error!r}") from error


def _with_others_objects(data: bytes, where: str, allowed: AllowList | None) -> Any:
    """Return what is in metadata that names more than DCP knows, if `allowed` knows the rest."""
    if allowed is not None:
        try:
            refused = _refused(data, allowed)
        except pickle.UnpicklingError as error:
            raise UnsafePickleError(_advice(where, f"has {error}", [])) from error
        if refused:
            raise UnsafePickleError(_advice(where, f"names {listed(refused)}", refused)) from None
    return _MetadataUnpickler(data, is_vetted=True).load()


def stored_names(data: bytes, where: str) -> set[str]:
    """Return the files that the metadata in `data` names, without making any object of a planner's.

    Raises `OssIntegrityError` if it is not DCP's metadata.
    """
    try:
        with garbage_collection_paused():
            metadata = DryRun(data, lambda name: lambda budget, *arguments: Kept()).load()
            infos = metadata.state["storage_data"].values()
            names = {info.state["relative_path"] for info in infos}
            del metadata, infos  # thousands of objects, which would be looked through when they are garbage
    except Exception as error:
        raise OssIntegrityError(f"{where}: not the metadata of a distributed checkpoint: {error!r}") from error
    if not all(isinstance(name, str) for name in names):
        raise OssIntegrityError(f"{where}: not the metadata of a distributed checkpoint: a file without a name")
    return names


def _refused(data: bytes, allowed: AllowList) -> list[Name]:
    """Return the names in metadata that neither DCP nor `allowed` knows."""

    def known(name: Name) -> Any:
        return allowed(name) or ((lambda budget, *arguments: Filled()) if _known(*name) is not None else None)

    run = DryRun(data, known)
    try:
        run.load()
    except Exception:
        if not run.refused():
            raise
    return run.refused()


def _advice(where: str, what: str, refused: list[Name]) -> str:
    own = f"it by safe_types=[{_inner(refused)}] of the reader, or " if refused else ""
    return (
        f"{where} {what}, which DCP's metadata has no use for: nothing of it was loaded. If a planner of "
        f"yours puts that there, allow {own}anything by weights_only=False"
    )


def _inner(refused: Iterable[Name]) -> str:
    return ", ".join(name for _, name in refused)


@functools.lru_cache(maxsize=64)
def _warn_of(refused: tuple[Name, ...], why: str = "") -> None:
    """Say once what a reader has to be told."""
    if refused:
        _logger.warning(
            "the planner has put %s into the checkpoint's metadata: readers need safe_types=[%s] or weights_only=False",
            listed(refused),
            _inner(refused),
        )
    elif why:
        _logger.warning(
            "the planner has put into the checkpoint's metadata what readers take with weights_only=False only: %s",
            why,
        )


class _UnknownNameError(Exception):
    """The metadata names something that DCP does not put there."""


class _MetadataUnpickler(pickle.Unpickler):
    """Knows DCP's names; the others as well, when they have been vetted."""

    def __init__(self, data: bytes, *, is_vetted: bool) -> None:
        super().__init__(io.BytesIO(data))
        self._is_vetted = is_vetted
        budget = Budget(len(data))
        self._containers = {
            torch.Size: _sizes_by(budget.bounded(torch.Size)),
            collections.OrderedDict: budget.bounded(collections.OrderedDict),
        }

    def find_class(self, module: str, name: str) -> Any:
        found = _known(module, name)
        if found is None:
            if not self._is_vetted:
                raise _UnknownNameError(module, name)
            return super().find_class(module, name)
        return self._containers.get(found, found)

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError(f"it refers to something outside itself: {pid!r}")


def _sizes_by(make: Callable[[Any], torch.Size]) -> Callable[[Any], torch.Size]:
    """Return what makes sizes of tensors as `make` does, those that it has made of a few numbers once only.

    Of thousands of tensors there are few sizes, and several of them in what is stored about each tensor.
    """
    known = functools.lru_cache(maxsize=1024)(make)
    return lambda contents: (known if type(contents) is tuple and len(contents) <= MOST_DIMENSIONS else make)(contents)


def _known(module: str, name: str) -> Any:
    if module == dcp_metadata.__name__ and name in _METADATA_CLASSES:
        return metadata_class(name)
    if module == dcp_planner.__name__ and name in _PLANNER_CLASSES:
        return getattr(dcp_planner, name, None)
    if module == dcp_filesystem.__name__ and name == "_StorageInfo":
        return StorageInfo
    if module == "torch":
        found = vars(torch).get(name)
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


def check_metadata(metadata: Any) -> Metadata:
    """Return the metadata; raises `ValueError`, or another of Python's errors, if it can't be a checkpoint's."""
    _require(isinstance(metadata, Metadata), "it is no metadata")
    _require(isinstance(getattr(metadata, "storage_meta", None), (StorageMeta, _NONE)), "its description is none")
    _require(isinstance(getattr(metadata, "version", None), (str, _NONE)), "its version is no text")
    entries = metadata.state_dict_metadata
    _require(isinstance(entries, dict) and _types(entries) <= {str}, "the names of its entries are no texts")
    tensors = [entry for entry in entries.values() if isinstance(entry, TensorStorageMetadata)]
    others = _types(entries.values()) - _types(tensors)
    _require(all(issubclass(kind, BytesStorageMetadata) for kind in others), "an entry is neither tensor nor object")
    _check_tensors(tensors)
    _check_places(metadata.storage_data)
    assert isinstance(metadata, Metadata)
    return metadata


def _check_tensors(tensors: list[TensorStorageMetadata]) -> None:
    properties = list(map(attrgetter("properties"), tensors))
    _require(_types(properties) <= {TensorProperties}, "a tensor's properties are none")
    _require(_types(map(attrgetter("dtype"), properties)) <= {torch.dtype}, "a tensor's dtype is none")
    _require(_types(map(attrgetter("size"), tensors)) <= {torch.Size}, "a tensor's size is none")
    _require(_types(map(_CHUNKS, tensors)) <= {list, tuple}, "a tensor's parts are no list")
    _require(_types(chain.from_iterable(map(_CHUNKS, tensors))) <= {ChunkStorageMetadata}, "a part of a tensor is none")
    # There are few sizes of thousands of tensors.
    for size, offsets, sizes in {
        (tensor.size, tuple(chunk.offsets), tuple(chunk.sizes)) for tensor in tensors for chunk in tensor.chunks
    }:
        _require(_types((*size, *offsets, *sizes)) <= {int}, "a size is no number")
        _require(len(size) == len(offsets) == len(sizes), "a part of a tensor has other dimensions")
        _require(min((*offsets, *sizes), default=0) >= 0, "a part of a tensor has a negative size")
        _require(all(map(ge, size, map(add, offsets, sizes))), "a part of a tensor is outside of it")
    for tensor in tensors:
        parts = tensor.chunks
        if len(parts) != 1 or parts[0].sizes != tensor.size:
            _require(
                sum(math.prod(part.sizes) for part in parts) >= math.prod(tensor.size), "parts of a tensor are missing"
            )


def _check_places(storage: Any) -> None:
    _require(isinstance(storage, dict), "it does not say where its entries are stored")
    indices, infos = list(storage), list(storage.values())
    _require(_types(indices) <= {MetadataIndex}, "what is stored has no index")
    _require(_types(map(attrgetter("fqn"), indices)) <= {str}, "what is stored has no name")
    _require(_types(map(attrgetter("offset"), indices)) <= {torch.Size, _NONE}, "what is stored is no part")
    _require(_types(map(attrgetter("index"), indices)) <= {int, _NONE}, "what is stored has no number")
    _require(_types(infos) <= {StorageInfo}, "a place is none")
    _require(_types(map(attrgetter("relative_path"), infos)) <= {str}, "a file has no name")
    numbers = list(chain(map(attrgetter("offset"), infos), map(attrgetter("length"), infos)))
    _require(_types(numbers) <= {int} and min(numbers, default=0) >= 0, "a place in a file is no number")
    descriptors = [getattr(info, "transform_descriptors", None) for info in infos]
    _require(_types(descriptors) <= {list, tuple, _NONE}, "the names of extensions are no list")
    _require(_types(chain.from_iterable(filter(None, descriptors))) <= {str}, "the name of an extension is no text")


def _types(values: Iterable[Any]) -> set[type]:
    return set(map(type, values))


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)
