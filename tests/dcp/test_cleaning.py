from __future__ import annotations

import datetime
import time
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.conftest import names

from osstorchconnector.client.client import OssClient
from osstorchconnector.dcp import HashedPrefixes, OssDCPFileSystem, RoundRobinPrefixes
from osstorchconnector.dcp.cleaning import clean
from osstorchconnector.dcp.folder import new_token
from osstorchconnector.errors import OssIntegrityError, OssPermissionError, OssProtocolError, OssUsageError
from osstorchconnector.testing import OssBucket

HOUR = 3600.0
NOW = 1_700_000_000_000  # a token's time, which counts for nothing


def leftover(bucket: OssBucket, folder: str, *, token: str = "") -> str:
    """Put a file of a save that never finished."""
    key = f"{folder}__0_0.{token or new_token(NOW)}.distcp"
    bucket.put(key, b"data")
    return key


def cleaned(
    bucket: OssBucket, prefix: str = "", *, after_seconds: float = 2 * HOUR, older_than: float = HOUR
) -> list[str]:
    """Clean what is older than an hour, so many seconds from now by the server's clock."""
    bucket.server.set_clock(after_seconds)
    return clean(OssClient(**bucket.options), bucket.uri + prefix, older_than=older_than)


def test_what_a_dead_save_left_is_removed_and_named(oss_bucket: OssBucket) -> None:
    key = leftover(oss_bucket, "run/step-1/")
    assert cleaned(oss_bucket) == [oss_bucket.uri + key]
    assert names(oss_bucket) == []


def test_a_younger_save_is_left_alone(oss_bucket: OssBucket) -> None:
    key = leftover(oss_bucket, "run/step-1/")
    assert cleaned(oss_bucket, after_seconds=HOUR / 2) == []
    assert names(oss_bucket) == [key]


@pytest.mark.parametrize("older_than", ["1d", None, -1, float("nan"), datetime.timedelta(days=-1)], ids=str)
def test_what_is_no_age_removes_nothing(oss_bucket: OssBucket, older_than: Any) -> None:
    key = leftover(oss_bucket, "run/step-1/")
    with pytest.raises(OssUsageError, match="older_than must be a timedelta or a number of seconds"):
        cleaned(oss_bucket, after_seconds=0, older_than=older_than)
    assert names(oss_bucket) == [key]


def test_checkpoints_are_left_alone_wherever_their_files_are(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    state = {"weight": torch.ones(10)}
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "run/a"))
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "run/b", prefix_strategy=HashedPrefixes()))
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "run/c"), use_collectives=False)
    before = names(oss_bucket)
    key = leftover(oss_bucket, "run/a/")
    assert cleaned(oss_bucket, "run/") == [oss_bucket.uri + key]
    assert names(oss_bucket) == before


def test_files_of_others_are_left_alone(oss_bucket: OssBucket) -> None:
    oss_bucket.put("run/__0_0.distcp", b"torch's own, and nobody knows when it began")
    oss_bucket.put("run/data.txt", b"something else")
    assert cleaned(oss_bucket) == []
    assert len(names(oss_bucket)) == 2


def test_nothing_is_removed_beside_metadata_that_cant_be_read(oss_bucket: OssBucket) -> None:
    leftover(oss_bucket, "run/")
    oss_bucket.put("run/.metadata", b"what is this?")
    with pytest.raises(OssIntegrityError, match=r"run/\.metadata"):
        cleaned(oss_bucket)
    assert len(names(oss_bucket)) == 2


def test_unfinished_uploads_are_aborted(oss_bucket: OssBucket) -> None:
    client = OssClient(**oss_bucket.options)
    ours = f"run/__0_0.{new_token(NOW)}.distcp"
    client.create_upload(oss_bucket.uri + ours)
    client.create_upload(oss_bucket.uri + "run/of somebody else")
    assert cleaned(oss_bucket) == [oss_bucket.uri + ours]
    assert [upload.key for upload in oss_bucket.server.uploads(oss_bucket.name)] == ["run/of somebody else"]


