"""`osstorchconnector.oss_checkpoint` of 1.2.3."""

from __future__ import annotations

from .checkpoint import OssCheckpoint

__all__ = ["OssCheckpoint"]
