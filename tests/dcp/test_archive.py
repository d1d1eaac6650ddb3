from __future__ import annotations

import io
import struct
import zipfile
import zlib

import pytest
import torch
from dcp.states import DTYPES
from hypothesis import given, settings
from hypothesis import strategies as st

from osstorchconnector.dcp.archive import Archive, NotAnArchiveError, archive_around, read_directory, stated_crc
from osstorchconnector.dcp.tensors import tensor_archive
from osstorchconnector.protocol.checksum import crc32
from osstorchconnector.tensors.memory import memory

ID_BYTES = 20  # the half of the serialization id that stands for the content; torch's own sum
GIB = 1 << 30


def saved(tensor: torch.Tensor) -> bytes:
    file = io.BytesIO()
    torch.save(tensor, file)
    return file.getvalue()


def assembled(tensor: torch.Tensor) -> bytes:
    archive, data = tensor_archive(tensor.dtype, tuple(tensor.shape)), memory(tensor)
    return archive.head + bytes(data) + archive.tail(crc32(data))


@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (1000, 77), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_item_is_what_torch_writes_but_for_its_serialization_id(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensor = torch.ones(shape).to(dtype)
    ours, theirs = assembled(tensor), saved(tensor)
    different = [place for place, (left, right) in enumerate(zip(ours, theirs, strict=True)) if left != right]
    assert len(different) <= ID_BYTES + 2 * 4
    assert torch.equal(
        torch.load(io.BytesIO(ours), weights_only=True).to(torch.complex128), tensor.to(torch.complex128)
    )


def test_the_crc_in_an_item_is_true() -> None:
    item = assembled(torch.randn(1000))
    with zipfile.ZipFile(io.BytesIO(item)) as archive:
        assert archive.testzip() is None
        data = archive.read("archive/data/0")
    assert read_directory(item)["data/0"].crc == zlib.crc32(data)


def test_an_item_of_more_than_4_gib_has_the_same_layout_as_torchs() -> None:
    # made by torch 2.13 of torch.empty(4 GiB + 5, dtype=torch.uint8)
    archive = tensor_archive(torch.uint8, (4 * GIB + 5,))
    assert (len(archive.head), len(archive.tail_template)) == (704, 920)
    zip64 = struct.pack("<HHQQ", 1, 16, 4 * GIB + 5, 4 * GIB + 5)
    assert zip64 in archive.head
    assert zip64 in archive.tail_template
    assert archive.tail(7)[:8] == b"PK\x07\x08" + struct.pack("<I", 7)


@given(st.binary(min_size=1, max_size=300), st.integers(1, 5 * GIB), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_only_the_crc_depends_on_the_data(pickle: bytes, data_bytes: int, crc: int) -> None:
    archive = archive_around(pickle, data_bytes)
    tail = archive.tail(crc)
    assert archive.size == len(archive.head) + data_bytes + len(tail)
    assert len(archive.head) % 64 == 0
    assert stated_crc(tail) == crc
    places = (4, archive.directory_crc_at)
    blanked = bytearray(tail)
    for place in places:
        assert tail[place : place + 4] == struct.pack("<I", crc)
        blanked[place : place + 4] = bytes(4)
    assert bytes(blanked) == archive.tail(0)


@given(st.binary(max_size=200))
@settings(deadline=None)
def test_bytes_that_are_no_archive_are_told(data: bytes) -> None:
    with pytest.raises(NotAnArchiveError):
        read_directory(data + b"not an archive")


@given(st.integers(0, 1600), st.integers(0, 255))
@settings(deadline=None)
def test_a_damaged_archive_is_read_or_refused_but_never_crashes(place: int, value: int) -> None:
    item = bytearray(assembled(torch.arange(20)))
    item[place % len(item)] = value
    try:
        records = read_directory(item)
    except NotAnArchiveError:
        return
    assert records


def test_the_directory_of_what_torch_writes_is_read() -> None:
    tensor = torch.randn(300)
    item = saved(tensor)
    record = read_directory(item)["data/0"]
    assert item[record.start : record.start + record.size] == bytes(memory(tensor))


def test_a_tail_can_be_asked_whether_it_is_one() -> None:
    assert stated_crc(b"something else") is None


def test_an_archive_says_its_size() -> None:
    archive = tensor_archive(torch.float32, (10,))
    assert isinstance(archive, Archive)
    assert archive.size == len(saved(torch.zeros(10)))
