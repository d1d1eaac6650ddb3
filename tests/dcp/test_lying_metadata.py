"""Metadata that puts items where nothing is."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException

from osstorchconnector.dcp import OssDCPFileSystem
from osstorchconnector.dcp.metadata import dump_metadata, load_metadata
from osstorchconnector.testing import OssBucket

STATE = {"weight": torch.ones(1000), "object": {"a": [1, 2]}}


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 1 << 50), (0, 1 << 63), (0, 1 << 70), (0, 20 << 30), (1 << 62, 5000), (1 << 70, 5000), (0, 10), (0, 0)],
)
def test_items_that_are_not_where_the_metadata_says_are_an_error_that_names_them(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, offset: int, length: int
) -> None:
    uri = oss_bucket.uri + "ckpt"
    dcp.save(dict(STATE), storage_writer=fs.writer(uri))
    metadata = load_metadata(oss_bucket.get("ckpt/.metadata"), "here")
    for index, info in metadata.storage_data.items():
        metadata.storage_data[index] = dataclasses.replace(info, offset=offset, length=length)
    oss_bucket.put("ckpt/.metadata", dump_metadata(metadata))
    target = {"weight": torch.zeros(1000), "object": {"a": [0]}}
    with pytest.raises(CheckpointException, match=r"__0_0\..*distcp"):
        dcp.load(target, storage_reader=fs.reader(uri))


def test_a_large_item_is_looked_after_once_for_each_file(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    uri = oss_bucket.uri + "ckpt"
    state = {"one": bytes(65 << 20), "two": bytes(65 << 20), "weight": torch.zeros(1000)}
    dcp.save(dict(state), storage_writer=fs.writer(uri))
    oss_bucket.server.reset_counters()
    target = {"one": b"", "two": b"", "weight": torch.ones(1000)}
    dcp.load(target, storage_reader=fs.reader(uri))
    assert target["two"] == state["two"]
    assert oss_bucket.server.counters(with_log=False).requests["HeadObject"] == 1
