"""What the tests of the file system share: one of its own for each test, on the emulator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from files.on_oss import config_file

from osstorchconnector.filesystem.core import OssFileSystem
from osstorchconnector.testing import OssBucket


@pytest.fixture
def fs(oss_bucket: OssBucket, tmp_path: Path) -> Iterator[OssFileSystem]:
    """A file system that sends parts of 100 KiB."""
    made = OssFileSystem(config_path=config_file(tmp_path, partSize=102400), **oss_bucket.options)
    yield made
    OssFileSystem.clear_instance_cache()
    made.client.close()


@pytest.fixture
def root(oss_bucket: OssBucket) -> str:
    """The bucket, as a path."""
    return oss_bucket.name
