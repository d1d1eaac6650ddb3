"""Distributed checkpoints on OSS, in torch's own format: for `torch.distributed.checkpoint`.

- public: `writer`, `reader` (both are `storage`), `filesystem`, `manager` (of the checkpoints in a `run`), `stager`

How a save flows, from a rank's plan to a checkpoint:

    writer -> saving -> data_files -> file_upload -> OSS      every rank writes its data files
       |                  tensors, archive                    a tensor is head, memory, tail: nothing is copied
       +----> publishing -> metadata -> OSS                   the coordinator puts `.metadata`: the checkpoint exists

How a load flows, from a checkpoint to a rank's tensors:

    reader -> folder -> metadata                              what is in the checkpoint, and where
       |                  allowed, pickle_limits              a pickle is checked before it is believed
       +----> loading -> segments -> fetching <- OSS          which ranges to ask for, and all of them under way
                 |
              load_item -> tensors, archive, decoding         one tensor each: its bytes are checked and land in it

- `folder`: the names of a checkpoint's objects; `cleaning` removes what saves left that died
- `metadata`: the pickle that says what is stored where; `archive`: the zip archive around each tensor
- pickles are not trusted: `pickle_limits`, `allowed` (with `numpy_calls`), `decoding` of the items
- `isolation` keeps all of it out of the contexts that the user's code has switched on
"""

from __future__ import annotations

from .filesystem import OssDCPFileSystem
from .folder import HashedPrefixes, RoundRobinPrefixes
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
