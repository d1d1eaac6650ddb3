"""A pytest plugin: an OSS server for your own tests. It comes with the package; nothing is started until it is used.

- `oss_server` (session): a running emulator, `osstorchconnector.emulator.Emulator`, with faults and counters
- `oss_bucket` (each test): a new, empty bucket on it, and what our classes need to get there

    def test_training_reads_every_image(oss_bucket):
        oss_bucket.put("images/1.png", PNG)
        dataset = OssIterableDataset.from_prefix(oss_bucket.uri + "images/", **oss_bucket.options)
        assert [item.size for item in dataset] == [len(PNG)]
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .emulator import Emulator

__all__ = ["OssBucket", "oss_bucket", "oss_server"]

_numbers = itertools.count(1)


@dataclass(frozen=True)
class OssBucket:
    """A bucket of a running emulator. Its methods go past signatures, faults and counters."""

    server: Emulator
    name: str
    cred_path: str

    @property
    def uri(self) -> str:
        """`oss://name/`: a key put behind it is an object's URI."""
        return f"oss://{self.name}/"

    @property
    def endpoint(self) -> str:
        """The server's address, `http://127.0.0.1:port`."""
        return self.server.endpoint

    @property
    def region(self) -> str:
        """The region that requests are signed for."""
        return self.server.region

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments with which our classes find the bucket: endpoint, credential file and region."""
        return {"endpoint": self.endpoint, "cred_path": self.cred_path, "region": self.region}

    def put(self, key: str, data: bytes | bytearray | memoryview) -> str:
        """Store an object and return its URI."""
        self.server.put(self.name, key, data)
        return self.uri + key

    def get(self, key: str) -> bytes:
        """Return an object's bytes; `KeyError` if there is no such object."""
        return self.server.get(self.name, key)

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        self.server.delete(self.name, key)

    def keys(self) -> list[str]:
        """Return all keys in UTF-8 byte order."""
        return self.server.keys(self.name)


@pytest.fixture(scope="session")
def oss_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulated OSS server that lasts as long as the test run.

    From then on, classes without `config_path` use no settings of this machine and write no log files, unless the
    environment variable OSS_CONNECTOR_CONFIG is set.
    """
    from .config import CONFIG_VARIABLE
    from .emulator import serve

    settings = tmp_path_factory.mktemp("oss") / "config.json"
    settings.write_text('{"logPath": "", "auditPath": ""}')
    with pytest.MonkeyPatch.context() as environment, serve() as server:
        environment.setenv(CONFIG_VARIABLE, os.environ.get(CONFIG_VARIABLE) or str(settings))
        yield server


@pytest.fixture
def oss_bucket(oss_server: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OssBucket]:
    """A new, empty bucket; the server's faults, counters, clock, credentials and rules are as at its start.

    What this process has learnt of the server (to ask it more slowly, to retry less) is forgotten, too.
    """
    from .client.traffic import shared

    oss_server.reset()
    shared.forget()
    name = f"test-{next(_numbers)}"
    oss_server.create_bucket(name)
    yield OssBucket(oss_server, name, oss_server.credentials_file(tmp_path_factory.mktemp("oss")))
    oss_server.remove_bucket(name)
