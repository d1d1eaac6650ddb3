"""What the tests of readers and writers share: a client whose bucket is in memory, and real ones on the emulator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from files.fake_client import FakeClient
from files.on_oss import client_of

from osstorchconnector.client.client import OssClient
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import OssUri


@pytest.fixture
def client() -> Iterator[FakeClient]:
    """A client of its own for the test."""
    fake = FakeClient()
    yield fake
    fake.close()


@pytest.fixture(scope="module")
def shared_client() -> Iterator[FakeClient]:
    """One client for a whole module: hypothesis makes too many examples for one each."""
    fake = FakeClient()
    yield fake
    fake.close()


@pytest.fixture(params=["direct", "aiohttp"])
def oss_client(request: pytest.FixtureRequest, oss_bucket: OssBucket, tmp_path: Path) -> Iterator[OssClient]:
    """A real client of the emulator, on each transport."""
    opened = client_of(oss_bucket, tmp_path, transport=request.param)
    yield opened
    opened.close()


@pytest.fixture
def uri(oss_bucket: OssBucket) -> OssUri:
    """An object in the test's bucket; it need not be there."""
    return OssUri(oss_bucket.name, "folder/object")
