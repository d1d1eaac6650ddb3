"""`osstorchconnector.oss_iterable_dataset` of 1.2.3."""

from __future__ import annotations

from .datapipes.fetcher import identity
from .datapipes.manifest import imagenet_manifest_parser
from .datasets.iterable import OssIterableDataset

__all__ = ["OssIterableDataset", "identity", "imagenet_manifest_parser"]
