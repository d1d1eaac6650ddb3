"""`osstorchconnector._oss_client` of 1.2.3, a private module that programs import all the same."""

from __future__ import annotations

from .compat.client import OssClient
from .files.data_object import DataObject

__all__ = ["DataObject", "OssClient"]
