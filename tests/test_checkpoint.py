from __future__ import annotations

import gc
import io
import pickle
from typing import Any

import pytest
import torch

from osstorchconnector.checkpoint import OssCheckpoint
from osstorchconnector.client.client import OssClient
from osstorchconnector.errors import OssConfigError, OssNotFoundError, OssUriError
from osstorchconnector.testing import OssBucket

MIB = 1 << 20


@pytest.fixture
def checkpoint(oss_bucket: OssBucket) -> OssCheckpoint:
    return OssCheckpoint(**oss_bucket.options)


def state() -> dict[str, Any]:
    weights = torch.arange(300_000, dtype=torch.float32).reshape(300, 1000)
    return {"weights": weights, "transposed": weights.T, "step": 7, "name": "epoch.1", "empty": torch.empty(0)}


def assert_same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in ("weights", "transposed", "empty"))
    assert (found["step"], found["name"]) == (wanted["step"], wanted["name"])


def test_what_torch_saves_torch_loads_again(oss_bucket: OssBucket, checkpoint: OssCheckpoint) -> None:
    uri = oss_bucket.uri + "checkpoint/epoch.1"
    with checkpoint.writer(uri) as writer:
        torch.save(state(), writer)
    with checkpoint.reader(uri) as reader:
        assert_same(torch.load(reader), state())
    assert_same(torch.load(io.BytesIO(oss_bucket.get("checkpoint/epoch.1"))), state())


def test_a_large_object_goes_there_and_back(oss_bucket: OssBucket, checkpoint: OssCheckpoint) -> None:
    data = bytes(range(256)) * (40 * MIB // 256)
    with checkpoint.writer(oss_bucket.uri + "large") as writer:
        writer.write(data)
    assert oss_bucket.get("large") == data
    with checkpoint.reader(oss_bucket.uri + "large") as reader:
        assert reader.read() == data
    # of 16 MiB; of 5 MiB where OSS takes long to answer, as on a busy machine
    assert 3 <= oss_bucket.server.counters().requests["UploadPart"] <= 8


def test_reader_and_writer_of_a_temporary_work(oss_bucket: OssBucket) -> None:
    writer = OssCheckpoint(**oss_bucket.options).writer(oss_bucket.uri + "key")
    gc.collect()
    with writer:
        writer.write(b"data")
    reader = OssCheckpoint(**oss_bucket.options).reader(f"/{oss_bucket.name}/key")
    gc.collect()
    assert reader.read() == b"data"


def test_an_exception_leaves_the_old_object(oss_bucket: OssBucket, checkpoint: OssCheckpoint) -> None:
    oss_bucket.put("key", b"old")
    with pytest.raises(TypeError), checkpoint.writer(oss_bucket.uri + "key") as writer:
        writer.writelines([b"new", "text"])
    assert oss_bucket.get("key") == b"old"


def test_making_one_sends_nothing(oss_bucket: OssBucket, checkpoint: OssCheckpoint) -> None:
    checkpoint.reader(oss_bucket.uri + "key")
    assert oss_bucket.server.counters().requests == {}


def test_a_missing_object_is_an_error_at_the_first_read(oss_bucket: OssBucket, checkpoint: OssCheckpoint) -> None:
    with checkpoint.reader(oss_bucket.uri + "absent") as reader, pytest.raises(OssNotFoundError, match="absent"):
        reader.read(1)


def test_a_client_may_stand_for_endpoint_and_access(oss_bucket: OssBucket) -> None:
    oss_bucket.put("key", b"data")
    client = OssClient(**oss_bucket.options)
    assert OssCheckpoint(client).reader(oss_bucket.uri + "key").read() == b"data"
    with pytest.raises(OssConfigError, match="give these to OssClient"):
        OssCheckpoint(client, region="cn-test")


def test_settings_may_be_given_by_position(oss_bucket: OssBucket) -> None:
    oss_bucket.put("key", b"data")
    checkpoint = OssCheckpoint(oss_bucket.endpoint, oss_bucket.cred_path, "", None, oss_bucket.region)
    assert checkpoint.reader(oss_bucket.uri + "key").read() == b"data"


def test_it_pickles(oss_bucket: OssBucket, checkpoint: OssCheckpoint) -> None:
    oss_bucket.put("key", b"data")
    assert pickle.loads(pickle.dumps(checkpoint)).reader(oss_bucket.uri + "key").read() == b"data"


@pytest.mark.parametrize("uri", ["oss://bucket", "oss://bucket/", "bucket/key", "", None])
def test_what_names_no_object_is_refused_at_once(checkpoint: OssCheckpoint, uri: Any) -> None:
    for ask in (checkpoint.reader, checkpoint.writer):
        with pytest.raises(OssUriError):
            ask(uri)
