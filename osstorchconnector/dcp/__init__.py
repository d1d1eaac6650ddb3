"""Distributed checkpoints on OSS, in torch's own format: for `torch.distributed.checkpoint`."""

from __future__ import annotations

from .filesystem import OssDCPFileSystem
from .layout import HashedPrefixes, RoundRobinPrefixes
from .manager import OssCheckpointManager
from .metadata import UnsafePickleError
from .reader import OssStorageReader
from .stager import OssStager
from .writer import OssStorageWriter

__all__ = [
    "HashedPrefixes",
    "OssCheckpointManager",
    "OssDCPFileSystem",
    "OssStager",
    "OssStorageReader",
    "OssStorageWriter",
    "RoundRobinPrefixes",
    "UnsafePickleError",
]
