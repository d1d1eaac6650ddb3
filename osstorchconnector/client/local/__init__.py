"""Files of this machine as objects: what a client with `endpoint=""` works on.

The bucket is the first folder of an absolute path, the key is the rest: `/data/train/a.png` is the object `train/a.png`
of the bucket `data`. So programs can be tried without OSS. `LocalOperations` stands where `Operations` stands
otherwise; all above it (datasets, files, checkpoints) is the same.

- `operations` does with files what `Operations` does with objects
- `folders` says which file an object is, what errors of files mean, and lists folders as OSS lists
"""

from __future__ import annotations

from .operations import LocalOperations

__all__ = ["LocalOperations"]
