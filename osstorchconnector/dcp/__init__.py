"""Distributed checkpoints on OSS, in torch's own format: for `torch.distributed.checkpoint`.

- faces: `writer`, `reader`, `filesystem`, `manager` (of a `run`), `stager`
- `options` of readers, writers and torch that are handed on, by name and type
- where: `folder`, `layout`, and `cleaning` up after saves that died
- saving: `saving` writes a rank's files by `file_upload`, made of `items` and `tensors`, `publishing` makes them the
  checkpoint; `gc_pause` keeps Python's collector out of it
- loading: `loading` plans each `load_item` by `segments`, `fetching` brings it to its `places`, `decoding`
  makes tensors of what does not land in them
- `torch_context` keeps all of it out of the contexts that the user's code has switched on
- formats: `metadata`, `archive`
- pickles are not trusted: `pickle_limits`, `dry_run`, `allowed` (with `numpy_calls`), `vetting`
- `progress` for whoever watches
"""

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
