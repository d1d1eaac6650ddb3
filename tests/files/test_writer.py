"""OssWriter: what it sends for what is written, how much at a time, and what it refuses."""

from __future__ import annotations

import io
import pickle
import threading
import warnings
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from files.fake_client import FakeClient, Gate
from files.small_parts import DATA, OLD, PART, TRANSFER, client_with_small_parts, stored, writer_of
from hypothesis import given, settings
from hypothesis import strategies as st

from osstorchconnector.config import Config, TransferConfig
from osstorchconnector.errors import OssError
from osstorchconnector.protocol.checksum import crc64


@pytest.fixture
def client() -> Iterator[FakeClient]:
    with client_with_small_parts() as fake:
        yield fake


@pytest.fixture(scope="module")
def shared_client() -> Iterator[FakeClient]:
    with client_with_small_parts() as fake:
        yield fake


def part_sizes(client: FakeClient) -> list[int]:
    client.settle()
    return [call.size for call in sorted(client.calls, key=lambda call: call.number) if call.operation == "part"]


# what is sent


def test_nothing_written_and_a_clean_close_make_an_empty_object(client: FakeClient) -> None:
    with writer_of(client):
        pass
    assert stored(client) == b""
    assert client.operations() == ["put"]


@pytest.mark.parametrize("size", [1, 1000, PART - 1, PART])
def test_up_to_a_part_is_one_request(client: FakeClient, size: int) -> None:
    with writer_of(client) as writer:
        assert writer.write(DATA[:size]) == size
        assert client.operations() == []
    assert stored(client) == DATA[:size]
    assert client.operations() == ["put"]


@pytest.mark.parametrize("constant", [True, False])
def test_more_than_a_part_goes_in_parts(client: FakeClient, constant: bool) -> None:
    with writer_of(client) as writer:
        writer.write(DATA if constant else bytearray(DATA))
    assert stored(client) == DATA
    assert part_sizes(client) == [PART] * 10 + [17]
    assert client.operations()[0] == "create"
    assert client.operations()[-1] == "complete"
    assert client.uploads == {}


def test_parts_are_sent_while_writing_goes_on(client: FakeClient) -> None:
    with writer_of(client) as writer:
        for start in range(0, 5 * PART, 1000):
            writer.write(DATA[start : start + 1000])
        while len(part_sizes(client)) < 4:  # they are on their way; without them the limit of the test ends this
            pass
        assert stored(client) == OLD
        writer.discard()


def test_data_may_be_changed_as_soon_as_write_returns(client: FakeClient) -> None:
    gate = Gate()
    client.before = lambda call: gate.passed() if call.operation == "part" else None
    memory = bytearray(DATA[: 2 * PART + 5])
    with writer_of(client) as writer:
        writer.write(memory)
        memory[:] = bytes(len(memory))
        gate.open()
    assert stored(client) == DATA[: 2 * PART + 5]


def test_long_constant_bytes_are_sent_from_where_they_are(client: FakeClient) -> None:
    bodies: list[Any] = []
    operations = client._operations
    send = operations.upload_part

    async def spied(uri: Any, upload_id: str, number: int, body: Any, **options: Any) -> Any:
        bodies.append((number, [view.obj is DATA for view in body]))
        return await send(uri, upload_id, number, body, **options)

    operations.upload_part = spied
    with writer_of(client) as writer:
        writer.write(b"head")
        writer.write(DATA)
        writer.write(b"tail")
    assert stored(client) == b"head" + DATA + b"tail"
    assert sorted(bodies)[:3] == [(1, [False, True]), (2, [True]), (3, [True])]


def test_added_bytes_are_sent_from_where_they_are(client: FakeClient) -> None:
    pieces = [DATA[number : number + 3000] for number in range(0, len(DATA), 3000)]
    bodies: list[Any] = []
    operations = client._operations
    send = operations.upload_part

    async def spied(uri: Any, upload_id: str, number: int, body: Any, **options: Any) -> Any:
        bodies.append([id(view.obj) for view in body])
        return await send(uri, upload_id, number, body, **options)

    operations.upload_part = spied
    with writer_of(client) as writer:
        for number, piece in enumerate(pieces):
            writer.add(piece, crc64(piece) if number % 2 else None)
        assert writer.tell() == len(DATA)
    assert stored(client) == DATA
    assert part_sizes(client) == [PART] * 10 + [17]
    assert {each for body in bodies for each in body} == set(map(id, pieces))


