"""Objects as torch datasets, made of the datapipes.

`object_dataset`   from_prefix, from_objects, from_manifest_file, from_index: where the objects come from
    v              `shown`: what a person sees of them
`iterable`         a stream: shared out among workers and ranks, resumable
`map`              by number, in batches; `sampler` says which numbers come, shuffled, shared out and resumable
"""

from __future__ import annotations

from ..datapipes.state import merge_states
from .iterable import OssIterableDataset
from .map import OssMapDataset
from .sampler import ResumableSampler

__all__ = ["OssIterableDataset", "OssMapDataset", "ResumableSampler", "merge_states"]
