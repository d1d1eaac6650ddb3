"""A checkpoint exists when `.metadata` does: what happens before, instead of and after it."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.conftest import as_torch_tells, names
from dcp.states import differences
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner

from osstorchconnector.client.client import OssClient
from osstorchconnector.dcp import OssDCPFileSystem
from osstorchconnector.emulator import Counters
from osstorchconnector.errors import OssUsageError
from osstorchconnector.testing import OssBucket

TWO = {"weight": torch.ones(300, 300), "other": torch.arange(9_000_000.0)}
OLD, NEW = {"weight": torch.zeros(300, 300)}, {"weight": torch.ones(300, 300)}


def loaded(fs: OssDCPFileSystem, uri: str) -> dict[str, torch.Tensor]:
    target = {"weight": torch.full((300, 300), 5.0)}
    dcp.load(target, storage_reader=fs.reader(uri))
    return target


def test_metadata_is_put_last_and_at_once(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    dcp.save(OLD, storage_writer=fs.writer(oss_bucket.uri + "ckpt", thread_count=2))
    writes = [entry for entry in oss_bucket.server.counters().log if entry.method in ("PUT", "POST")]
    assert writes[-1].key == "ckpt/.metadata"
    assert [entry.operation for entry in writes if entry.key == "ckpt/.metadata"] == ["PutObject"]


def test_overwriting_replaces_the_old_checkpoint_and_removes_its_data(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    uri = oss_bucket.uri + "ckpt"
    dcp.save(OLD, storage_writer=fs.writer(uri))
    before = names(oss_bucket, ".distcp")
    dcp.save(NEW, storage_writer=fs.writer(uri))
    after = names(oss_bucket, ".distcp")
    assert set(before).isdisjoint(after)
    assert len(after) == 1
    assert differences(NEW, loaded(fs, uri)) == []


def test_while_overwriting_the_old_one_loads_until_metadata_is_replaced(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    uri = oss_bucket.uri + "ckpt"
    dcp.save(OLD, storage_writer=fs.writer(uri))
    oss_bucket.server.fail("PutObject", "AccessDenied", key="ckpt/.metadata")
    with pytest.raises(CheckpointException, match="ckpt/.metadata"):
        dcp.save(NEW, storage_writer=fs.writer(uri))
    assert differences(OLD, loaded(fs, uri)) == []
    oss_bucket.server.clear_faults()
    oss_bucket.server.fail("DeleteMultipleObjects", "AccessDenied")
    dcp.save(NEW, storage_writer=fs.writer(uri))
    assert differences(NEW, loaded(fs, uri)) == []


def test_an_id_that_exists_is_refused_without_overwriting(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    uri = oss_bucket.uri + "ckpt"
    dcp.save(OLD, storage_writer=fs.writer(uri))
    with pytest.raises(CheckpointException, match="Checkpoint already exists.*overwrite=False"):
        dcp.save(NEW, storage_writer=fs.writer(uri, overwrite=False))
    assert differences(OLD, loaded(fs, uri)) == []


def test_a_save_without_collectives_refuses_an_id_that_exists(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    uri = oss_bucket.uri + "ckpt"
    dcp.save(OLD, storage_writer=fs.writer(uri), use_collectives=False)
    assert names(oss_bucket, "__0.metadata") == ["ckpt/__0.metadata"]
    assert differences(OLD, loaded(fs, uri)) == []
    with pytest.raises(Exception, match="without collectives"):
        dcp.save(NEW, storage_writer=fs.writer(uri), use_collectives=False)
    assert differences(OLD, loaded(fs, uri)) == []


def test_a_save_that_fails_leaves_nothing(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    oss_bucket.server.fail("PutObject", "AccessDenied", after=1)
    state = {f"weight {number}": torch.ones(200, 200) for number in range(4)}
    with pytest.raises(CheckpointException, match="AccessDenied"):
        dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt", thread_count=4))
    assert names(oss_bucket) == []
    assert oss_bucket.server.uploads(oss_bucket.name) == []


def test_an_object_that_cant_be_pickled_leaves_nothing(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    state = {"lock": threading.Lock(), "large": torch.ones(10_000_000)}
    with pytest.raises(CheckpointException, match="lock"):
        dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    assert names(oss_bucket) == []
    assert oss_bucket.server.uploads(oss_bucket.name) == []


def test_what_was_written_but_not_published_goes_at_the_next_reset(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    writer = fs.writer(oss_bucket.uri + "ckpt")
    oss_bucket.server.fail("PutObject", "AccessDenied", key="ckpt/.metadata")
    with pytest.raises(CheckpointException):
        dcp.save(OLD, storage_writer=writer)
    assert len(names(oss_bucket)) == 1
    writer.reset(oss_bucket.uri + "next")
    assert names(oss_bucket) == []


def test_what_was_published_stays_at_the_next_reset(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    writer = fs.writer(oss_bucket.uri + "ckpt")
    dcp.save(OLD, storage_writer=writer)
    dcp.save(NEW, checkpoint_id=oss_bucket.uri + "next", storage_writer=writer)
    assert differences(OLD, loaded(fs, oss_bucket.uri + "ckpt")) == []
    assert differences(NEW, loaded(fs, oss_bucket.uri + "next")) == []


def test_a_checkpoint_without_metadata_is_refused_in_words(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    dcp.save(OLD, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    oss_bucket.delete("ckpt/.metadata")
    with pytest.raises(CheckpointException, match=as_torch_tells("has not finished, or never will")):
        loaded(fs, oss_bucket.uri + "ckpt")
    with pytest.raises(CheckpointException, match=as_torch_tells("there is no checkpoint at")):
        loaded(fs, oss_bucket.uri + "nothing")


def test_whatever_request_of_a_save_is_the_last_one_a_whole_checkpoint_loads(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    """As if the process were killed after one request, after two, and so on: its own clearing up reaches nobody."""
    uri = oss_bucket.uri + "ckpt"
    options: dict[str, Any] = {"thread_count": 2}
    dcp.save(OLD, storage_writer=fs.writer(uri, **options))
    outcomes = []
    for count in itertools.count():
        oss_bucket.server.fail("", "AccessDenied", after=count)
        with contextlib.suppress(CheckpointException):
            dcp.save(TWO, storage_writer=fs.writer(uri, **options))
        struck = oss_bucket.server.counters(with_log=False).faults["AccessDenied"]
        oss_bucket.server.clear_faults()
        oss_bucket.server.reset_counters()
        target = {"weight": torch.full((300, 300), 5.0)}
        dcp.load(target, storage_reader=fs.reader(uri))
        outcomes.append(int(target["weight"].unique().item()))
        fs.clean(oss_bucket.uri, older_than=0)
        dcp.load(target, storage_reader=fs.reader(uri))
        assert oss_bucket.server.uploads(oss_bucket.name) == []
        if not struck:
            break
    assert outcomes == sorted(outcomes)  # the old one up to some request, the new one from there on
    assert set(outcomes) == {0, 1}
    assert len(names(oss_bucket)) == 3


KILLED_SAVE = """
import sys, torch, torch.distributed.checkpoint as dcp
from osstorchconnector.dcp import OssStorageWriter
endpoint, cred_path, region, uri = sys.argv[1:]
state = {f"weight {number}": torch.full((1000, 1000), float(number)) for number in range(24)}
print("saving", flush=True)
dcp.save(state, storage_writer=OssStorageWriter(uri, endpoint=endpoint, cred_path=cred_path, region=region))
"""


def is_under_way(counters: Counters, operation: str) -> bool:
    return bool(counters.concurrency[operation] or counters.errors[operation])


@pytest.mark.parametrize(
    ("operation", "fault", "options"),
    [
        ("UploadPart", "stall_upload", {"at": 1000, "after": 2}),
        ("CompleteMultipartUpload", "stall_head", {}),
        ("PutObject", "503", {}),
    ],
)
def test_a_save_killed_at_any_moment_leaves_the_old_checkpoint(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, operation: str, fault: str, options: dict[str, Any]
) -> None:
    uri = oss_bucket.uri + "ckpt"
    dcp.save(OLD, storage_writer=fs.writer(uri))
    oss_bucket.server.fail(operation, fault, **options)
    arguments = [*oss_bucket.options.values(), uri]
    command = [sys.executable, "-W", "ignore", "-c", KILLED_SAVE, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"saving\n"
        while not is_under_way(oss_bucket.server.counters(with_log=False), operation):
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    oss_bucket.server.clear_faults()
    assert differences(OLD, loaded(fs, uri)) == []
    left = fs.clean(oss_bucket.uri, older_than=0.0)
    assert differences(OLD, loaded(fs, uri)) == []
    assert left
    assert len(names(oss_bucket)) == 2
    assert oss_bucket.server.uploads(oss_bucket.name) == []


def test_a_writer_that_is_saving_refuses_to_be_reset(oss_bucket: OssBucket) -> None:
    fs = OssDCPFileSystem(OssClient(**oss_bucket.options))
    writer = fs.writer(oss_bucket.uri + "ckpt")
    errors: list[Exception] = []

    def reset(done_bytes: int, total_bytes: int) -> None:
        thread = threading.Thread(target=try_to_reset)
        thread.start()
        thread.join()

    def try_to_reset() -> None:
        try:
            writer.reset(oss_bucket.uri + "other")
        except OssUsageError as error:
            errors.append(error)

    writer = fs.writer(oss_bucket.uri + "ckpt", progress=reset)
    dcp.save(OLD, storage_writer=writer)
    assert "still saving" in str(errors[0])
    assert writer.checkpoint_id == oss_bucket.uri + "ckpt"


def test_a_writer_whose_data_is_stored_and_not_published_refuses_to_be_reset(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    """What it would clear away then is about to be published."""
    writer, planner = fs.writer(oss_bucket.uri + "ckpt"), DefaultSavePlanner()
    is_stored, may_publish = threading.Event(), threading.Event()

    def save() -> None:
        planner.set_up_planner(dict(OLD), is_coordinator=True)
        writer.set_up_storage_writer(True)
        plans, metadata = planner.create_global_plan([writer.prepare_local_plan(planner.create_local_plan())])
        (plan,) = writer.prepare_global_plan(plans)
        results = writer.write_data(planner.finish_plan(plan), planner).value()
        is_stored.set()
        may_publish.wait()
        writer.finish(metadata, [results])

    with ThreadPoolExecutor() as pool:
        saving = pool.submit(save)
        is_stored.wait()
        with pytest.raises(OssUsageError, match="still saving"):
            writer.reset(oss_bucket.uri + "next")
        may_publish.set()
        saving.result()
        writer.reset(oss_bucket.uri + "next")
    assert differences(OLD, loaded(fs, oss_bucket.uri + "ckpt")) == []


def test_async_save_returns_while_the_server_keeps_the_save_waiting(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    uri, state = oss_bucket.uri + "ckpt", {"weight": NEW["weight"].clone()}
    oss_bucket.server.fail("PutObject", "stall_head")
    writer = fs.writer(uri)
    saving = dcp.async_save(state, storage_writer=writer)
    assert isinstance(saving, Future)
    state["weight"].zero_()  # training goes on
    assert not saving.done()
    oss_bucket.server.clear_faults()
    saving.result()
    assert differences(NEW, loaded(fs, uri)) == []


def test_the_error_of_an_asynchronous_save_is_its_futures(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    oss_bucket.server.fail("PutObject", "AccessDenied", prefix="ckpt/__0_0")
    saving = dcp.async_save(dict(OLD), storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    assert isinstance(saving, Future)
    with pytest.raises(CheckpointException, match=r"ckpt/__0_0\..*AccessDenied"):
        saving.result()


@pytest.mark.parametrize("options", [{"overwrite": False}, {}], ids=str)
def test_metadata_whose_answer_was_lost_is_published_all_the_same(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, options: dict[str, Any]
) -> None:
    uri = oss_bucket.uri + "ckpt"
    oss_bucket.server.fail("PutObject", "lost_answer", key="ckpt/.metadata", times=1)
    dcp.save(OLD, storage_writer=fs.writer(uri, **options))
    assert differences(OLD, loaded(fs, uri)) == []
