"""What this folder takes of torch that not every version has, and what stands in for it where it is missing.

Distributed checkpoints need torch 2.3. Below that, the modules of this folder can be imported, and `check_torch` raises
when something is used. From 2.3 on, these are missing:

- 2.3: `safe_globals`, `AsyncStager`, `StorageMeta`, copies of sharded tensors, a device's module
- up to 2.4: the public name of `DTensor`
- up to 2.5: extensions, which transform what is stored
- up to 2.7: `SerializationFormat`; our writer and reader have safetensors all the same
"""

from __future__ import annotations

import copy
import dataclasses
import enum
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.checkpoint import filesystem as dcp_filesystem
from torch.distributed.checkpoint import metadata as dcp_metadata

from ..errors import OssConfigError

if TYPE_CHECKING:
    from torch.distributed.checkpoint._extension import ExtensionRegistry, StreamTransformExtension
    from torch.distributed.checkpoint.filesystem import FileSystemBase, SerializationFormat
    from torch.distributed.checkpoint.metadata import StorageMeta
    from torch.distributed.checkpoint.staging import AsyncStager
    from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
    from torch.distributed.checkpoint.state_dict_saver import save as dcp_save
    from torch.distributed.checkpoint.stateful import Stateful
    from torch.distributed.tensor import DTensor, Shard
else:
    try:
        from torch.distributed.tensor import DTensor, Shard
    except ImportError:
        from torch.distributed._tensor import DTensor, Shard

    try:
        from torch.distributed.checkpoint.state_dict_loader import load as dcp_load
        from torch.distributed.checkpoint.state_dict_saver import save as dcp_save
        from torch.distributed.checkpoint.stateful import Stateful
    except ImportError:

        def dcp_save(*arguments: Any, **options: Any) -> Any:
            check_torch()

        dcp_load = dcp_save

        class Stateful:
            pass

    try:
        from torch.distributed.checkpoint.staging import AsyncStager
    except ImportError:

        class AsyncStager:
            pass

    try:
        from torch.distributed.checkpoint._extension import ExtensionRegistry, StreamTransformExtension
    except ImportError:

        class StreamTransformExtension:
            pass

        class ExtensionRegistry:
            def from_descriptor_list(self, descriptors: Sequence[str]) -> Any:
                raise _missing(f"items that extensions have transformed ({', '.join(descriptors)})", "2.6")

    if hasattr(dcp_filesystem, "FileSystemBase"):
        FileSystemBase = dcp_filesystem.FileSystemBase
    else:

        class FileSystemBase:
            pass

    if hasattr(dcp_filesystem, "SerializationFormat"):
        SerializationFormat = dcp_filesystem.SerializationFormat
    else:

        class SerializationFormat(enum.Enum):
            TORCH_SAVE = "torch_save"
            SAFETENSORS = "safetensors"

    if hasattr(dcp_metadata, "StorageMeta"):
        StorageMeta = dcp_metadata.StorageMeta
    else:

        @dataclasses.dataclass
        class StorageMeta:
            checkpoint_id: str | os.PathLike[str] | None = None
            save_id: str | None = None
            load_id: str | None = None


__all__ = [
    "AsyncStager",
    "DTensor",
    "ExtensionRegistry",
    "FileSystemBase",
    "SerializationFormat",
    "Shard",
    "Stateful",
    "StorageInfo",
    "StorageMeta",
    "StreamTransformExtension",
    "check_extensions",
    "check_torch",
    "copied_shards",
    "dcp_load",
    "dcp_save",
    "device_module",
    "load_everything",
    "metadata_class",
    "safe_globals",
    "storage_info",
    "storage_meta",
]

StorageInfo: Any = dcp_filesystem._StorageInfo
_HAS_DESCRIPTORS = "transform_descriptors" in {field.name for field in dataclasses.fields(StorageInfo)}


def check_torch() -> None:
    """Raise `OssConfigError` if this torch is too old for distributed checkpoints on OSS."""
    if not hasattr(dcp_filesystem, "FileSystemBase"):
        raise _missing("distributed checkpoints on OSS", "2.3")


def check_extensions(extensions: Sequence[object]) -> None:
    """Raise `OssConfigError` if extensions are asked for that this torch does not know."""
    if extensions and not _HAS_DESCRIPTORS:
        raise _missing("extensions=", "2.6")


def storage_info(path: str, offset: int, length: int, descriptors: Sequence[str] | None) -> Any:
    """Return torch's record of where an item is."""
    if descriptors is None:
        return StorageInfo(path, offset, length)
    return StorageInfo(path, offset, length, transform_descriptors=descriptors)


def storage_meta(checkpoint_id: str, save_id: str) -> StorageMeta | None:
    """Return torch's record of a save; None where torch has none, since others could not read ours."""
    if not hasattr(dcp_metadata, "StorageMeta"):
        return None
    return StorageMeta(checkpoint_id=checkpoint_id, save_id=save_id)


def metadata_class(name: str) -> Any:
    """Return a class of torch's metadata; None if this torch has none of that name."""
    return StorageMeta if name == "StorageMeta" else getattr(dcp_metadata, name, None)


def safe_globals() -> Sequence[Any]:
    """Return what the user has told torch is safe to unpickle; nothing where it can't be told."""
    found: Any = getattr(torch.serialization, "get_safe_globals", list)
    return found()  # type: ignore[no-any-return]


def device_module(device: torch.device) -> Any:
    """Return the module that has the streams of a device."""
    found = getattr(torch, "get_device_module", None)
    return getattr(torch, device.type) if found is None else found(device)


def copied_shards(value: Any) -> Any:
    """Return a copy of a sharded tensor in the processor's memory."""
    try:
        from torch.distributed._state_dict_utils import _copy_state_dict, _create_cpu_state_dict
    except ImportError:
        return copy.deepcopy(value)
    state = {"": value}
    return _copy_state_dict(state, _create_cpu_state_dict(state))[""]


def load_everything(state: dict[str, Any], reader: Any) -> None:
    """Load all of a checkpoint into an empty dictionary, nested as it was saved, by one process."""
    from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    planner: Any = _EmptyStateDictLoadPlanner  # torch's has no types
    _load_state_dict(state, storage_reader=reader, planner=planner(), no_dist=True)


def _missing(what: str, version: str) -> OssConfigError:
    return OssConfigError(f"{what}: this needs torch {version} or newer, and here is {torch.__version__}")
