"""What we save torch loads, what torch saves we load: in its own format, on every kind of state."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torch.distributed.checkpoint as dcp
from dcp.conftest import download, names, upload
from dcp.states import blank, differences, many_kinds
from scripts import NO_LOGS
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from osstorchconnector.dcp import OssDCPFileSystem, OssStorageReader, OssStorageWriter
from osstorchconnector.dcp.torch_dcp import SerializationFormat
from osstorchconnector.testing import OssBucket


def test_what_is_saved_comes_back(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    state = many_kinds()
    target = blank(state)
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    assert differences(state, target) == []


def test_it_comes_back_through_the_other_transport_too(oss_bucket: OssBucket, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**NO_LOGS, "transport": "aiohttp"}))
    fs, state = OssDCPFileSystem(**oss_bucket.options, config_path=str(config)), many_kinds()
    target = blank(state)
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    assert differences(state, target) == []


def test_torch_loads_what_we_saved(fs: OssDCPFileSystem, oss_bucket: OssBucket, tmp_path: Path) -> None:
    state = many_kinds()
    target = blank(state)
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt", thread_count=3))
    dcp.load(target, storage_reader=FileSystemReader(download(oss_bucket, "ckpt/", tmp_path)))
    assert differences(state, target) == []


def test_we_load_what_torch_saved(fs: OssDCPFileSystem, oss_bucket: OssBucket, tmp_path: Path) -> None:
    state = many_kinds()
    target = blank(state)
    dcp.save(state, storage_writer=FileSystemWriter(tmp_path, thread_count=2))
    dcp.load(target, storage_reader=fs.reader(upload(oss_bucket, "torchs/", tmp_path)))
    assert differences(state, target) == []


def test_our_checkpoint_becomes_one_torch_save_file(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, tmp_path: Path
) -> None:
    state = {"weight": torch.randn(30, 40), "step": 7}
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    dcp_to_torch_save(download(oss_bucket, "ckpt/", tmp_path / "dcp"), tmp_path / "file.pt")
    assert differences(state, torch.load(tmp_path / "file.pt")) == []


def test_writers_and_readers_are_made_from_a_path_too(oss_bucket: OssBucket) -> None:
    state = {"weight": torch.randn(3)}
    target = blank(state)
    dcp.save(state, storage_writer=OssStorageWriter(oss_bucket.uri + "ckpt/step-1", **oss_bucket.options))
    path = f"/{oss_bucket.name}/ckpt/step-1/"
    dcp.load(target, storage_reader=OssStorageReader(path, **oss_bucket.options))
    assert differences(state, target) == []


def test_the_checkpoint_id_of_save_and_load_counts(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    state = {"weight": torch.randn(3)}
    target = blank(state)
    dcp.save(state, checkpoint_id=oss_bucket.uri + "here", storage_writer=fs.writer(oss_bucket.uri + "elsewhere"))
    dcp.load(target, checkpoint_id=oss_bucket.uri + "here", storage_reader=fs.reader(oss_bucket.uri + "elsewhere"))
    assert differences(state, target) == []
    assert {key.split("/")[0] for key in names(oss_bucket)} == {"here"}


def test_safetensors_files_come_back_and_are_read_by_the_library_of_that_name(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    without = ("torch.complex128", "conjugate", "torch.uint32")
    state = {key: value for key, value in many_kinds().items() if key not in without}
    target = blank(state)
    dcp.save(
        state, storage_writer=fs.writer(oss_bucket.uri + "ckpt", serialization_format=SerializationFormat.SAFETENSORS)
    )
    dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    assert differences(state, target) == []
    (file,) = names(oss_bucket, ".safetensors")
    tensors = safetensors.torch.load(oss_bucket.get(file))
    assert torch.equal(tensors["large transposed"], state["large transposed"])
    assert torch.load(io.BytesIO(tensors["text"].numpy().tobytes())) == "text"


def test_a_dtype_that_safetensors_lacks_is_an_error_that_names_it(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    writer = fs.writer(oss_bucket.uri + "ckpt", serialization_format=SerializationFormat.SAFETENSORS)
    with pytest.raises(dcp.api.CheckpointException, match=r"complex128 \(x\)"):
        dcp.save({"x": torch.zeros(2, dtype=torch.complex128)}, storage_writer=writer)
    assert oss_bucket.keys() == []


@pytest.mark.parametrize("options", [{"thread_count": 4}, {"single_file_per_rank": False}], ids=str)
def test_files_per_rank_are_a_setting(fs: OssDCPFileSystem, oss_bucket: OssBucket, options: dict[str, Any]) -> None:
    state = {f"weight {number}": torch.randn(50, 10) for number in range(6)}
    target = blank(state)
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt", **options))
    dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    assert differences(state, target) == []
    assert len(names(oss_bucket, ".distcp")) == options.get("thread_count", 6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_a_target_of_another_dtype_gets_the_numbers(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, dtype: torch.dtype
) -> None:
    state = {"small": torch.arange(100.0), "large": torch.arange(1_000_000.0).floor() % 100}
    target = {key: torch.zeros(value.shape, dtype=dtype) for key, value in state.items()}
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    assert differences({key: value.to(dtype) for key, value in state.items()}, target) == []


def test_a_target_that_is_not_contiguous_is_filled(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    state = {"weight": torch.randn(700, 900)}
    target = {"weight": torch.zeros(900, 700).t()}
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    assert torch.equal(state["weight"], target["weight"])


def test_some_of_the_keys_can_be_loaded(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    state = {f"weight {number}": torch.randn(256, 256) for number in range(40)}
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    target = {key: torch.zeros(256, 256) for key in ("weight 3", "weight 17", "weight 39")}
    oss_bucket.server.reset_counters()
    dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    assert differences(target, {key: state[key] for key in target}) == []
    metadata_bytes = len(oss_bucket.get("ckpt/.metadata"))
    item_bytes = 256 * 256 * 4 + 1700
    assert oss_bucket.server.counters().bytes_out - metadata_bytes <= 1.01 * 3 * item_bytes + 4 * 1024


def test_a_missing_key_is_an_error_unless_partial_loading_is_allowed(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    dcp.save({"weight": torch.ones(3)}, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    target = {"weight": torch.zeros(3), "new": torch.zeros(2)}
    with pytest.raises(dcp.api.CheckpointException, match="new"):
        dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    planner = dcp.DefaultLoadPlanner(allow_partial_load=True)
    dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt"), planner=planner)
    assert target["weight"].tolist() == [1, 1, 1]


def test_a_target_of_another_size_is_an_error(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    dcp.save({"weight": torch.ones(3, 4)}, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    with pytest.raises(dcp.api.CheckpointException, match="weight"):
        dcp.load({"weight": torch.zeros(4, 4)}, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
@pytest.mark.parametrize("count", [6, 1_000_000])
def test_rare_dtypes_come_back(fs: OssDCPFileSystem, oss_bucket: OssBucket, count: int) -> None:
    """Those that can be looked at only as bytes; older versions of torch lack some."""
    names = ("complex32", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn_x2")
    dtypes = [getattr(torch, name) for name in names if hasattr(torch, name)]
    octets = torch.arange(4 * count).to(torch.uint8)
    state = {str(dtype): octets.view(dtype) for dtype in dtypes}
    target = {str(dtype): torch.zeros(4 * count, dtype=torch.uint8).view(dtype) for dtype in dtypes}
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    assert all(torch.equal(tensor.view(torch.uint8), octets) for tensor in target.values())
