"""Checkpoints on moto's S3 behind the face of OSS: what goes over the wire is judged by code that is not ours."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import oracle
import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.states import blank, differences, many_kinds
from oracle import OracleServer
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter

from osstorchconnector.credentials import Credentials
from osstorchconnector.dcp import OssCheckpointManager, OssDCPFileSystem

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server() -> Iterator[OracleServer]:
    with oracle.serve() as running:
        yield running


@pytest.fixture
def bucket(server: OracleServer) -> str:
    name = f"checkpoints-{next(_numbers)}"
    server.create_bucket(name)
    return name


@pytest.fixture
def fs(server: OracleServer) -> OssDCPFileSystem:
    key = server.credentials
    return OssDCPFileSystem(
        server.endpoint,
        cred_provider=lambda: Credentials(**key._asdict()),
        region=server.region,
    )


def test_what_is_saved_comes_back(fs: OssDCPFileSystem, bucket: str) -> None:
    state = many_kinds()
    target = blank(state)
    dcp.save(state, storage_writer=fs.writer(f"oss://{bucket}/ckpt", thread_count=2))
    dcp.load(target, storage_reader=fs.reader(f"oss://{bucket}/ckpt"))
    assert differences(state, target) == []


def test_files_in_parts_appear_whole_and_torch_reads_them(
    fs: OssDCPFileSystem, server: OracleServer, bucket: str, tmp_path: Path
) -> None:
    state = {"large": torch.arange(9_000_000.0), "small": torch.ones(10)}
    target = blank(state)
    dcp.save(state, storage_writer=fs.writer(f"oss://{bucket}/ckpt"))
    for key in server.keys(bucket):
        (tmp_path / key.rpartition("/")[2]).write_bytes(server.get(bucket, key))
    dcp.load(target, storage_reader=FileSystemReader(tmp_path))
    assert differences(state, target) == []


def test_overwriting_leaves_the_new_checkpoint_and_nothing_else(
    fs: OssDCPFileSystem, server: OracleServer, bucket: str
) -> None:
    for number in range(2):
        state = {"weight": torch.full((100, 100), float(number))}
        dcp.save(state, storage_writer=fs.writer(f"oss://{bucket}/ckpt"))
    target = blank(state)
    dcp.load(target, storage_reader=fs.reader(f"oss://{bucket}/ckpt"))
    assert differences(state, target) == []
    assert len(server.keys(bucket)) == 2


def test_a_run_keeps_its_newest_checkpoints_and_is_cleaned(
    fs: OssDCPFileSystem, server: OracleServer, bucket: str
) -> None:
    manager = OssCheckpointManager(fs, f"oss://{bucket}/run", keep=2)
    for step in range(4):
        manager.save(step, {"weight": torch.full((100,), float(step))})
    fs.client.create_upload(f"oss://{bucket}/run/step-0000000009/__0_0.0123456789a-01234567.distcp")
    server.put(bucket, "run/step-0000000009/__1_0.0123456789a-01234567.distcp", b"left behind")
    assert manager.steps() == [2, 3]
    assert len(manager.clean(older_than=0)) == 2
    target = {"weight": torch.zeros(100)}
    assert manager.load(target) == 3
    assert target["weight"].unique().tolist() == [3]


def test_torchs_own_writer_and_reader_work_on_it(fs: OssDCPFileSystem, bucket: str) -> None:
    state = {"weight": torch.randn(50, 60), "step": 7}
    target = blank(state)
    writer, reader = FileSystemWriter("/unused"), FileSystemReader("/unused")
    writer.fs = reader.fs = fs
    writer.path = reader.path = fs.init_path(f"oss://{bucket}/ckpt")
    dcp.save(state, storage_writer=writer)
    dcp.load(target, storage_reader=reader)
    assert differences(state, target) == []


def test_a_damaged_file_is_found(fs: OssDCPFileSystem, server: OracleServer, bucket: str) -> None:
    dcp.save({"weight": torch.ones(1000)}, storage_writer=fs.writer(f"oss://{bucket}/ckpt"))
    (key,) = (key for key in server.keys(bucket) if key.endswith(".distcp"))
    data = bytearray(server.get(bucket, key))
    data[1000] ^= 1
    server.put(bucket, key, bytes(data))
    with pytest.raises(dcp.api.CheckpointException, match=r"weight in .*CRC-32"):
        dcp.load({"weight": torch.zeros(1000)}, storage_reader=fs.reader(f"oss://{bucket}/ckpt"))
