"""What the tests of distributed checkpoints share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from osstorchconnector.client.client import OssClient
from osstorchconnector.dcp import OssDCPFileSystem
from osstorchconnector.testing import OssBucket


@pytest.fixture
def fs(oss_bucket: OssBucket) -> OssDCPFileSystem:
    """The bucket as a file system for checkpoints; files are sent in parts as small as OSS takes them."""
    return OssDCPFileSystem(OssClient(**oss_bucket.options))


def as_torch_tells(words: str) -> str:
    """Return what stands in torch's error when our reader finds no checkpoint and says so in `words`."""
    # Before 2.12 torch takes the reader's error for a sign that each rank has its own metadata, and drops it.
    return words if tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 12) else "metadata is None"


def names(bucket: OssBucket, ending: str = "") -> list[str]:
    """Return the bucket's keys, those with this ending."""
    return list(filter(lambda key: key.endswith(ending), bucket.keys()))


def download(bucket: OssBucket, prefix: str, folder: Path) -> Path:
    """Copy all objects below `prefix` to a folder, with any client's means."""
    for key in names(bucket):
        if key.startswith(prefix):
            path = folder / key[len(prefix) :]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(bucket.get(key))
    return folder


def upload(bucket: OssBucket, prefix: str, folder: Path) -> str:
    """Copy a folder's files to objects below `prefix`; return the URI."""
    for path in folder.rglob("*"):
        if path.is_file():
            bucket.put(prefix + path.relative_to(folder).as_posix(), path.read_bytes())
    return bucket.uri + prefix
