"""OSS begins an upload, and nobody hears of it."""

from __future__ import annotations

import torch
import torch.distributed.checkpoint as dcp

from osstorchconnector.dcp import OssDCPFileSystem
from osstorchconnector.testing import OssBucket

STATE = {"weight": torch.zeros(5_000_000)}  # more than one request takes


def test_an_upload_whose_id_was_lost_is_aborted_when_all_files_are_stored(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    foreign = fs.client.create_upload(oss_bucket.uri + "ckpt/__0_0.0123456789a-01234567.distcp")
    oss_bucket.server.fail("InitiateMultipartUpload", "lost_answer", times=1)
    dcp.save(dict(STATE), storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    assert oss_bucket.server.counters(with_log=False).faults["lost_answer"] == 1
    assert [upload.upload_id for upload in oss_bucket.server.uploads(oss_bucket.name)] == [foreign]


def test_without_a_retry_nobody_looks_for_lost_uploads(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    dcp.save(dict(STATE), storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    assert "ListMultipartUploads" not in oss_bucket.server.counters(with_log=False).requests
