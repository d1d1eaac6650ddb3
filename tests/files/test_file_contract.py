"""A file of ours does what Python's own files do: each call is made on `BytesIO`, on a buffered local file and on ours.

Where Python's two agree, ours does the same, errors included; where they differ, it does as one of them.
"""

from __future__ import annotations

import array
import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from files.fake_client import TRANSFER, URI, FakeClient
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.files.data_object import DataObject
from osstorchconnector.files.reader import OssReader
from osstorchconnector.files.spooled_writer import OssSpooledWriter
from osstorchconnector.files.writer import OssWriter
from osstorchconnector.protocol.values import ByteSpan

DATA = b"1234567890\nline two\n\nline four, without an end" + bytes(range(100))
Call = Callable[[Any], Any]


class Integer:
    """What has `__index__` and is not an int."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __index__(self) -> int:
        return self._number


WRONG = ["", "1", "foo", 1.0, 2.5, b"1", [], (), {}, object(), 1j]
SIZES = [0, 1, 5, 11, 12, 45, 200, 10**6, -1, -2, -100, None, True, False, Integer(4), Integer(0), Integer(-1)]
PLACES = [0, 1, 10, 45, 200, 10**6, True, Integer(7), -1, Integer(-3), -(10**6), None, 2**63, -(2**70)]
WHENCES = [0, 1, 2, Integer(1), True, 3, -1, 9, None]


def calls() -> Iterator[tuple[str, Call]]:
    for name in ("read", "read1", "readline", "readlines", "peek"):
        yield name, lambda file, name=name: getattr(file, name)()
        for size in (*SIZES, *WRONG):
            yield f"{name}({shown(size)})", lambda file, name=name, size=size: getattr(file, name)(size)
        yield f"{name}(1, 2)", lambda file, name=name: getattr(file, name)(1, 2)
    for place in (*PLACES, *WRONG):
        yield f"seek({shown(place)})", lambda file, place=place: file.seek(place)
    for whence in (*WHENCES, *WRONG):
        for place in (0, 3, -3, Integer(2)):
            yield (
                f"seek({shown(place)}, {shown(whence)})",
                lambda file, place=place, whence=whence: file.seek(place, whence),
            )
    for name in ("readinto", "readinto1"):
        for text, make in BUFFERS.items():
            yield f"{name}({text})", lambda file, name=name, make=make: filled(getattr(file, name), make())
    for name in ("tell", "readable", "writable", "seekable", "isatty", "fileno", "flush", "truncate"):
        yield name, lambda file, name=name: getattr(file, name)()
    yield from OTHERS.items()


def shown(value: Any) -> str:
    return f"Integer({value.__index__()})" if isinstance(value, Integer) else repr(value).partition(" at ")[0]


def filled(read: Call, buffer: Any) -> Any:
    count = read(buffer)
    return count, bytes(buffer)


def lines_in(file: Any) -> Any:
    with file:
        return file.readlines()


BUFFERS: dict[str, Callable[[], Any]] = {
    "bytearray": lambda: bytearray(20),
    "empty": bytearray,
    "long": lambda: bytearray(1000),
    "array": lambda: array.array("i", [0] * 5),
    "view": lambda: memoryview(bytearray(20))[3:9],
    "cast view": lambda: memoryview(bytearray(24)).cast("I", [2, 3]),
    "every second": lambda: memoryview(bytearray(20))[::2],
    "bytes": lambda: bytes(10),
    "constant view": lambda: memoryview(bytes(10)),
    "text": lambda: "x" * 10,
    "nothing": lambda: None,
    "number": lambda: 10,
    "list": lambda: [0] * 10,
}

OTHERS: dict[str, Call] = {
    "iter": lambda file: iter(file) is file,
    "next": next,
    "list": list,
    "lines, then read": lambda file: (next(file), file.read(3), next(file), file.tell()),
    "to the end": lambda file: (file.read(), file.read(), file.read(1), file.read1(5), file.readline(), list(file)),
    "next at the end": lambda file: (file.read(), next(file)),
    "read beyond the end": lambda file: (file.seek(10**6), file.read(), file.read(4), file.tell()),
    "readline beyond the end": lambda file: (file.seek(10**6), file.readline(), file.readlines(), file.tell()),
    "readinto beyond the end": lambda file: (file.seek(10**6), file.readinto(bytearray(4)), file.tell()),
    "from the end": lambda file: (file.seek(-4, 2), file.read(), file.seek(0, 2), file.seek(3, 1)),
    "to and fro": lambda file: (file.seek(9), file.read(2), file.seek(-2, 1), file.read(2), file.tell()),
    "seek by names": lambda file: (file.seek(1, os.SEEK_SET), file.seek(1, os.SEEK_CUR), file.seek(0, os.SEEK_END)),
    "no names of arguments": lambda file: file.seek(offset=1),
    "write": lambda file: file.write(b"x"),
    "write nothing": lambda file: file.write(b""),
    "writelines": lambda file: file.writelines([b"x"]),
    "truncate": lambda file: file.truncate(3),
    "close": lambda file: (file.close(), file.close(), file.closed),
    "with": lambda file: (file.__enter__() is file, file.__exit__(None, None, None), file.closed),
    "as a text": lambda file: lines_in(io.TextIOWrapper(file, "latin-1")),
    "buffered": lambda file: lines_in(io.BufferedReader(file)),
    "detach": lambda file: file.detach().close(),
    "no length": len,
    "not called": lambda file: file(),
    "truth": bool,
    "equal": lambda file: file == file,
    "hash": lambda file: hash(file) == hash(file),
    "isinstance": lambda file: (isinstance(file, io.IOBase), isinstance(file, io.BufferedIOBase)),
    "not raw or text": lambda file: (isinstance(file, io.RawIOBase), isinstance(file, io.TextIOBase)),
}
CALLS = dict(calls())


def outcome(file: Any, call: Call) -> tuple[Any, ...]:
    """What a call gives, or the kinds of its error, and where the file stands then."""
    try:
        result = call(file)
    except Exception as error:
        result = {kind for kind in KINDS if isinstance(error, kind)}
    try:
        return result, file.tell()
    except ValueError:  # closed
        return result, None


KINDS = (io.UnsupportedOperation, StopIteration, TypeError, BufferError, OverflowError, ValueError, OSError)
# What BytesIO has only lately, so that only the other file counts.
LATE = "peek"
# These give what is at hand.
AT_HAND = ("read1", "peek", "readinto1")


def agree(name: str, ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> bool:
    (got, place), (expected, right_place) = ours, theirs
    if isinstance(got, set) and isinstance(expected, set):
        return bool(got & expected) and place == right_place
    if name.startswith(AT_HAND) and place and isinstance(got, type(expected)):
        data, whole = (got[1][: got[0]], expected[1]) if isinstance(got, tuple) else (got, expected)
        return len(data) == place <= right_place and whole.startswith(data)
    if name.startswith("peek") and got and not isinstance(got, set) and isinstance(expected, bytes):
        return expected.startswith(got) and place == right_place
    return ours == theirs


@pytest.fixture(scope="module")
def client() -> Iterator[FakeClient]:
    fake = FakeClient()
    fake.store(URI, DATA)
    yield fake
    fake.close()


def whole(client: FakeClient) -> Any:
    return DataObject(URI, DATA)


def partial(client: FakeClient) -> Any:
    first = client.get(URI, ByteSpan(0, 30))
    return DataObject(URI, OssReader(client, URI, transfer=TRANSFER, first=first))  # type: ignore[arg-type]


def reader(client: FakeClient) -> Any:
    return OssReader(client, URI, transfer=TRANSFER)  # type: ignore[arg-type]


def spooled(client: FakeClient) -> Any:
    writer = OssSpooledWriter(client, URI._replace(key="new"), transfer=TRANSFER)  # type: ignore[arg-type]
    writer.write(DATA)
    writer.seek(0)
    return writer


def pythons(name: str, folder: Path) -> list[Any]:
    path = folder / "file"
    path.write_bytes(DATA)
    return [path.open("rb")] if name.startswith(LATE) else [io.BytesIO(DATA), path.open("rb")]


def differences(
    calls: dict[str, Call], ours: Callable[[], Any], theirs: Callable[[str], list[Any]]
) -> dict[str, tuple[Any, Any]]:
    """What our file does differently: by call, what it gives and what Python's files give."""
    found = {}
    for name, call in calls.items():
        expected = []
        for file in theirs(name):
            expected.append(outcome(file, call))
            with contextlib.suppress(ValueError):  # detached
                file.close()
        file = ours()
        got = outcome(file, call)
        if isinstance(file, OssWriter | OssSpooledWriter):
            file.discard()
        if not any(agree(name, got, right) for right in expected):
            found[name] = (got, expected)
    return found


