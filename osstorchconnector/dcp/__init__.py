"""Distributed checkpoints on OSS, in torch's own format: for `torch.distributed.checkpoint`.

How a save flows, from a rank's plan to a checkpoint:

    writer --> saving --> data_files --> OSS                    each rank writes its data files;
      |                   tensors, archive                      a tensor is a head, its memory, a tail: no copy
      '------> publishing --> metadata --> OSS                  the coordinator puts `.metadata`: now it exists

How a load flows, from a checkpoint to a rank's tensors:

    reader --> folder --> metadata <-- OSS                      what is in the checkpoint, and where;
      |                   pickle_limits, allowed                a pickle is checked before it is believed
      '------> loading --> segments --> fetching <-- OSS        which ranges to ask for, several at a time
                  '------> load_item --> tensors, archive       one item: its bytes are checked, its target filled

The modules, in the order in which to read them:

- public: `writer` and `reader` (what they share is `storage`), `filesystem`, `manager` (of a `run`'s checkpoints)
- `whole`: what a checkpoint holds, whether all of it can be read, and all of it as one object
- `stager` copies the state for `dcp.async_save`
- names: `folder`; `cleaning` removes what saves left that did not finish
- saving: `saving`, `data_files`, `publishing`
- loading: `loading`, `segments`, `fetching`, `load_item`, and `decoding` for items out of the ordinary
- formats: `tensors`, `archive`, `metadata`
- `torch_dcp` has what older versions of torch lack
- pickles are not trusted: `pickle_limits`, `allowed` (with `numpy_calls`)
"""

from __future__ import annotations

from .filesystem import OssDCPFileSystem
from .folder import HashedPrefixes, RoundRobinPrefixes
from .manager import OssCheckpointManager
from .metadata import UnsafePickleError
from .reader import OssStorageReader
from .stager import OssStager
from .whole import WholeCheckpoint
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
    "WholeCheckpoint",
]
