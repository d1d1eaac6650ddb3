"""`osstorchconnector.oss_map_dataset` of 1.2.3."""

from __future__ import annotations

from .datapipes.fetcher import identity
from .datasets.map import OssMapDataset

__all__ = ["OssMapDataset", "identity"]
