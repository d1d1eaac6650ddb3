"""`.metadata`, DCP's table of contents: a pickle, read by an unpickler that knows only what such a table is made of."""

from __future__ import annotations

import collections
import functools
import io
import logging
import pathlib
import pickle
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem as dcp_filesystem
from torch.distributed.checkpoint import metadata as dcp_metadata
from torch.distributed.checkpoint import planner as dcp_planner
from torch.distributed.checkpoint.metadata import Metadata

from ..errors import OssIntegrityError, OssUsageError
from .allowed import HARMLESS, AllowList, listed
from .dry_run import Budget, DryRun, Filled, Kept, Name
from .gc_pause import collection_put_off
from .pickle_limits import check_opcodes
from .schema import check_metadata, is_plain

_logger = logging.getLogger(__name__)

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


# As many as torch's own tensors have at most: of more than that nothing is remembered.
MOST_DIMENSIONS = 64


class UnsafePickleError(OssIntegrityError, pickle.UnpicklingError):
    """A pickle names something that has no place in it, and that loading would call."""


def dump_metadata(metadata: Metadata) -> bytes:
    """Return what `.metadata` holds, as torch's own writer writes it.

    Raises `OssUsageError` if a planner has put something there that can't be read again. What readers take only when
    they are told to, the log names.
    """
    try:
        with collection_put_off():
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


def load_metadata(data: bytes, where: str, allowed: AllowList | None = HARMLESS) -> Metadata:
    """Return the metadata in `data`, which was found at `where`, without running anything that it names.

    A planner's own objects may stand in it as far as `allowed` says; None allows anything. Raises `UnsafePickleError`
    if it names what does not belong there, `OssIntegrityError` if it is not DCP's metadata.
    """
    try:
        check_opcodes(data)
        with collection_put_off():
            try:
                metadata = _MetadataUnpickler(data, is_vetted=allowed is None).load()
            except _UnknownNameError:
                try:
                    refused = _refused(data, allowed or HARMLESS)
                except pickle.UnpicklingError as error:
                    raise UnsafePickleError(_advice(where, f"has {error}", [])) from error
                if refused:
                    raise UnsafePickleError(_advice(where, f"names {listed(refused)}", refused)) from None
                metadata = _MetadataUnpickler(data, is_vetted=True).load()
            return check_metadata(metadata)
    except UnsafePickleError:
        raise
    except Exception as error:
        raise OssIntegrityError(f"{where}: not the metadata of a distributed checkpoint: {error!r}") from error


def stored_names(data: bytes, where: str) -> set[str]:
    """Return the files that the metadata in `data` names, without making any object of a planner's.

    Raises `OssIntegrityError` if it is not DCP's metadata.
    """
    try:
        with collection_put_off():
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
        return getattr(dcp_metadata, name, None)
    if module == dcp_planner.__name__ and name in _PLANNER_CLASSES:
        return getattr(dcp_planner, name, None)
    if module == dcp_filesystem.__name__ and name == "_StorageInfo":
        return dcp_filesystem._StorageInfo
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
