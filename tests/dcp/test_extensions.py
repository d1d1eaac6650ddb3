"""Items that extensions transform on their way, and what is shown of the way."""

from __future__ import annotations

import io
import logging
import zlib
from pathlib import Path
from typing import IO, Any, cast

import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.conftest import download, names, upload
from dcp.states import blank, differences, many_kinds
from torch.distributed.checkpoint._extension import ExtensionRegistry, StreamTransformExtension
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter, SerializationFormat

from osstorchconnector.dcp import OssDCPFileSystem
from osstorchconnector.testing import OssBucket


class Compressing(io.RawIOBase):
    """Compresses what is written, and ends the compressed data when it is closed."""

    def __init__(self, below: IO[bytes]) -> None:
        self._below, self._compressor = below, zlib.compressobj(1)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._below.write(self._compressor.compress(data))
        return memoryview(data).nbytes

    def close(self) -> None:
        if not self.closed:
            self._below.write(self._compressor.flush())
            self._below.close()
            super().close()


class Deflate(StreamTransformExtension):
    """Compression, as an extension that users might write."""

    @staticmethod
    def registry_name() -> str:
        return "test.deflate"

    @staticmethod
    def from_descriptor(version: str) -> Deflate:
        return Deflate()

    def get_descriptor(self) -> str:
        return "test.deflate/1"

    def transform_to(self, output: IO[bytes]) -> IO[bytes]:
        return cast(IO[bytes], Compressing(output))

    def transform_from(self, input: IO[bytes]) -> IO[bytes]:
        return io.BytesIO(zlib.decompress(input.read()))


@pytest.fixture
def registry() -> ExtensionRegistry:
    made = ExtensionRegistry()
    made.register(Deflate)
    return made


def test_what_an_extension_made_it_undoes(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, registry: ExtensionRegistry
) -> None:
    state = {**many_kinds(), "zeros": torch.zeros(1000, 1000)}
    target = blank(state)
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt", extensions=[Deflate(), Deflate()]))
    dcp.load(target, storage_reader=fs.reader(oss_bucket.uri + "ckpt", extension_registry=registry))
    assert differences(state, target) == []
    plain_bytes = sum(tensor.nbytes for tensor in state.values() if isinstance(tensor, torch.Tensor))
    assert len(oss_bucket.get(names(oss_bucket, ".distcp")[0])) < plain_bytes - 3_000_000


def test_extensions_mean_the_same_to_torch(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, registry: ExtensionRegistry, tmp_path: Path
) -> None:
    state = {"weight": torch.arange(1000.0), "text": "text"}
    target = blank(state)
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt", extensions=[Deflate()]))
    folder = download(oss_bucket, "ckpt/", tmp_path / "ours")
    dcp.load(target, storage_reader=FileSystemReader(folder, _extension_registry=registry))
    assert differences(state, target) == []
    target = blank(state)
    dcp.save(state, storage_writer=FileSystemWriter(tmp_path / "theirs", _extensions=[Deflate()]))
    uri = upload(oss_bucket, "theirs/", tmp_path / "theirs")
    dcp.load(target, storage_reader=fs.reader(uri, extension_registry=registry))
    assert differences(state, target) == []


def test_an_extension_that_is_not_known_is_named(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    dcp.save({"a": torch.ones(3)}, storage_writer=fs.writer(oss_bucket.uri + "ckpt", extensions=[Deflate()]))
    with pytest.raises(CheckpointException, match="test.deflate"):
        dcp.load({"a": torch.ones(3)}, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))


def test_safetensors_files_take_no_extensions(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    writer = fs.writer(
        oss_bucket.uri + "ckpt", extensions=[Deflate()], serialization_format=SerializationFormat.SAFETENSORS
    )
    with pytest.raises(CheckpointException, match="leave the extensions out"):
        dcp.save({"a": torch.ones(3)}, storage_writer=writer)


# progress and the log


def test_progress_ends_with_all_bytes_done(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    seen: list[tuple[int, int]] = []
    state = {"weight": torch.ones(2_000_000), "other": torch.ones(10)}
    dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt", progress=lambda *now: seen.append(now)))
    assert seen[-1] == (8_000_040, 8_000_040)
    seen.clear()
    dcp.load(state, storage_reader=fs.reader(oss_bucket.uri + "ckpt", progress=lambda *now: seen.append(now)))
    assert seen[-1][0] == seen[-1][1] > 8_000_040
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_progress_can_be_a_bar(fs: OssDCPFileSystem, oss_bucket: OssBucket, capsys: pytest.CaptureFixture[str]) -> None:
    dcp.save({"weight": torch.ones(1000)}, storage_writer=fs.writer(oss_bucket.uri + "ckpt", progress=True))
    assert f"save {oss_bucket.uri}ckpt: 100%" in capsys.readouterr().err


def test_one_line_of_the_log_tells_size_and_speed(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, caplog: pytest.LogCaptureFixture
) -> None:
    state = {"weight": torch.ones(1000)}
    with caplog.at_level(logging.INFO, "osstorchconnector.dcp"):
        dcp.save(state, storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
        dcp.load(state, storage_reader=fs.reader(oss_bucket.uri + "ckpt"))
    saved, loaded = (record.message for record in caplog.records if record.name.startswith("osstorchconnector.dcp"))
    assert saved.startswith(f"saved {oss_bucket.uri}ckpt: ")
    assert loaded.startswith(f"loaded {oss_bucket.uri}ckpt: ")
    assert "GB/s" in saved and "GB/s" in loaded
    assert "retries" in saved and "retries" in loaded
