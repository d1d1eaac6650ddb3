"""DataObject: a file that knows its name, crosses processes with its bytes, and hands them out without a copy."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import random
from collections.abc import Iterator
from typing import Any

import pytest
from files.fake_client import TRANSFER, URI, FakeClient

from osstorchconnector.files.data_object import DataObject
from osstorchconnector.files.read_plan import KIB, MIB
from osstorchconnector.files.reader import OssReader
from osstorchconnector.protocol.values import ByteSpan

DATA = random.Random(4).randbytes(3 * MIB)
FIRST_BYTES = MIB


@pytest.fixture(params=["whole", "with a reader"])
def data(request: pytest.FixtureRequest, client: FakeClient) -> Iterator[DataObject]:
    """One with its bytes, and one of which only the beginning is there."""
    if request.param == "whole":
        made = DataObject(URI, DATA, label=7, etag="E")
    else:
        client.store(URI, DATA)
        first = client.get(URI, ByteSpan(0, FIRST_BYTES))
        made = DataObject(URI, OssReader(client, URI, transfer=TRANSFER, first=first), label=7, etag="E")
    yield made
    made.close()


def test_it_knows_its_name_size_and_label(data: DataObject) -> None:
    assert (data.key, data.uri) == ("/bucket/folder/object.bin", "oss://bucket/folder/object.bin")
    assert (data.bucket, data.name, data.size, data.label, data.etag) == (
        "bucket",
        "folder/object.bin",
        len(DATA),
        7,
        "E",
    )
    assert repr(data) == f"<DataObject 'oss://bucket/folder/object.bin', {len(DATA)} bytes, label 7>"
    data.close()
    assert (data.key, data.size, data.label, data.closed) == ("/bucket/folder/object.bin", len(DATA), 7, True)
    assert repr(data) == f"<DataObject 'oss://bucket/folder/object.bin', {len(DATA)} bytes, label 7, closed>"


def test_a_name_can_not_break_out_of_its_representation() -> None:
    hostile = DataObject(URI._replace(key="a\r\nb\x1b[31m"), b"")
    assert repr(hostile) == "<DataObject 'oss://bucket/a\\r\\nb\\x1b[31m', 0 bytes>"
    assert repr(DataObject(URI, b"abc", label="cat")).endswith(", 3 bytes, label 'cat'>")
    assert repr(DataObject(URI, b"abc", label=0)).endswith(", 3 bytes, label 0>")
    assert len(repr(DataObject(URI, b"", label="x" * 1000))) < 200


def test_it_is_a_file(data: DataObject) -> None:
    assert isinstance(data, io.BufferedIOBase)
    assert (data.readable(), data.seekable(), data.writable(), data.isatty(), data.mode) == (
        True,
        True,
        False,
        False,
        "rb",
    )
    assert data.read() == DATA
    assert data.read() == b""
    assert data.seek(-5, 2) == len(DATA) - 5
    assert data.peek() == DATA[-5:]
    assert data.read1(2) == DATA[-5:-3]
    memory = bytearray(10)
    assert data.readinto(memory) == 3
    assert data.readinto1(memory) == 0
    assert data.tell() == len(DATA)
    assert data.seek(0) == 0
    assert data.readline() == io.BytesIO(DATA).readline()
    assert next(data) == io.BytesIO(DATA).readlines()[1]


def test_whole_bytes_are_handed_out_as_they_are() -> None:
    with DataObject(URI, DATA) as data:
        assert data.read() is DATA


def test_the_end_of_the_block_closes_it(data: DataObject) -> None:
    with data as entered:
        assert entered is data
        assert data.read(3) == DATA[:3]
    assert data.closed
    data.close()


@pytest.mark.parametrize(
    "use",
    [
        lambda data: data.read(),
        lambda data: data.read1(),
        lambda data: data.peek(),
        lambda data: data.readinto(bytearray(1)),
        lambda data: data.readinto1(bytearray(1)),
        lambda data: data.readline(),
        lambda data: data.readlines(),
        next,
        lambda data: data.seek(0),
        lambda data: data.tell(),
        lambda data: data.readable(),
        lambda data: data.copy(),
        lambda data: data.flush(),
        lambda data: data.__enter__(),
    ],
)
def test_using_a_closed_one_is_a_value_error(data: DataObject, use: Any) -> None:
    data.close()
    with pytest.raises(ValueError, match="closed"):
        use(data)


@pytest.mark.parametrize(
    "use",
    [
        lambda data: data.write(b"x"),
        lambda data: data.writelines([b"x"]),
        lambda data: data.truncate(),
        lambda data: data.fileno(),
        lambda data: data.detach(),
    ],
)
def test_it_can_not_be_written(data: DataObject, use: Any) -> None:
    with pytest.raises(io.UnsupportedOperation):
        use(data)
    assert data.read() == DATA


@pytest.mark.parametrize("arguments", [(-1,), (-1, 1), (-len(DATA) - 1, 2)])
@pytest.mark.parametrize("error", [OSError, ValueError])
def test_a_seek_to_before_the_beginning_raises_as_files_do(
    data: DataObject, arguments: tuple[int, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        data.seek(*arguments)
    assert data.tell() == 0


def test_a_seek_from_nowhere_is_a_value_error(data: DataObject) -> None:
    with pytest.raises(ValueError, match="whence"):
        data.seek(-1, 9)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("position", [0, 10, len(DATA)])
def test_it_pickles_with_its_bytes_and_its_position(data: DataObject, protocol: int, position: int) -> None:
    data.seek(position)
    with pickle.loads(pickle.dumps(data, protocol)) as other:
        assert (other.key, other.size, other.label, other.etag) == (data.key, data.size, data.label, data.etag)
        assert other.tell() == data.tell() == position
        assert other.read() == DATA[position:]
        other.seek(0)
        assert other.read() == DATA


@pytest.mark.parametrize("duplicate", [DataObject.copy, copy.copy, copy.deepcopy])
def test_a_copy_has_its_own_position_and_end(data: DataObject, duplicate: Any) -> None:
    with duplicate(data) as other:
        assert other.read() == DATA
        assert data.tell() == 0
    assert data.read() == DATA
    assert (other.key, other.label, other.closed, data.closed) == (data.key, data.label, True, False)


def test_a_copy_of_whole_bytes_shares_them() -> None:
    assert DataObject(URI, DATA).copy().read() is DATA


def test_the_rest_of_a_large_one_is_fetched_when_it_is_read(client: FakeClient) -> None:
    client.store(URI, DATA)
    first = client.get(URI, ByteSpan(0, FIRST_BYTES))
    with DataObject(URI, OssReader(client, URI, transfer=TRANSFER, first=first)) as data:
        assert data.size == len(DATA)
        assert data.read(FIRST_BYTES) == DATA[:FIRST_BYTES]
        assert client.spans() == [(0, FIRST_BYTES)]
        assert data.read() == DATA[FIRST_BYTES:]
    assert min(start for start, _ in client.spans()[1:]) == FIRST_BYTES


def test_dropping_one_fetches_nothing(client: FakeClient) -> None:
    client.store(URI, DATA)
    data = DataObject(URI, OssReader(client, URI, transfer=TRANSFER))
    data.seek(100)
    data.read()
    requests = len(client.spans())
    del data
    gc.collect()
    assert len(client.spans()) == requests


def test_an_exception_in_the_block_fetches_nothing_more(client: FakeClient) -> None:
    client.store(URI, DATA)
    data = DataObject(URI, OssReader(client, URI, transfer=TRANSFER))
    with pytest.raises(KeyError), data:  # noqa: PT012
        data.seek(100)
        data.read()
        requests = len(client.spans())
        raise KeyError
    assert data.closed
    assert len(client.spans()) == requests


def test_labels_are_whatever_they_are() -> None:
    label = {"class": 3, "box": (1, 2)}
    assert DataObject(URI, b"", label=label).label is label
    assert DataObject(URI, b"").label == ""


def test_a_small_part_of_a_large_one_is_a_small_request(client: FakeClient) -> None:
    client.store(URI, DATA)
    first = client.get(URI, ByteSpan(0, 100))
    with DataObject(URI, OssReader(client, URI, transfer=TRANSFER, first=first)) as data:
        data.seek(2 * MIB)
        assert data.read(10) == DATA[2 * MIB : 2 * MIB + 10]
    assert client.spans()[1:] == [(2 * MIB, 2 * MIB + 64 * KIB)]