def test_the_age_may_be_a_timedelta(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    leftover(oss_bucket, "run/")
    assert fs.clean(oss_bucket.uri, older_than=datetime.timedelta(hours=1)) == []


def test_a_name_with_a_time_beyond_all_numbers_is_not_ours(oss_bucket: OssBucket) -> None:
    key = f"run/__0_0.{'f' * 400}-01234567.distcp"
    oss_bucket.put(key, b"data")
    assert cleaned(oss_bucket) == []
    assert names(oss_bucket) == [key]


@pytest.mark.parametrize("hours", [-30, 30])
def test_the_clock_of_this_machine_says_nothing(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    here = time.time
    monkeypatch.setattr(time, "time", lambda: here() + hours * HOUR)
    key = leftover(oss_bucket, "run/", token=new_token(int(time.time() * 1000)))
    assert fs.clean(oss_bucket.uri) == []
    assert fs.clean(oss_bucket.uri, older_than=60.0) == []
    oss_bucket.server.set_clock(25 * HOUR)
    assert fs.clean(oss_bucket.uri) == [oss_bucket.uri + key]


def test_a_save_lives_while_it_stores_parts_however_long_ago_it_began(oss_bucket: OssBucket) -> None:
    client, key = OssClient(**oss_bucket.options), f"run/__0_0.{new_token(NOW)}.distcp"
    upload_id = client.create_upload(oss_bucket.uri + key)
    for hours in range(1, 5):
        oss_bucket.server.set_clock(hours * HOUR)
        client.upload_part(oss_bucket.uri + key, upload_id, hours, bytes(100 * 1024))
        assert cleaned(oss_bucket, after_seconds=(hours + 0.9) * HOUR) == []
    assert cleaned(oss_bucket, after_seconds=5.1 * HOUR) == [oss_bucket.uri + key]


def test_a_file_that_is_stored_waits_for_the_other_files_of_its_save(oss_bucket: OssBucket) -> None:
    """Of one rank; another's is still being sent. Where a planner caches its plans their tokens differ."""
    client, token = OssClient(**oss_bucket.options), new_token(NOW)
    uploads = {}
    for folder, others_token in (("a/", token), ("b/", new_token(NOW))):
        leftover(oss_bucket, folder, token=token if folder == "a/" else new_token(NOW))
        other = f"{oss_bucket.uri}{folder}__1_0.{others_token}.distcp"
        uploads[other] = client.create_upload(other)
    oss_bucket.server.set_clock(1.5 * HOUR)
    for other, upload_id in uploads.items():
        client.upload_part(other, upload_id, 1, bytes(100 * 1024))
    assert cleaned(oss_bucket, after_seconds=2 * HOUR) == []
    assert len(cleaned(oss_bucket, after_seconds=3 * HOUR)) == 4


@pytest.mark.parametrize("age", [1.0, 0.5, 60.0])
def test_what_was_stored_a_moment_ago_is_never_older(oss_bucket: OssBucket, age: float) -> None:
    """OSS's times are whole seconds: a file of this second may be dated nearly one second earlier."""
    for number in range(3):
        leftover(oss_bucket, f"run/{number}/")
        assert cleaned(oss_bucket, after_seconds=0.0, older_than=age) == []
    assert len(cleaned(oss_bucket, after_seconds=0.0, older_than=0.0)) == 3


def test_an_upload_that_ends_while_it_is_looked_at_is_left_alone(oss_bucket: OssBucket) -> None:
    client, key = OssClient(**oss_bucket.options), f"run/__0_0.{new_token(NOW)}.distcp"
    client.create_upload(oss_bucket.uri + key)
    oss_bucket.server.fail("ListParts", "NoSuchUpload")
    assert cleaned(oss_bucket) == []


def test_old_uploads_of_a_save_that_was_published_go_and_its_files_stay(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    dcp.save({"weight": torch.ones(10)}, storage_writer=fs.writer(oss_bucket.uri + "run"))
    (key,) = names(oss_bucket, ".distcp")
    fs.client.create_upload(oss_bucket.uri + key)
    assert cleaned(oss_bucket) == [oss_bucket.uri + key]
    assert len(names(oss_bucket)) == 2
    assert oss_bucket.server.uploads(oss_bucket.name) == []


@pytest.mark.parametrize(("checkpoint", "prefix"), [("", ""), ("run/", "run/0/1"), ("run/", "run"), ("a/b/", "a/b/0/")])
def test_a_checkpoint_is_found_from_wherever_one_cleans(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, checkpoint: str, prefix: str
) -> None:
    """In the whole bucket, and below the folder in which its `.metadata` stands."""
    strategy = RoundRobinPrefixes(["0/1"])
    dcp.save(
        {"weight": torch.ones(10)}, storage_writer=fs.writer(oss_bucket.uri + checkpoint, prefix_strategy=strategy)
    )
    assert cleaned(oss_bucket, prefix) == []
    assert len(names(oss_bucket)) == 2


def test_who_may_look_at_a_prefix_only_can_clean_it(oss_bucket: OssBucket) -> None:
    key = leftover(oss_bucket, "team/run/")
    oss_bucket.server.fail("ListObjectsV2", "AccessDenied", query={"prefix": "__"})
    oss_bucket.server.fail("ListObjectsV2", "AccessDenied", query={"prefix": "team/__"})
    assert cleaned(oss_bucket, "team/run/") == [oss_bucket.uri + key]
    leftover(oss_bucket, "team/run/")
    with pytest.raises(OssPermissionError):
        cleaned(oss_bucket, "team/", after_seconds=4 * HOUR)


def test_an_answer_without_a_date_is_no_clock(oss_bucket: OssBucket) -> None:
    leftover(oss_bucket, "run/")
    oss_bucket.server.fail("ListObjectsV2", "headers", headers={"Date": "yesterday"})
    with pytest.raises(OssProtocolError, match="Date is 'yesterday'"):
        cleaned(oss_bucket, after_seconds=0.0, older_than=0.0)
    assert len(names(oss_bucket)) == 1


def test_a_time_that_is_none_is_an_error_of_ours(oss_bucket: OssBucket) -> None:
    page = (
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>__0_0.0123456789a-01234567.distcp</Key>"
        '<LastModified>yesterday</LastModified><ETag>"A"</ETag><Size>4</Size></Contents></ListBucketResult>'
    )
    oss_bucket.server.fail("ListObjectsV2", "answer", data=page.encode())
    with pytest.raises(OssProtocolError, match="'yesterday'"):
        cleaned(oss_bucket)
