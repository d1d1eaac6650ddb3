"""PyTorch on Alibaba Cloud OSS: the public names, each loaded when it is first used (PEP 562)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .version import __version__

if TYPE_CHECKING:
    from .checkpoint import OssCheckpoint
    from .client.client import OssClient
    from .client.values import ByteSpan
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
        OssIntegrityError,
        OssManifestError,
        OssNotFoundError,
        OssObjectChangedError,
        OssPermissionError,
        OssProtocolError,
        OssServiceError,
        OssThrottledError,
        OssTimeoutError,
        OssTransformError,
        OssUriError,
        OssUsageError,
    )
    from .objects.data_object import DataObject
    from .objects.info import ObjectInfo
    from .objects.reader import OssReader
    from .objects.spooled_writer import OssSpooledWriter
    from .objects.writer import OssWriter
    from .uri import OssUri

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
    "OssIntegrityError",
    "OssIterableDataset",
    "OssManifestError",
    "OssMapDataset",
    "OssNotFoundError",
    "OssObjectChangedError",
    "OssPermissionError",
    "OssProtocolError",
    "OssReader",
    "OssServiceError",
    "OssSpooledWriter",
    "OssStorageReader",
    "OssStorageWriter",
    "OssThrottledError",
    "OssTimeoutError",
    "OssTransformError",
    "OssUri",
    "OssUriError",
    "OssUsageError",
    "OssWriter",
    "ResumableSampler",
    "__version__",
    "imagenet_manifest_parser",
    "jsonl_manifest_parser",
    "merge_states",
]

# Where the names are that are not errors.
_HOMES = {
    "ByteSpan": ".client.values",
    "DataObject": ".objects.data_object",
    "ObjectInfo": ".objects.info",
    "OssCheckpoint": ".checkpoint",
    "OssCheckpointManager": ".dcp",
    "OssClient": ".client.client",
    "OssDCPFileSystem": ".dcp",
    "OssIterableDataset": ".datasets.iterable",
    "OssMapDataset": ".datasets.map",
    "OssReader": ".objects.reader",
    "OssSpooledWriter": ".objects.spooled_writer",
    "OssStorageReader": ".dcp",
    "OssStorageWriter": ".dcp",
    "OssUri": ".uri",
    "OssWriter": ".objects.writer",
    "ResumableSampler": ".datasets.sampler",
    "imagenet_manifest_parser": ".datapipes.manifest",
    "jsonl_manifest_parser": ".datapipes.manifest",
    "merge_states": ".datapipes.state",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module, and keep it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOMES.get(name, ".errors"), __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
