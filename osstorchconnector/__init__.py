"""PyTorch on Alibaba Cloud OSS: datasets, DataPipes and checkpoints.

- Datasets: `OssIterableDataset`, `OssMapDataset` with `ResumableSampler`, `DataObject`, `ObjectInfo`,
  `imagenet_manifest_parser`, `jsonl_manifest_parser`, `merge_states`
- Tars: `generate_tar_archive`
- Checkpoints: `OssCheckpoint` with `OssReader`, `OssWriter` and `OssSpooledWriter`
- Files of tensors: `OssSafetensor`
- Distributed checkpoints: `OssStorageWriter`, `OssStorageReader`, `OssDCPFileSystem`, `OssCheckpointManager`
- The client: `OssClient`, `OssUri`, `ByteSpan`
- Errors: `OssError` is the base class of all
- From the C++ connector of this name: `new_data_object`, and the modules `oss_checkpoint` etc.

More is in `osstorchconnector.datapipes`, `.nodes`, `.dataloader2`, `.emulator` and `.testing`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .leftovers import refuse_leftovers as _refuse_leftovers
from .version import __version__

if TYPE_CHECKING:
    from .checkpoint import OssCheckpoint
    from .compat.client import OssClient
    from .compat.objects import new_data_object
    from .datapipes.manifest import imagenet_manifest_parser, jsonl_manifest_parser
    from .datapipes.state import merge_states
    from .datasets.iterable import OssIterableDataset
    from .datasets.map import OssMapDataset
    from .datasets.sampler import ResumableSampler
    from .dcp import OssCheckpointManager, OssDCPFileSystem, OssStorageReader, OssStorageWriter
    from .errors import (
        OssConfigError,
        OssConflictError,
        OssConnectionError,
        OssCredentialsError,
        OssError,
        OssExistsError,
        OssIntegrityError,
        OssManifestError,
        OssNotFoundError,
        OssObjectChangedError,
        OssPermissionError,
        OssProtocolError,
        OssServiceError,
        OssTarError,
        OssThrottledError,
        OssTimeoutError,
        OssTransformError,
        OssUriError,
        OssUsageError,
    )
    from .files.data_object import DataObject
    from .files.reader import OssReader
    from .files.spooled_writer import OssSpooledWriter
    from .files.writer import OssWriter
    from .filesystem.core import OssFileSystem
    from .index.info import ObjectInfo
    from .protocol.values import ByteSpan
    from .safetensors import OssSafetensor, OssSafetensorError
    from .tar import generate_tar_archive
    from .uri import OssUri

_refuse_leftovers()

__all__ = [
    "ByteSpan",
    "DataObject",
    "ObjectInfo",
    "OssCheckpoint",
    "OssCheckpointManager",
    "OssClient",
    "OssConfigError",
    "OssConflictError",
    "OssConnectionError",
    "OssCredentialsError",
    "OssDCPFileSystem",
    "OssError",
    "OssExistsError",
    "OssFileSystem",
    "OssIntegrityError",
    "OssIterableDataset",
    "OssManifestError",
    "OssMapDataset",
    "OssNotFoundError",
    "OssObjectChangedError",
    "OssPermissionError",
    "OssProtocolError",
    "OssReader",
    "OssSafetensor",
    "OssSafetensorError",
    "OssServiceError",
    "OssSpooledWriter",
    "OssStorageReader",
    "OssStorageWriter",
    "OssTarError",
    "OssThrottledError",
    "OssTimeoutError",
    "OssTransformError",
    "OssUri",
    "OssUriError",
    "OssUsageError",
    "OssWriter",
    "ResumableSampler",
    "__version__",
    "generate_tar_archive",
    "imagenet_manifest_parser",
    "jsonl_manifest_parser",
    "merge_states",
    "new_data_object",
]

# The modules of all public names except errors. Each is imported when its name is first used (PEP 562), so that
# `import osstorchconnector` does not import torch.
_HOMES = {
    "ByteSpan": ".protocol.values",
    "DataObject": ".files.data_object",
    "ObjectInfo": ".index.info",
    "OssCheckpoint": ".checkpoint",
    "OssCheckpointManager": ".dcp",
    "OssClient": ".compat.client",
    "OssDCPFileSystem": ".dcp",
    "OssFileSystem": ".filesystem.core",
    "OssIterableDataset": ".datasets.iterable",
    "OssMapDataset": ".datasets.map",
    "OssReader": ".files.reader",
    "OssSafetensor": ".safetensors",
    "OssSafetensorError": ".safetensors",
    "OssSpooledWriter": ".files.spooled_writer",
    "OssStorageReader": ".dcp",
    "OssStorageWriter": ".dcp",
    "OssUri": ".uri",
    "OssWriter": ".files.writer",
    "ResumableSampler": ".datasets.sampler",
    "generate_tar_archive": ".tar",
    "imagenet_manifest_parser": ".datapipes.manifest",
    "jsonl_manifest_parser": ".datapipes.manifest",
    "merge_states": ".datapipes.state",
    "new_data_object": ".compat.objects",
}


def __getattr__(name: str) -> object:
    """Import a public name from its module, and keep it here."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, ".errors"), __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
