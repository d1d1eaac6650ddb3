"""A client whose parts are small, and writers over it: for the tests of writers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

from files.fake_client import URI, FakeClient

from osstorchconnector.config import Config, TransferConfig
from osstorchconnector.files.part_sizes import KIB, MIB
from osstorchconnector.files.writer import OssWriter

PART = 100 * KIB
OLD = b"what was there before"
CONFIG = Config(part_bytes=PART, upload_memory_bytes=MIB)
TRANSFER = TransferConfig(prefetch_worker=1, upload_concurrency=3)
DATA = random.Random(3).randbytes(10 * PART + 17)


@contextmanager
def client_with_small_parts() -> Iterator[FakeClient]:
    """A client with an object in its bucket that writers are to replace."""
    fake = FakeClient(CONFIG)
    fake.store(URI, OLD)
    yield fake
    fake.close()


def writer_of(client: FakeClient, transfer: TransferConfig = TRANSFER) -> OssWriter:
    return OssWriter(client, URI, transfer=transfer)


def stored(client: FakeClient) -> bytes:
    return client.objects[URI].data
