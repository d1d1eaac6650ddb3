"""What others do with a local file they do with ours, with the same results: loaders, archives, images, pickle."""

from __future__ import annotations

import csv
import gzip
import io
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from files.fake_client import TRANSFER, URI, FakeClient
from PIL import Image

from osstorchconnector.files.data_object import DataObject
from osstorchconnector.files.read_plan import KIB
from osstorchconnector.files.reader import OssReader
from osstorchconnector.files.writer import OssWriter
from osstorchconnector.protocol.values import ByteSpan

State = dict[str, Any]
Opener = Callable[[bytes], BinaryIO]


def state(width: int) -> State:
    generator = torch.Generator().manual_seed(width)
    tensors = {f"layer{i}.weight": torch.randn(width, 50 + i, generator=generator) for i in range(5)}
    shared = tensors["layer0.weight"]
    return {
        **tensors,
        "transposed": shared.t(),
        "half": shared.half(),
        "step": torch.tensor(7),
        "empty": torch.empty(0),
        "epoch": 3,
        "names": ["a", "b"],
    }


def same(left: State, right: State) -> bool:
    return left.keys() == right.keys() and all(
        torch.equal(left[name], right[name]) and left[name].stride() == right[name].stride()
        if isinstance(left[name], torch.Tensor)
        else left[name] == right[name]
        for name in left
    )


