"""`osstorchconnector.oss_safetensor` of 1.2.3."""

from __future__ import annotations

from .safetensors import OssSafetensor

__all__ = ["OssSafetensor"]
