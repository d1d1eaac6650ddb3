from __future__ import annotations

from collections.abc import Iterator

import fsspec
import fsspec.config
import pytest

from osstorchconnector import OssFileSystem
from osstorchconnector.testing import OssBucket


@pytest.fixture
def settled(oss_bucket: OssBucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings where fsspec finds them: Lightning asks it for the file system without any."""
    monkeypatch.setitem(fsspec.config.conf, "oss", oss_bucket.options)
    fsspec.register_implementation("oss", OssFileSystem, clobber=True)
    yield
    OssFileSystem.clear_instance_cache()
