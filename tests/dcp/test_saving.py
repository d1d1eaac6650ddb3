from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.conftest import names
from dcp.states import blank, differences
from torch.distributed.checkpoint.api import CheckpointException

from osstorchconnector.client.client import OssClient
from osstorchconnector.dcp import OssDCPFileSystem, OssStorageWriter
from osstorchconnector.testing import OssBucket


def loaded(fs: OssDCPFileSystem, uri: str, state: dict[str, Any]) -> dict[str, Any]:
    target: dict[str, Any] = blank(state)
    dcp.load(target, storage_reader=fs.reader(uri))
    return target


class Counter:
    """A `Stateful`, as trainers have them."""

    def __init__(self) -> None:
        self.count, self.history = 0, torch.zeros(3)

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count, "history": self.history}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count, self.history = state["count"], state["history"]


def test_objects_with_a_state_of_their_own_get_it_back(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    before, after = Counter(), Counter()
    before.count, before.history = 5, torch.ones(3)
    dcp.save({"counter": before}, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    dcp.load({"counter": after}, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    assert (after.count, after.history.tolist()) == (5, [1, 1, 1])


FAULTS = ("500", "reset", "reset_upload", "lost_answer")
OPERATIONS = ("UploadPart", "CompleteMultipartUpload", "PutObject")


@pytest.mark.parametrize(
    ("operation", "fault"),
    [*itertools.product(OPERATIONS, FAULTS), ("UploadPart", "wrong_crc"), ("PutObject", "wrong_crc")],
)
def test_what_the_network_does_is_made_good(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, operation: str, fault: str
) -> None:
    state = {"large": torch.arange(9_000_000.0), "small": torch.ones(10)}
    oss_bucket.server.fail(operation, fault, times=1)
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    assert differences(state, loaded(fs, oss_bucket.uri + "ckpt", state)) == []
    assert oss_bucket.server.counters().faults


def test_an_upload_whose_crc64_is_wrong_to_the_end_fails(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    oss_bucket.server.fail("PutObject", "wrong_crc", prefix="ckpt/__0_0")
    with pytest.raises(CheckpointException, match=r"ckpt/__0_0\..*CRC-64"):
        dcp.save({"weight": torch.ones(10)}, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    assert names(oss_bucket) == []


def test_an_empty_state_makes_a_checkpoint_too(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    dcp.save({}, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    assert names(oss_bucket) == ["ckpt/.metadata"]
    dcp.load({}, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))


def test_many_small_tensors_take_few_requests(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    state = {f"weight {number}": torch.full((64,), float(number)) for number in range(2000)}
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    oss_bucket.server.reset_counters()
    assert differences(state, loaded(fs, oss_bucket.uri + "ckpt", state)) == []
    assert oss_bucket.server.counters().requests["GetObject"] <= 8


def test_parts_are_as_large_as_the_config_says(oss_bucket: OssBucket, tmp_path: Any) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"partSize": 1048576, "uploadMemory": 4194304, "logPath": "", "auditPath": ""}')
    client = OssClient(**oss_bucket.options, config_path=str(config))
    state = {f"weight {number}": torch.full((300_000,), float(number)) for number in range(10)}
    dcp.save(state, storage_writer=OssStorageWriter(client, oss_bucket.uri + "ckpt"))
    counters = oss_bucket.server.counters()
    assert counters.requests["UploadPart"] == 12
    assert counters.max_concurrency["UploadPart"] <= 4
    assert differences(state, loaded(OssDCPFileSystem(client), oss_bucket.uri + "ckpt", state)) == []


def test_tensors_that_are_more_than_their_bytes_are_saved_by_torch(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    state = {
        "conjugate": torch.randn(5, dtype=torch.complex64).conj(),
        "negative": torch.randn(4, dtype=torch.complex64),
    }
    state["negative"] = state["negative"].conj().imag
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    target = {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in state.items()}
    dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    assert all(torch.equal(state[key], target[key]) for key in state)


@pytest.mark.filterwarnings(
    "ignore:torch.quantize_per_tensor:UserWarning", "ignore:TypedStorage is deprecated:UserWarning"
)
@pytest.mark.parametrize("dtype", [torch.qint8, torch.quint8, torch.qint32], ids=str)
def test_quantised_tensors_come_back(fs: OssDCPFileSystem, oss_bucket: OssBucket, dtype: torch.dtype) -> None:
    state = {"weight": torch.quantize_per_tensor(torch.rand(100, 3), 0.1, 2, dtype)}
    target = {"weight": torch.quantize_per_tensor(torch.zeros(100, 3), 0.1, 2, dtype)}
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    assert torch.equal(state["weight"].int_repr(), target["weight"].int_repr())
    assert torch.equal(state["weight"].dequantize(), target["weight"].dequantize())


# giving files up