def test_a_wrong_checksum_of_added_bytes_is_sent_with_them(client: FakeClient) -> None:
    def store() -> None:
        with writer_of(client) as writer:
            writer.add(DATA[:PART], crc64(b"other bytes"))
            writer.write(b"more")  # raises if it hears of it by then; else the writer's end does

    with pytest.raises(AssertionError):  # as the server in memory says
        store()
    assert stored(client) == OLD


@pytest.mark.parametrize("data", ["text", None])
def test_what_has_no_bytes_can_not_be_added(client: FakeClient, data: Any) -> None:
    with pytest.raises(TypeError), writer_of(client) as writer:
        writer.add(data)
    assert (client.operations(), stored(client)) == ([], OLD)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3 * PART) | st.sampled_from([PART, 2 * PART]), st.sampled_from([bytes, bytearray, "added"])
        ),
        max_size=8,
    )
)
@settings(max_examples=100, deadline=None)
def test_what_is_stored_is_what_was_written(shared_client: FakeClient, writes: list[tuple[int, Any]]) -> None:
    shared_client.calls.clear()
    expected = io.BytesIO()
    with writer_of(shared_client) as writer:
        for size, kind in writes:
            data = DATA[size : 2 * size]
            if kind == "added":
                writer.add(data, crc64(data))
            else:
                assert writer.write(kind(data)) == len(data)
            expected.write(data)
            assert writer.tell() == expected.tell()
    assert stored(shared_client) == expected.getvalue()
    sizes = part_sizes(shared_client)
    assert all(size == PART for size in sizes[:-1])
    assert (shared_client.operations() == ["put"]) == (len(expected.getvalue()) <= PART)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", b""),
        (bytearray(b"abc"), b"abc"),
        (memoryview(b"abc")[1:], b"bc"),
        (array("i", [1, 2]), array("i", [1, 2]).tobytes()),
        (memoryview(array("d", [0.5])), array("d", [0.5]).tobytes()),
        (np.zeros((0, 3)), b""),
        (np.arange(3.0), np.arange(3.0).tobytes()),
    ],
)
def test_whatever_has_bytes_can_be_written(client: FakeClient, data: Any, expected: bytes) -> None:
    with writer_of(client) as writer:
        assert writer.write(data) == len(expected)
        writer.writelines([data, data])
        writer.flush()
    assert stored(client) == expected * 3


def test_parts_grow_with_the_object(client: FakeClient) -> None:
    size = 1002 * PART + 20
    with writer_of(client) as writer:
        writer.write(bytes(size))
    sizes = part_sizes(client)
    assert sizes[:1001] == [PART] * 1001
    assert sizes[1001] > PART or sizes[1001] == size - 1001 * PART
    assert sum(sizes) == len(stored(client)) == size


# bounds


def test_no_more_parts_are_in_flight_than_configured(client: FakeClient) -> None:
    with writer_of(client) as writer:
        for start in range(0, len(DATA), 7000):
            writer.write(DATA[start : start + 7000])
    assert client.most_under_way["part"] <= TRANSFER.upload_concurrency
    assert stored(client) == DATA


@pytest.mark.parametrize("kind", ["constant", "changing", "added"])
def test_no_more_memory_is_in_flight_than_configured(kind: str) -> None:
    client = FakeClient(Config(part_bytes=PART, upload_memory_bytes=4 * PART))
    with writer_of(client, TransferConfig(upload_concurrency=64)) as writer:
        for start in range(0, len(DATA), 7000) if kind == "added" else ():
            writer.add(DATA[start : start + 7000])
        if kind != "added":
            writer.write(DATA if kind == "constant" else bytearray(DATA))
    assert client.most_under_way["part"] <= 4
    assert stored(client) == DATA
    client.close()


def test_writing_waits_while_all_parts_are_under_way(client: FakeClient) -> None:
    gate = Gate()
    client.before = lambda call: gate.passed() if call.operation == "part" else None
    writer = writer_of(client)
    writing = threading.Thread(target=writer.write, args=(DATA,))
    writing.start()
    while client.most_under_way["part"] < TRANSFER.upload_concurrency:
        writing.join(0.01)
    assert writing.is_alive()
    gate.open()
    writing.join()
    writer.close()
    assert stored(client) == DATA


# what a writer refuses


@pytest.mark.parametrize("data", ["text", 5, None, [1, 2]])
def test_what_has_no_bytes_is_a_type_error_and_harms_nothing(client: FakeClient, data: Any) -> None:
    with writer_of(client) as writer:
        writer.write(b"before ")
        with pytest.raises(TypeError):
            writer.write(data)
        with pytest.raises(BufferError):
            writer.write(memoryview(b"abcdef")[::2])
        writer.write(b"after")
    assert stored(client) == b"before after"


