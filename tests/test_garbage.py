"""What ends or goes wrong leaves no cycles behind: frames and answers would live until they are collected."""

from __future__ import annotations

import gc
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from loaders import needs_torch

import osstorchconnector
from osstorchconnector import OssCheckpoint, OssIterableDataset
from osstorchconnector.client.attempts import DocumentAttempt, GetAttempt, UploadAttempt
from osstorchconnector.client.engine import engine
from osstorchconnector.dcp import OssStorageWriter
from osstorchconnector.errors import OssError, OssNotFoundError
from osstorchconnector.testing import OssBucket

MIB = 1 << 20
REQUESTS = (DocumentAttempt, GetAttempt, UploadAttempt)
OURS = str(Path(osstorchconnector.__file__).parent)


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def no_work() -> None:
    """Do nothing."""


def left() -> list[str]:
    """Return which frames and requests of the library only a garbage collection can free."""
    for thread in engine.running():
        thread.run(no_work())  # what was under way on the loops has ended
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        frames = [one for one in gc.garbage if isinstance(one, types.FrameType)]
        places = [f"{frame.f_code.co_filename}:{frame.f_lineno}" for frame in frames]
        requests = [type(one).__name__ for one in gc.garbage if isinstance(one, REQUESTS)]
        return sorted([place for place in places if OURS in place] + requests)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
        gc.collect()


def read_what_is_not_there(bucket: OssBucket) -> None:
    try:
        OssCheckpoint(**bucket.options).reader(f"{bucket.uri}missing").read()
    except OssNotFoundError:
        pass


def iterate_over_what_is_not_there(bucket: OssBucket) -> None:
    dataset = OssIterableDataset.from_objects([f"{bucket.uri}missing"], **bucket.options)
    try:
        list(dataset)
    except OssNotFoundError:
        pass


def read_what_breaks_off(bucket: OssBucket) -> None:
    bucket.put("k", bytes(8 * MIB))
    bucket.server.fail("GetObject", "reset_body", at=30_000, times=3)
    with OssCheckpoint(**bucket.options).reader(f"{bucket.uri}k") as reader:
        assert len(reader.read()) == 8 * MIB


def read_what_is_forbidden_after_a_while(bucket: OssBucket) -> None:
    bucket.put("k", bytes(8 * MIB))
    bucket.server.fail("GetObject", "AccessDenied", after=2)
    reader = OssCheckpoint(**bucket.options).reader(f"{bucket.uri}k")
    try:
        while reader.read(MIB // 4):
            pass
    except OssError:
        pass
    try:
        reader.read(4 * MIB)
    except OssError:
        pass
    reader.close()


def write_where_no_bucket_is(bucket: OssBucket) -> None:
    checkpoint = OssCheckpoint(**bucket.options)
    for size in (1, 20 * MIB):
        try:
            with checkpoint.writer("oss://no-such-bucket/k") as writer:
                writer.write(bytes(size))
        except OssError:
            pass


def discard_a_write(bucket: OssBucket) -> None:
    with OssCheckpoint(**bucket.options).writer(f"{bucket.uri}k") as writer:
        writer.write(bytes(40 * MIB))
        writer.discard()


def read_a_listing(bucket: OssBucket, *, to_its_end: bool = True) -> None:
    bucket.server.fill(bucket.name, "a/{:05}", 3000, b"data")
    items = iter(OssIterableDataset.from_prefix(f"{bucket.uri}a/", **bucket.options))
    next(items)
    if to_its_end:
        assert len(list(items)) == 2999


def break_off_a_listing(bucket: OssBucket) -> None:
    read_a_listing(bucket, to_its_end=False)
    for thread in threading.enumerate():
        if thread.name == "oss-index":
            thread.join()


def save_for_the_first_time(bucket: OssBucket) -> None:
    dcp.save({"a": torch.ones(3)}, storage_writer=OssStorageWriter(f"{bucket.uri}c", **bucket.options))


@pytest.mark.parametrize(
    "work",
    [
        read_what_is_not_there,
        iterate_over_what_is_not_there,
        read_what_breaks_off,
        read_what_is_forbidden_after_a_while,
        write_where_no_bucket_is,
        discard_a_write,
        read_a_listing,
        break_off_a_listing,
        pytest.param(save_for_the_first_time, marks=needs_torch(2, 3)),
    ],
)
def test_nothing_waits_for_the_garbage_collector(oss_bucket: OssBucket, work: Callable[[OssBucket], None]) -> None:
    work(oss_bucket)
    assert left() == []