def closed(file: Any) -> Any:
    file.close()
    return file


@pytest.mark.parametrize("make", [whole, partial, reader])
def test_calls_do_what_they_do_on_pythons_files(client: FakeClient, tmp_path: Path, make: Any) -> None:
    assert differences(CALLS, lambda: make(client), lambda name: pythons(name, tmp_path)) == {}


def test_calls_on_a_writer_that_can_seek_do_what_they_do_on_pythons_files(client: FakeClient, tmp_path: Path) -> None:
    calls = {name: call for name, call in {**CALLS, **WRITES}.items() if not name.startswith("peek")}

    def theirs(name: str) -> list[Any]:
        path = tmp_path / "file"
        path.write_bytes(DATA)
        return [io.BytesIO(DATA), path.open("rb+")]

    assert differences(calls, lambda: spooled(client), theirs) == {}


@pytest.mark.parametrize("make", [whole, partial, reader])
def test_calls_on_a_closed_file_do_what_they_do_on_pythons(client: FakeClient, tmp_path: Path, make: Any) -> None:
    found = differences(
        CALLS, lambda: closed(make(client)), lambda name: [closed(file) for file in pythons(name, tmp_path)]
    )
    # Whether the file or the argument is complained of first is nobody's business.
    assert {
        name: outcomes for name, outcomes in found.items() if outcomes[0] != ({ValueError}, None) or name in WELL_CALLED
    } == {}