@pytest.mark.parametrize(
    "use",
    [
        lambda writer: writer.read(),
        lambda writer: writer.read1(),
        lambda writer: writer.readinto(bytearray(1)),
        lambda writer: writer.readline(),
        lambda writer: writer.seek(0),
        lambda writer: writer.truncate(),
        lambda writer: writer.fileno(),
        lambda writer: writer.detach(),
    ],
)
def test_what_a_writer_has_not_is_an_unsupported_operation(client: FakeClient, use: Any) -> None:
    writer = writer_of(client)
    with pytest.raises(io.UnsupportedOperation):
        use(writer)
    writer.discard()
    assert (client.operations(), stored(client)) == ([], OLD)


@pytest.mark.parametrize("name", ["seek", "truncate", "read", "fileno"])
def test_a_writer_says_which_one_can_seek(client: FakeClient, name: str) -> None:
    writer = writer_of(client)
    with pytest.raises(io.UnsupportedOperation) as caught:
        getattr(writer, name)(*[0] * (name != "fileno"))
    writer.discard()
    assert f"{name}: {writer.uri} is written front to back" in str(caught.value)
    assert "seekable=True" in str(caught.value)


def test_torch_does_not_warn_that_an_object_can_not_be_synced(client: FakeClient) -> None:
    """Warnings are errors in these tests: what torch 2.15 does in `FileSystemWriter` would raise."""
    writer = writer_of(client)
    for _ in range(2):
        with pytest.raises(io.UnsupportedOperation) as caught:
            writer.fileno()
        warnings.warn(f"fsync not supported for this stream, relying on flush(): {caught.value}", stacklevel=1)
        warnings.simplefilter("error")  # as a program may at any time
    writer.discard()
    others = "fsync not supported for this stream, relying on flush(): fileno"
    with pytest.warns(UserWarning, match="fileno$"):
        warnings.warn(others, stacklevel=1)


@pytest.mark.parametrize(
    "use",
    [
        lambda writer: writer.write(b"x"),
        lambda writer: writer.writelines([b"x"]),
        lambda writer: writer.flush(),
        lambda writer: writer.tell(),
        lambda writer: writer.writable(),
        lambda writer: writer.__enter__(),
    ],
)
def test_using_a_closed_writer_is_a_value_error(client: FakeClient, use: Any) -> None:
    writer = writer_of(client)
    writer.write(b"all")
    writer.close()
    with pytest.raises(ValueError, match="closed"):
        use(writer)
    assert stored(client) == b"all"


def test_a_writer_knows_its_name_and_what_it_can_do(client: FakeClient) -> None:
    writer = writer_of(client)
    assert (writer.uri, writer.key) == ("oss://bucket/folder/object.bin", "/bucket/folder/object.bin")
    assert (writer.bucket, writer.name, writer.mode) == ("bucket", "folder/object.bin", "wb")
    assert (writer.writable(), writer.readable(), writer.seekable(), writer.isatty()) == (True, False, False, False)
    writer.write(b"four")
    shown = "<OssWriter 'oss://bucket/folder/object.bin', 4 bytes written, "
    assert repr(writer) == f"{shown}open: nothing is stored before it is closed>"
    writer.discard()
    assert repr(writer) == f"{shown}closed>"


def test_a_writer_does_not_pickle(client: FakeClient) -> None:
    writer = writer_of(client)
    with pytest.raises(TypeError, match="can't be pickled"):
        pickle.dumps(writer)
    writer.discard()


@pytest.mark.parametrize("size", [0, 10, PART, PART + 1, 5 * PART + 7])
def test_a_file_is_written_without_a_copy_of_its_bytes(client: FakeClient, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    source = io.BytesIO(data[:size])
    with writer_of(client) as writer:
        writer.write(b"before ")
        taken = 0
        while count := writer.write_from(source, 3 * PART):
            taken += count
        writer.write(b" behind")
    assert taken == size
    assert stored(client) == b"before " + data[:size] + b" behind"


def test_nothing_is_stored_of_a_file_that_can_not_be_read(client: FakeClient) -> None:
    class Broken:
        def readinto(self, view: memoryview) -> int:
            raise OSError("the disk is gone")

    writer = writer_of(client)
    with pytest.raises(OSError, match="the disk is gone"):
        writer.write_from(Broken(), PART)
    with pytest.raises(OssError, match="the disk is gone"):
        writer.close()
    assert stored(client) == OLD
