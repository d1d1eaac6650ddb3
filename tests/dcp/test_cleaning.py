from __future__ import annotations

import datetime
import time

import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.conftest import names

from osstorchconnector.client.client import OssClient
from osstorchconnector.dcp import HashedPrefixes, OssDCPFileSystem
from osstorchconnector.dcp.cleaning import clean
from osstorchconnector.dcp.layout import new_token
from osstorchconnector.errors import OssIntegrityError, OssProtocolError
from osstorchconnector.testing import OssBucket

HOUR = 3600.0


def leftover(bucket: OssBucket, folder: str, *, age_seconds: float = 0.0) -> str:
    """Put a file of a save that never finished."""
    key = f"{folder}__0_0.{new_token(int((time.time() - age_seconds) * 1000))}.distcp"
    bucket.put(key, b"data")
    return key


def cleaned(bucket: OssBucket, prefix: str = "", *, after_seconds: float = 2 * HOUR) -> list[str]:
    """Clean what is older than an hour, so many seconds from now."""
    client = OssClient(**bucket.options)
    return clean(client, bucket.uri + prefix, older_than=HOUR, now=time.time() + after_seconds)


def test_what_a_dead_save_left_is_removed_and_named(oss_bucket: OssBucket) -> None:
    key = leftover(oss_bucket, "run/step-1/")
    assert cleaned(oss_bucket) == [oss_bucket.uri + key]
    assert names(oss_bucket) == []


def test_a_younger_save_is_left_alone(oss_bucket: OssBucket) -> None:
    key = leftover(oss_bucket, "run/step-1/")
    assert cleaned(oss_bucket, after_seconds=HOUR / 2) == []
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
    ours = f"run/__0_0.{new_token(int(time.time() * 1000))}.distcp"
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


def test_a_time_that_is_none_is_an_error_of_ours(oss_bucket: OssBucket) -> None:
    page = (
        "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>__0_0.0123456789a-01234567.distcp</Key>"
        '<LastModified>yesterday</LastModified><ETag>"A"</ETag><Size>4</Size></Contents></ListBucketResult>'
    )
    oss_bucket.server.fail("ListObjectsV2", "answer", data=page.encode())
    with pytest.raises(OssProtocolError, match="'yesterday'"):
        cleaned(oss_bucket)
