"""Metadata that is there and can't be read is not missing: nobody is told to load another checkpoint, or given one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.conftest import as_torch_tells
from files.on_oss import client_of
from torch.distributed.checkpoint.api import CheckpointException

from osstorchconnector.dcp import OssCheckpointManager, OssDCPFileSystem
from osstorchconnector.errors import OssError, OssIntegrityError, OssNotFoundError, OssPermissionError
from osstorchconnector.testing import OssBucket

UNREADABLE = [
    ("AccessDenied", {}, "403 AccessDenied"),
    ("500", {}, "500 InternalError"),
    ("InvalidObjectState", {"status": 403}, "403 InvalidObjectState"),  # archived
    ("reset", {}, "connection"),
    ("flip", {"at": 5}, "CRC-64"),
]
NOT_SAID = ("no metadata", "has not finished", "earlier checkpoint", "there is no checkpoint")


@pytest.fixture
def fs(oss_bucket: OssBucket, tmp_path: Path) -> OssDCPFileSystem:
    return OssDCPFileSystem(client_of(oss_bucket, tmp_path, maxAttempts=3))


def state(number: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((10,), number)}


def error_of(fs: OssDCPFileSystem, uri: str) -> str:
    with pytest.raises(CheckpointException) as raised:
        dcp.load(state(0), storage_reader=fs.reader(uri))
    text = str(raised.value)
    assert not [words for words in NOT_SAID if words in text]
    return text


@pytest.mark.parametrize(("fault", "options", "words"), UNREADABLE)
def test_the_error_is_that_of_reading(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, caplog: Any, fault: str, options: dict[str, Any], words: str
) -> None:
    dcp.save(state(1), storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    oss_bucket.server.fail("GetObject", fault, key="ckpt/.metadata", **options)
    assert as_torch_tells(words) in error_of(fs, oss_bucket.uri + "ckpt")
    assert "the metadata of oss://" in caplog.text
    assert words in caplog.text


def test_damaged_metadata_is_called_so(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    dcp.save(state(1), storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    oss_bucket.put("ckpt/.metadata", oss_bucket.get("ckpt/.metadata")[:-20])
    assert as_torch_tells("not the metadata of a distributed checkpoint") in error_of(fs, oss_bucket.uri + "ckpt")


def test_metadata_of_ranks_is_not_read_in_its_place(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    dcp.save(state(1), storage_writer=fs.writer(oss_bucket.uri + "ckpt"), use_collectives=False)
    oss_bucket.put("ckpt/.metadata", b"damaged")
    error_of(fs, oss_bucket.uri + "ckpt")


def test_what_was_unreadable_once_is_read_the_next_time(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    dcp.save(state(1), storage_writer=fs.writer(oss_bucket.uri + "a"), use_collectives=False)
    dcp.save(state(2), storage_writer=fs.writer(oss_bucket.uri + "b"), use_collectives=False)
    reader, target = fs.reader(oss_bucket.uri + "a"), state(0)
    oss_bucket.server.fail("GetObject", "AccessDenied", key="a/.metadata")
    with pytest.raises(OssPermissionError):
        reader.read_metadata()
    reader.reset(oss_bucket.uri + "b")
    dcp.load(target, storage_reader=reader)
    assert target["weight"][0] == 2


def test_a_rank_without_metadata_hears_that_others_have_some(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    dcp.save(state(1), storage_writer=fs.writer(oss_bucket.uri + "ckpt"), use_collectives=False)
    with pytest.raises(OssNotFoundError, match="metadata of 1 ranks: it was saved with use_collectives=False"):
        fs.reader(oss_bucket.uri + "ckpt").read_metadata(rank=7)


def test_what_is_there_instead_is_not_guessed_at_where_it_cant_be_listed(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    oss_bucket.server.fail("ListObjectsV2", "AccessDenied")
    with pytest.raises(OssNotFoundError, match="can't be listed: .*AccessDenied"):
        fs.reader(oss_bucket.uri + "ckpt").read_metadata()


@pytest.mark.parametrize("fault", ["AccessDenied", "500"])
@pytest.mark.parametrize("operation", ["HeadObject", "GetObject"])
def test_a_manager_goes_to_no_earlier_step(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, operation: str, fault: str
) -> None:
    manager, target = OssCheckpointManager(fs, oss_bucket.uri + "run"), state(0)
    for step in (1, 2):
        manager.save(step, state(step))
    oss_bucket.server.fail(operation, fault, key="run/step-0000000002/.metadata")
    with pytest.raises((OssError, CheckpointException)):
        manager.load(target)
    assert target["weight"][0] == 0
    if operation == "HeadObject":
        with pytest.raises(OssError):
            manager.latest()


def test_a_manager_says_that_the_newest_step_is_damaged(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    manager, target = OssCheckpointManager(fs, oss_bucket.uri + "run"), state(0)
    for step in (1, 2):
        manager.save(step, state(step))
    oss_bucket.put("run/step-0000000002/.metadata", b"damaged")
    with pytest.raises(CheckpointException, match=as_torch_tells(r"step-0000000002/\.metadata: not the metadata")):
        manager.load(target)
    assert manager.load(target, 1) == 1


def test_a_save_over_metadata_that_may_not_be_read_fails_and_leaves_it(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    dcp.save(state(1), storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    oss_bucket.server.fail("GetObject", "AccessDenied", key="ckpt/.metadata")
    with pytest.raises(CheckpointException, match="AccessDenied"):
        dcp.save(state(2), storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    oss_bucket.server.clear_faults()
    target = state(0)
    dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    assert target["weight"][0] == 1


def test_cleaning_raises_where_metadata_may_not_be_read(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    dcp.save(state(1), storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    oss_bucket.put("ckpt/.metadata", b"damaged")
    with pytest.raises(OssIntegrityError):
        fs.clean(oss_bucket.uri, older_than=0.0)
    assert len(oss_bucket.keys()) == 2
