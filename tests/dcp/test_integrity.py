"""Wrong, truncated or replaced objects are errors that name them, never wrong weights."""

from __future__ import annotations

import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.conftest import names
from dcp.states import blank, differences
from torch.distributed.checkpoint.api import CheckpointException

from osstorchconnector.dcp import OssDCPFileSystem
from osstorchconnector.dcp.torch_dcp import SerializationFormat
from osstorchconnector.testing import OssBucket

LARGE = {"large": torch.arange(1_000_000.0)}
SMALL = {f"small {number}": torch.full((100,), float(number)) for number in range(20)}


def saved(fs: OssDCPFileSystem, bucket: OssBucket, state: dict[str, torch.Tensor], **options: object) -> str:
    dcp.save(state, storage_writer=fs.writer(bucket.uri + "ckpt", **options))
    (key,) = [key for key in names(bucket) if not key.endswith(".metadata")]
    return key


def load(fs: OssDCPFileSystem, bucket: OssBucket, state: dict[str, torch.Tensor]) -> None:
    target = blank(state)
    dcp.load(target, storage_reader=fs.reader(bucket.uri + "ckpt"))
    assert differences(state, target) == []


def damage(bucket: OssBucket, key: str, place: int) -> None:
    data = bytearray(bucket.get(key))
    data[place] ^= 1
    bucket.put(key, data)


@pytest.mark.parametrize("place", [704, 704 + 1234, 704 + 3_999_999])
def test_a_wrong_bit_in_a_tensor_that_is_read_whole_is_found(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, place: int
) -> None:
    key = saved(fs, oss_bucket, LARGE)
    damage(oss_bucket, key, place)
    with pytest.raises(CheckpointException, match=rf"large in {oss_bucket.uri}{key}.*CRC-32"):
        load(fs, oss_bucket, LARGE)


def test_a_wrong_bit_in_one_of_many_small_tensors_is_found(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    key = saved(fs, oss_bucket, SMALL)
    damage(oss_bucket, key, 5 * len(oss_bucket.get(key)) // 20 + 800)
    with pytest.raises(CheckpointException, match=r"small 5 in .*CRC-32"):
        load(fs, oss_bucket, SMALL)


def test_a_wrong_bit_in_an_object_is_found(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    dcp.save({"text": "a" * 1000}, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    (key,) = names(oss_bucket, ".distcp")
    damage(oss_bucket, key, oss_bucket.get(key).index(b"aaaa") + 50)
    with pytest.raises(CheckpointException, match=r"text in .*data\.pkl.*CRC-32"):
        dcp.load({"text": ""}, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))


def test_a_file_that_is_read_whole_is_held_against_osss_crc64(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    saved(fs, oss_bucket, LARGE, serialization_format=SerializationFormat.SAFETENSORS)
    oss_bucket.server.fail("GetObject", "wrong_crc", prefix="ckpt/__")
    with pytest.raises(CheckpointException, match="CRC-64"):
        load(fs, oss_bucket, LARGE)


@pytest.mark.parametrize("state", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_an_error_that_names_it(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, state: dict[str, torch.Tensor], keep: float
) -> None:
    key = saved(fs, oss_bucket, state)
    data = oss_bucket.get(key)
    oss_bucket.put(key, data[: int(len(data) * keep)])
    with pytest.raises(CheckpointException, match=key):
        load(fs, oss_bucket, state)


def test_a_missing_file_is_an_error_that_names_it(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    key = saved(fs, oss_bucket, LARGE)
    oss_bucket.delete(key)
    with pytest.raises(CheckpointException, match=rf"{key}.*404"):
        load(fs, oss_bucket, LARGE)


def test_a_file_replaced_while_it_is_read_is_an_error(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    key = saved(fs, oss_bucket, LARGE)
    other = oss_bucket.get(key)[:-1] + b"x"
    oss_bucket.server.fail("GetObject", "replace", key=key, times=1, data=other)
    with pytest.raises(CheckpointException, match=rf"OssObjectChangedError: .*{key}"):
        load(fs, oss_bucket, LARGE)


@pytest.mark.parametrize("fault", ["500", "reset", "reset_body", "truncate"])
def test_what_the_network_does_is_made_good(fs: OssDCPFileSystem, oss_bucket: OssBucket, fault: str) -> None:
    saved(fs, oss_bucket, LARGE | SMALL)
    oss_bucket.server.fail("GetObject", fault, times=3)
    load(fs, oss_bucket, LARGE | SMALL)


def test_a_tensor_stored_transposed_lands_right_though_the_metadata_says_otherwise(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, tmp_path: object
) -> None:
    state = {
        "large": torch.arange(1_000_000.0).reshape(1000, 1000).t(),
        "middling": torch.arange(40_000.0).reshape(200, 200).t(),
        "small": torch.arange(100.0).reshape(10, 10).t(),
    }
    writer = dcp.FileSystemWriter("/unused")
    writer.fs, writer.path = fs, fs.init_path(oss_bucket.uri + "ckpt")
    dcp.save(state, storage_writer=writer)
    load(fs, oss_bucket, state)


def test_a_part_of_a_tensor_stored_transposed_is_the_right_part(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    whole = torch.arange(1_000_000.0).reshape(1000, 1000).t()
    writer = dcp.FileSystemWriter("/unused")
    writer.fs, writer.path = fs, fs.init_path(oss_bucket.uri + "ckpt")
    dcp.save({"weight": whole}, storage_writer=writer)
    target = torch.zeros(10, 1000)
    dcp.load({"weight": target}, storage_reader=fs.reader(oss_bucket.uri + "ckpt"), planner=FirstRows())
    assert torch.equal(target, whole[:10])


class FirstRows(dcp.DefaultLoadPlanner):
    """Loads the first rows of what was saved, as a rank does that has a part of a tensor."""

    def create_local_plan(self) -> dcp.LoadPlan:
        assert self.metadata is not None
        index = next(iter(self.metadata.storage_data))
        size = torch.Size([10, 1000])
        zeros = torch.Size([0, 0])
        item = dcp.planner.ReadItem(dcp.planner.LoadItemType.TENSOR, index, zeros, index, zeros, size)
        return dcp.LoadPlan([item])