WELL_CALLED = [*OTHERS, "read", "read(5)", "seek(0)", "seek(0, 1)", "tell", "readinto(bytearray)", "flush", "readable"]


# many calls after each other

steps = st.one_of(
    st.tuples(st.sampled_from(["read", "readline"]), st.one_of(st.none(), st.integers(-2, 60)).map(lambda n: (n,))),
    st.tuples(st.just("seek"), st.tuples(st.integers(0, 200))),
    st.tuples(st.just("seek"), st.tuples(st.integers(0, 60), st.sampled_from([1, 2]))),
    st.tuples(st.sampled_from(["tell", "readlines"]), st.just(())),
)


@given(st.lists(steps, max_size=12), st.sampled_from([whole, partial, reader]))
def test_calls_one_after_the_other_do_what_they_do_on_bytes_io(
    client: FakeClient, calls: list[tuple[str, Any]], make: Any
) -> None:
    theirs = io.BytesIO(DATA)
    with contextlib.closing(make(client)) as ours:
        for name, arguments in calls:
            assert getattr(ours, name)(*arguments) == getattr(theirs, name)(*arguments)
            assert ours.tell() == theirs.tell()


# writers

WRITES: dict[str, Call] = {
    **{f"write({shown(data)})": lambda file, data=data: file.write(data) for data in (*WRONG, None, 3, "text", True)},
    **{f"write a {name}": lambda file, make=make: file.write(make()) for name, make in BUFFERS.items()},
    "write Integer": lambda file: file.write(Integer(3)),
    "write numbers": lambda file: file.write(array.array("d", [1.0, 2.0])),
    "writelines": lambda file: file.writelines([b"one\n", bytearray(b"two\n"), memoryview(b"three")]),
    "writelines of a generator": lambda file: file.writelines(line for line in (b"1", b"2")),
    "writelines of nothing": lambda file: file.writelines([]),
    "writelines of texts": lambda file: file.writelines(["text"]),
    "writelines of none": lambda file: file.writelines(None),
    "write nothing at all": lambda file: file.write(),
    "flush": lambda file: (file.write(b"x"), file.flush(), file.tell()),
    "isatty": lambda file: file.isatty(),
    "writable": lambda file: file.writable(),
    "with": lambda file: (file.__enter__() is file, file.closed),
}
WRITE_ONLY = ("read", "read1", "readline", "readlines", "readinto(bytearray)")


@pytest.mark.parametrize("prepare", [lambda file: file, closed])
def test_calls_on_a_writer_do_what_they_do_on_pythons_files(client: FakeClient, tmp_path: Path, prepare: Any) -> None:
    found = differences(
        WRITES,
        lambda: prepare(OssWriter(client, URI._replace(key="new"), transfer=TRANSFER)),  # type: ignore[arg-type]
        lambda name: [prepare(io.BytesIO()), prepare((tmp_path / "file").open("wb"))],
    )
    # A closed file may complain of that or of the argument: BytesIO and files of Python 3.14 complain of the argument.
    assert {name: outcomes for name, outcomes in found.items() if not is_about_the_argument(*outcomes)} == {}


def is_about_the_argument(ours: tuple[Any, ...], theirs: list[tuple[Any, ...]]) -> bool:
    """True if our file says that it is closed, and Python's that the argument is wrong."""
    return ours == ({ValueError}, None) and all(result in ({TypeError}, {BufferError}) for result, _ in theirs)


def test_a_writer_can_not_be_read(client: FakeClient, tmp_path: Path) -> None:
    found = differences(
        {name: CALLS[name] for name in WRITE_ONLY},
        lambda: OssWriter(client, URI._replace(key="new"), transfer=TRANSFER),  # type: ignore[arg-type]
        lambda name: [(tmp_path / "file").open("wb")],
    )
    assert found == {}
