"""`osstorchconnector.oss_dcp_filesystem` of 1.2.3."""

from __future__ import annotations

from .dcp import OssDCPFileSystem, OssStorageReader, OssStorageWriter

__all__ = ["OssDCPFileSystem", "OssStorageReader", "OssStorageWriter"]