def saved(what: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(what, buffer, **options)
    return buffer.getvalue()


@pytest.fixture(params=["reader", "data object", "large data object", "buffered reader"])
def open_with_us(request: pytest.FixtureRequest, client: FakeClient) -> Iterator[Opener]:
    """Opens bytes as an object, in each of the ways that users get at one."""
    opened: list[BinaryIO] = []

    def open_it(data: bytes) -> BinaryIO:
        client.store(URI, data)
        if request.param == "data object":
            opened.append(DataObject(URI, data))
        elif request.param == "large data object":
            first = client.get(URI, ByteSpan(0, max(len(data) // 2, 1)))
            opened.append(DataObject(URI, OssReader(client, URI, transfer=TRANSFER, first=first)))
        elif request.param == "reader":
            opened.append(OssReader(client, URI, transfer=TRANSFER))
        else:
            opened.append(io.BufferedReader(OssReader(client, URI, transfer=TRANSFER)))
        return opened[-1]

    yield open_it
    for file in opened:
        file.close()


# reading


@pytest.mark.parametrize("width", [2, 3000])
@pytest.mark.parametrize("options", [{}, {"weights_only": True}, {"weights_only": False}, {"mmap": False}])
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_load(open_with_us: Opener, width: int, options: dict[str, Any], zipped: bool) -> None:
    data = saved(state(width), _use_new_zipfile_serialization=zipped)
    assert same(torch.load(open_with_us(data), **options), state(width))


def test_torch_load_of_a_small_object_is_one_request(client: FakeClient) -> None:
    data = saved({"w": torch.arange(10)})
    assert len(data) < 2 * KIB
    client.store(URI, data)
    with OssReader(client, URI, transfer=TRANSFER) as reader:
        torch.load(reader)
    assert client.spans() == [(0, 64 * KIB)]


def test_torch_load_sees_every_byte_so_that_the_crc_is_checked(client: FakeClient) -> None:
    data = saved(state(3000))
    client.store(URI, data)
    with OssReader(client, URI, transfer=TRANSFER) as reader:
        assert same(torch.load(reader), state(3000))
    assert reader._source._received.missing_bytes == 0
    asked = sum(stop - start for start, stop in client.spans())
    assert asked <= len(data) + 2 * 64 * KIB


@pytest.mark.parametrize("shape", [(0,), (5,), (300, 1000)])
def test_numpy_load(open_with_us: Opener, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(1).random(shape)
    buffer = io.BytesIO()
    np.save(buffer, array)
    assert np.array_equal(np.load(open_with_us(buffer.getvalue())), array)


def test_numpy_load_of_an_archive(open_with_us: Opener) -> None:
    arrays = {"a": np.arange(100_000), "b": np.ones((3, 4))}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with np.load(open_with_us(buffer.getvalue())) as loaded:
        assert all(np.array_equal(loaded[name], arrays[name]) for name in arrays)


def zipped_files(compression: int) -> tuple[bytes, dict[str, bytes]]:
    files = {f"folder/{n}.bin": os.urandom(n * 10_000) for n in range(20)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue(), files


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zipfile(open_with_us: Opener, compression: int) -> None:
    data, files = zipped_files(compression)
    file = open_with_us(data)
    assert zipfile.is_zipfile(file)
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        for name in reversed(archive.namelist()):
            assert archive.read(name) == files[name]


@pytest.mark.parametrize("data", [b"", b"PK", b"x" * 100, b"x" * 100_000])
def test_zipfile_refuses_what_is_none(open_with_us: Opener, data: bytes) -> None:
    file = open_with_us(data)
    assert not zipfile.is_zipfile(file)
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(file)


@pytest.mark.parametrize("mode", ["r:", "r", "r|", "r:gz"])
def test_tarfile(open_with_us: Opener, mode: Any) -> None:
    files = {f"{n}.txt": os.urandom(n * 7_000) for n in range(15)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if mode == "r:gz" else "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    with tarfile.open(fileobj=open_with_us(buffer.getvalue()), mode=mode) as archive:
        found = {member.name: archive.extractfile(member).read() for member in archive}
    assert found == files


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "GIF"])
def test_pillow(open_with_us: Opener, kind: str) -> None:
    pixels = np.random.default_rng(2).integers(0, 255, (200, 300, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    with Image.open(open_with_us(buffer.getvalue())) as ours, Image.open(buffer) as expected:
        assert ours.format == kind
        assert ours.convert("RGB").tobytes() == expected.convert("RGB").tobytes()


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_pickle(open_with_us: Opener, protocol: int) -> None:
    values = [{"numbers": list(range(20_000))}, os.urandom(500_000), "text", np.arange(50_000)]
    file = open_with_us(b"".join(pickle.dumps(value, protocol) for value in values))
    found = [pickle.load(file) for _ in values]
    assert found[:3] == values[:3]
    assert np.array_equal(found[3], values[3])
    assert file.read() == b""


def test_text_and_csv(open_with_us: Opener) -> None:
    rows = [[str(n), "Grüße, 世界", "x" * (n % 50)] for n in range(5_000)]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    with io.TextIOWrapper(open_with_us(text.getvalue().encode()), encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == rows


def test_gzip(open_with_us: Opener) -> None:
    lines = b"".join(b"line %d\n" % n for n in range(50_000))
    with gzip.open(open_with_us(gzip.compress(lines))) as file:
        assert file.read() == lines


def test_shutil_and_files(open_with_us: Opener, tmp_path: Path) -> None:
    import shutil

    data = os.urandom(700_000)
    with (tmp_path / "copy").open("wb") as target:
        shutil.copyfileobj(open_with_us(data), target)
    assert (tmp_path / "copy").read_bytes() == data


# writing


@pytest.fixture
def written(client: FakeClient) -> Callable[[Callable[[OssWriter], object]], bytes]:
    """Runs what writes to a file on a writer, and returns what was stored."""

    def run(write: Callable[[OssWriter], object]) -> bytes:
        with OssWriter(client, URI, transfer=TRANSFER) as writer:
            write(writer)
        return client.objects[URI].data

    return run


Written = Callable[[Callable[[OssWriter], object]], bytes]


@pytest.mark.parametrize("width", [2, 20_000])
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_save(written: Written, width: int, zipped: bool) -> None:
    data = written(lambda writer: torch.save(state(width), writer, _use_new_zipfile_serialization=zipped))
    assert same(torch.load(io.BytesIO(data)), state(width))
    if zipped:
        assert data == saved(state(width))


def test_numpy_save(written: Written) -> None:
    array = np.arange(200_000).reshape(400, 500).T
    assert np.array_equal(np.load(io.BytesIO(written(lambda writer: np.save(writer, array)))), array)


def test_numpy_savez(written: Written) -> None:
    data = written(lambda writer: np.savez_compressed(writer, a=np.arange(1000), b=np.ones(5)))
    with np.load(io.BytesIO(data)) as loaded:
        assert np.array_equal(loaded["a"], np.arange(1000))


def test_zipfile_write(written: Written) -> None:
    def write(writer: OssWriter) -> None:
        with zipfile.ZipFile(writer, "w") as archive:
            archive.writestr("a", b"first")
            archive.writestr("b", os.urandom(100_000))

    with zipfile.ZipFile(io.BytesIO(written(write))) as archive:
        assert archive.testzip() is None
        assert archive.read("a") == b"first"


@pytest.mark.parametrize("mode", ["w", "w|", "w:gz"])
def test_tarfile_write(written: Written, mode: Any) -> None:
    def write(writer: OssWriter) -> None:
        with tarfile.open(fileobj=writer, mode=mode) as archive:
            member = tarfile.TarInfo("name")
            member.size = 70_000
            archive.addfile(member, io.BytesIO(bytes(70_000)))

    with tarfile.open(fileobj=io.BytesIO(written(write))) as archive:
        assert archive.extractfile("name").read() == bytes(70_000)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP"])
def test_pillow_save(written: Written, kind: str) -> None:
    image = Image.fromarray(np.random.default_rng(2).integers(0, 255, (200, 300, 3), dtype=np.uint8))
    expected = io.BytesIO()
    image.save(expected, kind)
    assert written(lambda writer: image.save(writer, kind)) == expected.getvalue()


@pytest.mark.parametrize("protocol", [2, 5])
def test_pickle_dump(written: Written, protocol: int) -> None:
    value = {"bytes": os.urandom(300_000), "list": list(range(10_000))}
    assert pickle.loads(written(lambda writer: pickle.dump(value, writer, protocol))) == value


def test_text_write(written: Written) -> None:
    def write(writer: OssWriter) -> None:
        text = io.TextIOWrapper(writer, encoding="utf-8", write_through=True)
        text.write("Grüße\n" * 1000)
        text.detach()

    assert written(write).decode() == "Grüße\n" * 1000
