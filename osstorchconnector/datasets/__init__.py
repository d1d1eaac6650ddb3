"""Objects as torch datasets, assembled from the datapipes: `iterable`, `map` with its `sampler`, `object_dataset`."""

from __future__ import annotations

from ..datapipes.state import merge_states
from .iterable import OssIterableDataset
from .map import OssMapDataset
from .sampler import ResumableSampler

__all__ = ["OssIterableDataset", "OssMapDataset", "ResumableSampler", "merge_states"]
