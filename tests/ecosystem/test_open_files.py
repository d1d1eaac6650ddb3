"""Libraries that take an open file: h5py, numpy, PyAV, torchcodec. They seek, so the requests are counted."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch

from osstorchconnector.filesystem import OssFileSystem
from osstorchconnector.testing import OssBucket

MIB = 1 << 20


@pytest.fixture
def fs(oss_bucket: OssBucket) -> OssFileSystem:
    return OssFileSystem(**oss_bucket.options)


def gets(bucket: OssBucket) -> list[int]:
    """Return how many bytes each GET brought since the counters were reset."""
    return [call.bytes_out for call in bucket.server.counters().log if call.operation == "GetObject"]


def test_arrays_of_numpy(oss_bucket: OssBucket, fs: OssFileSystem) -> None:
    array = np.random.default_rng(3).random((1000, 500))
    with fs.open(f"{oss_bucket.name}/array.npy", "wb") as file:
        np.lib.format.write_array(file, array)
    oss_bucket.server.reset_counters()
    with fs.open(f"{oss_bucket.name}/array.npy") as file:
        assert np.lib.format.read_magic(file) == (1, 0)
        assert np.lib.format.read_array_header_1_0(file)[0] == (1000, 500)
        file.seek(0)
        assert np.array_equal(np.lib.format.read_array(file), array)
    assert sum(gets(oss_bucket)) <= 1.1 * array.nbytes + MIB and len(gets(oss_bucket)) <= 32
    with fs.open(f"{oss_bucket.name}/arrays.npz", "wb") as file:
        np.savez(file, first=array, second=array[:10])
    oss_bucket.server.reset_counters()
    with fs.open(f"{oss_bucket.name}/arrays.npz") as file, np.load(file) as found:
        assert np.array_equal(found["second"], array[:10])
    assert sum(gets(oss_bucket)) <= 0.5 * array.nbytes


def test_one_dataset_of_hdf5_costs_its_bytes(oss_bucket: OssBucket, fs: OssFileSystem) -> None:
    h5py = pytest.importorskip("h5py")
    chance = np.random.default_rng(4)
    data = {f"d{number}": chance.random(MIB // 8) for number in range(10)}
    memory = io.BytesIO()
    with h5py.File(memory, "w") as file:
        for name, array in data.items():
            file.create_dataset(name, data=array)
    fs.pipe_file(f"{oss_bucket.name}/data.h5", memory.getvalue())
    oss_bucket.server.reset_counters()
    with fs.open(f"{oss_bucket.name}/data.h5") as opened, h5py.File(opened, "r") as file:
        assert sorted(file) == sorted(data)
        assert np.array_equal(file["d7"][:], data["d7"])
        assert np.array_equal(file["d3"][1000:2000], data["d3"][1000:2000])
    assert sum(gets(oss_bucket)) <= 4 * MIB and len(gets(oss_bucket)) <= 32


def test_hdf5_is_written_by_a_file_that_can_seek(oss_bucket: OssBucket, fs: OssFileSystem) -> None:
    """A file opened with "wb" goes forward only. The seekable writer of `OssCheckpoint` can do more."""
    h5py = pytest.importorskip("h5py")
    from osstorchconnector import OssCheckpoint

    checkpoint = OssCheckpoint(**oss_bucket.options)
    with checkpoint.writer(f"{oss_bucket.uri}new.h5", seekable=True) as opened, h5py.File(opened, "w") as file:
        file["numbers"] = np.arange(1000)
    with fs.open(f"{oss_bucket.name}/new.h5") as opened, h5py.File(opened, "r") as file:
        assert np.array_equal(file["numbers"][:], np.arange(1000))


def video(seconds: int) -> bytes:
    """Return an MP4 whose frames are grey, one step lighter each."""
    av = pytest.importorskip("av")
    memory = io.BytesIO()
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 128
        stream.pix_fmt, stream.gop_size, stream.bit_rate = "yuv420p", 10, 4_000_000
        chance = np.random.default_rng(5)
        for number in range(seconds * 10):
            picture = chance.integers(0, 40, (128, 128, 3), dtype=np.uint8) + np.uint8(number % 200)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return memory.getvalue()


def test_one_frame_of_a_film_costs_a_few_requests(oss_bucket: OssBucket, fs: OssFileSystem) -> None:
    av = pytest.importorskip("av")
    film = video(60)
    oss_bucket.put("film.mp4", film)

    def frame_at(second: float, file: Any) -> Any:
        with av.open(file) as container:
            stream = container.streams.video[0]
            container.seek(int(second / stream.time_base), stream=stream)
            return next(frame for frame in container.decode(stream) if frame.time >= second).to_ndarray()

    expected = frame_at(41.5, io.BytesIO(film))
    oss_bucket.server.reset_counters()
    with fs.open(f"{oss_bucket.name}/film.mp4") as file:
        assert np.array_equal(frame_at(41.5, file), expected)
    assert len(gets(oss_bucket)) <= 8 and sum(gets(oss_bucket)) < len(film) / 2


@pytest.mark.parametrize("mode", ["approximate", "exact"])
def test_torchcodec_reads_a_film_in_parts_or_once(oss_bucket: OssBucket, fs: OssFileSystem, mode: str) -> None:
    """With "exact", it goes through the whole film first, to know where each frame is."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError) as error:  # a RuntimeError without the libraries of FFmpeg
        pytest.skip(f"no torchcodec: {str(error)[:100]}")
    film = video(60)
    oss_bucket.put("film.mp4", film)
    expected = VideoDecoder(film, seek_mode=mode).get_frame_played_at(41.5).data
    oss_bucket.server.reset_counters()
    with fs.open(f"{oss_bucket.name}/film.mp4") as file:
        assert torch.equal(VideoDecoder(file, seek_mode=mode).get_frame_played_at(41.5).data, expected)
    if mode == "approximate":
        assert len(gets(oss_bucket)) <= 8 and sum(gets(oss_bucket)) < len(film) / 2
    else:
        assert len(gets(oss_bucket)) <= 40 and sum(gets(oss_bucket)) < 1.1 * len(film)
