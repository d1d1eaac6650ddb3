"""WholeCheckpoint: what there is, whether all of it can be read, and all of it at once."""

from __future__ import annotations

import pytest
import torch
import torch.distributed.checkpoint as dcp

from osstorchconnector import OssClient, OssDCPFileSystem
from osstorchconnector.dcp import WholeCheckpoint
from osstorchconnector.errors import OssNotFoundError
from osstorchconnector.testing import OssBucket

LARGE = torch.arange(200_000, dtype=torch.int64)
STATE = {
    "large": LARGE,
    "half": torch.ones(3, 5, dtype=torch.bfloat16),
    "none": torch.zeros(0),
    "scalar": torch.tensor(3),
    "objects": {"a": [1, "two"]},
}


@pytest.fixture
def client(oss_bucket: OssBucket) -> OssClient:
    return OssClient(**oss_bucket.options)


@pytest.mark.parametrize("options", [{}, {"thread_count": 2}])
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_everything_can_be_read_and_nothing_is_kept(client: OssClient, oss_bucket: OssBucket, options: dict) -> None:
    fs = OssDCPFileSystem(**oss_bucket.options)
    dcp.save(STATE, storage_writer=fs.writer(f"{oss_bucket.uri}ckpt", **options))
    whole = WholeCheckpoint(client, f"{oss_bucket.uri}ckpt")
    told = list[tuple[int, int]]()
    files = list(whole.check(lambda done, total: told.append((done, total))))
    assert [file.problem for file in files] == [""] * len(files)
    assert {file.name: file.size for file in files} == whole.sizes()
    assert told[-1] == (sum(whole.sizes().values()),) * 2
    assert told == sorted(told)
    loaded = whole.load()
    assert torch.equal(loaded["large"], LARGE)
    assert loaded["objects"] == STATE["objects"]
    shapes = {entry.name: (entry.dtype, entry.shape) for entry in whole.entries()}
    assert shapes["half"] == (torch.bfloat16, (3, 5))
    assert {entry.name: entry.size for entry in whole.entries()}["half"] == 30


@pytest.mark.filterwarnings(
    "ignore:torch.distributed is disabled", "ignore:torch.quantize_per_tensor", "ignore:TypedStorage is deprecated"
)
def test_a_quantised_tensor_can_be_read(client: OssClient, oss_bucket: OssBucket) -> None:
    state = {"weight": torch.quantize_per_tensor(torch.ones(4, 2), 0.5, 0, torch.qint8)}
    fs = OssDCPFileSystem(**oss_bucket.options)
    dcp.save(state, storage_writer=fs.writer(f"{oss_bucket.uri}ckpt"))
    (file,) = WholeCheckpoint(client, f"{oss_bucket.uri}ckpt").check()
    assert file.problem == ""


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_checkpoint_is_removed_with_all_that_is_below(client: OssClient, oss_bucket: OssBucket) -> None:
    fs = OssDCPFileSystem(**oss_bucket.options)
    dcp.save(STATE, storage_writer=fs.writer(f"{oss_bucket.uri}ckpt"))
    oss_bucket.put("ckpt/mine.txt", b"")
    oss_bucket.put("ckpt-2/other", b"")
    WholeCheckpoint(client, f"{oss_bucket.uri}ckpt").remove()
    assert oss_bucket.keys() == ["ckpt-2/other"]
    with pytest.raises(OssNotFoundError, match="there is no checkpoint at"):
        WholeCheckpoint(client, f"{oss_bucket.uri}ckpt")
