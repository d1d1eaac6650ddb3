"""Objects as torch datasets, assembled from the datapipes."""

from __future__ import annotations

from .iterable import OssIterableDataset
from .map import OssMapDataset
from .state import merge_states

__all__ = ["OssIterableDataset", "OssMapDataset", "merge_states"]
