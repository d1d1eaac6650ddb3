"""What the tests of readers and writers share: a client whose bucket is in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from objects.fake_client import FakeClient


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
