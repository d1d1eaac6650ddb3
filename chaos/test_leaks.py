"""Memory, threads, sockets and files after many epochs, saves and loads in one process, some of which fail."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from chaos.checkpoints import Checkpoints, is_same, weights
from chaos.held import held_by
from chaos.weather import bad_weather, configured
from osstorchconnector import OssCheckpoint, OssIterableDataset, OssNotFoundError
from osstorchconnector.client.traffic import shared
from osstorchconnector.testing import OssBucket

pytestmark = pytest.mark.timeout(600)

SEED = int(os.environ["OSS_CHAOS_SEED"])
EPOCHS = 20


@pytest.mark.parametrize("work", ["read", "save and load"])
def test_memory_threads_sockets_and_files_are_where_they_began(
    oss_bucket: OssBucket, tmp_path: Path, summary: Callable[[str], None], work: str
) -> None:
    oss_bucket.server.fill(oss_bucket.name, "samples/{:05}", 500, b"x" * 5000)
    options = configured(oss_bucket, tmp_path)
    bad_weather(oss_bucket, SEED, whole_objects="samples/")
    do = {"read": read, "save and load": save_and_load}[work]
    for _ in range(5):
        do(oss_bucket, options)
    before = held_by()
    for _ in range(EPOCHS):
        do(oss_bucket, options)
        shared.forget()
    deadline = time.monotonic() + 10
    while held_by().sockets > before.sockets + 2 and time.monotonic() < deadline:
        time.sleep(0.1)  # connections of dropped clients are closed on their loops
    after = held_by()
    summary(f"to {work} {EPOCHS} times: before {before}; after {after}")
    assert after.files <= before.files + 2
    assert after.sockets <= before.sockets + 2
    assert after.threads <= before.threads
    assert after.mebibytes <= before.mebibytes + 20


def read(bucket: OssBucket, options: dict[str, str]) -> None:
    assert sum(1 for _ in OssIterableDataset.from_prefix(bucket.uri + "samples/", **options)) == 500
    with pytest.raises(OssNotFoundError):
        OssCheckpoint(**options).reader(bucket.uri + "missing").read()
    gc.collect()


def save_and_load(bucket: OssBucket, options: dict[str, str]) -> None:
    checkpoints = Checkpoints(bucket.uri, options)
    checkpoints.save(0, 0, None)
    assert is_same(checkpoints.load_dcp(checkpoints.save_dcp(0, 0)), weights(0, 0))
    with pytest.raises(ValueError, match="given up"):
        write_half(OssCheckpoint(**options), bucket.uri + "half")
    gc.collect()


def write_half(checkpoint: OssCheckpoint, uri: str) -> None:
    with checkpoint.writer(uri) as writer:
        writer.write(bytes(500 * 1024))
        raise ValueError("given up")
