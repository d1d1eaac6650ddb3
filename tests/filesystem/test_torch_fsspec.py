"""torch's own reader and writer of checkpoints for fsspec, on `oss://`."""

from __future__ import annotations

from collections.abc import Iterator

import fsspec
import pytest
import torch
import torch.distributed.checkpoint as dcp
from loaders import needs_torch

from osstorchconnector.filesystem import OssFileSystem
from osstorchconnector.testing import OssBucket

try:
    from torch.distributed.checkpoint.fsspec_filesystem import FsspecReader, FsspecWriter
except ImportError:  # the only name in torch 2.13
    from torch.distributed.checkpoint._fsspec_filesystem import FsspecReader, FsspecWriter


@pytest.fixture(autouse=True)
def _registered(oss_bucket: OssBucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fsspec.register_implementation("oss", OssFileSystem, clobber=True)
    monkeypatch.setitem(fsspec.config.conf, "oss", dict(oss_bucket.options))
    yield
    OssFileSystem.clear_instance_cache()


def state() -> dict[str, object]:
    return {"weight": torch.arange(500_000.0), "bias": torch.ones(7), "step": 3}


def zeros() -> dict[str, object]:
    return {"weight": torch.zeros(500_000), "bias": torch.zeros(7), "step": 0}


def check(found: dict[str, object]) -> None:
    for name, value in state().items():
        assert torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value


@needs_torch(2, 7)  # the writers of 2.4 want a file descriptor
def test_a_checkpoint_by_its_uri_alone(oss_bucket: OssBucket) -> None:
    """torch chooses `FsspecWriter` and `FsspecReader` by the URI."""
    uri = oss_bucket.uri + "checkpoint"
    dcp.save(state(), checkpoint_id=uri)
    assert set(oss_bucket.keys()) == {"checkpoint/.metadata", "checkpoint/__0_0.distcp"}
    found = zeros()
    dcp.load(found, checkpoint_id=uri)
    check(found)


@needs_torch(2, 7)  # the writers of 2.4 want a file descriptor
@pytest.mark.filterwarnings("ignore:Detected an existing checkpoint:UserWarning")
def test_a_checkpoint_is_overwritten(oss_bucket: OssBucket) -> None:
    uri = oss_bucket.uri + "checkpoint"
    for _ in range(2):
        dcp.save(state(), storage_writer=FsspecWriter(uri, thread_count=2, single_file_per_rank=False))
    found = zeros()
    dcp.load(found, storage_reader=FsspecReader(uri))
    check(found)
    assert not oss_bucket.server.uploads(oss_bucket.name)


@needs_torch(2, 7)  # the writers of 2.4 want a file descriptor
def test_our_reader_reads_it_and_torchs_reads_ours(oss_bucket: OssBucket) -> None:
    from osstorchconnector.dcp import OssStorageReader, OssStorageWriter

    uri = oss_bucket.uri + "checkpoint"
    dcp.save(state(), checkpoint_id=uri)
    found = zeros()
    dcp.load(found, storage_reader=OssStorageReader(uri, **oss_bucket.options))
    check(found)
    ours = oss_bucket.uri + "ours"
    dcp.save(state(), storage_writer=OssStorageWriter(ours, **oss_bucket.options))
    found = zeros()
    dcp.load(found, checkpoint_id=ours)
    check(found)
