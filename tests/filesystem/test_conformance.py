"""fsspec's own tests of file systems."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from typing import Any

import fsspec.tests.abstract as abstract
import pytest
from fsspec.implementations.local import LocalFileSystem

from osstorchconnector.filesystem.core import OssFileSystem


class Fixtures(abstract.AbstractFixtures):
    @pytest.fixture
    def fs(self, fs: OssFileSystem) -> OssFileSystem:
        return fs

    @pytest.fixture
    def local_fs(self) -> LocalFileSystem:
        return LocalFileSystem(auto_mkdir=True)

    @pytest.fixture
    def fs_path(self, root: str) -> str:
        return f"{root}/here"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return posixpath.join

    @pytest.fixture
    def fs_target(self, fs: OssFileSystem, fs_join: Any, fs_path: str) -> Iterator[str]:
        target = fs_join(fs_path, "target")
        yield target
        if fs.exists(target):
            fs.rm(target, recursive=True)

    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestCopy(abstract.AbstractCopyTests, Fixtures):
    pass


class TestGet(abstract.AbstractGetTests, Fixtures):
    pass


class TestPut(abstract.AbstractPutTests, Fixtures):
    pass


class TestOpen(abstract.AbstractOpenTests, Fixtures):
    pass


class TestPipe(abstract.AbstractPipeTests, Fixtures):
    pass
