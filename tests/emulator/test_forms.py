"""Forms, however the network cuts them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osstorchconnector.emulator.exchange import Received
from osstorchconnector.emulator.intake import BlobIntake
from osstorchconnector.emulator.operations.posting import FormIntake
from osstorchconnector.emulator.refusals import Refused

TYPE = 'multipart/form-data; boundary="--xyz"'
Form = list[tuple[str, bytes]]


class Sink(BlobIntake):
    """Keeps a file's bytes."""

    def __init__(self) -> None:
        super().__init__(None, with_md5=True, content_md5=None, limit_bytes=10_000)
        self.data = b""

    def write(self, data: memoryview) -> None:
        super().write(data)
        self.data += data


def encoded(fields: Form, boundary: bytes = b"--xyz") -> bytes:
    parts = []
    for name, value in fields:
        file_name = b'; filename="C:\\dir\\a.txt"\r\nContent-Type: text/plain' if name == "file" else b""
        head = b'Content-Disposition: form-data; name="' + name.encode() + b'"' + file_name
        parts.append(b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + value + b"\r\n")
    return b"".join(parts) + b"--" + boundary + b"--\r\n"


def read(body: bytes, *cuts: int, content_type: str = TYPE) -> tuple[Received, bytes]:
    """Return what is received of a form that comes in pieces, and the file's bytes."""
    sink = Sink()
    intake = FormIntake(content_type, lambda _fields: sink)
    start = 0
    for stop in (*sorted(cuts), len(body)):
        intake.write(memoryview(body)[start:stop])
        start = stop
    return intake.finish(), sink.data


BYTES = st.binary(max_size=60) | st.text("\r\n-xyz", max_size=30).map(str.encode)


@settings(max_examples=300, deadline=None)
@given(value=st.text("\r\n-xyz é", max_size=30), data=BYTES, cuts=st.lists(st.integers(0, 400), max_size=8))
def test_a_form_is_the_same_however_it_is_cut(value: str, data: bytes, cuts: list[int]) -> None:
    if "\r\n----xyz" in f"\r\n{value}" or b"\r\n----xyz" in b"\r\n" + data:
        return
    received, stored = read(encoded([("Key", value.encode()), ("file", data), ("late", b"1")]), *cuts)
    assert dict(received.fields) == {"key": value, "content-type": "text/plain", "filename": "a.txt"}
    assert (stored, received.size) == (data, len(data))


@pytest.mark.parametrize(
    "content_type",
    ["multipart/form-data; boundary=--xyz", "Multipart/Form-Data;charset=utf-8; boundary=--xyz; a=b", TYPE],
)
def test_the_boundary_is_found_in_the_type(content_type: str) -> None:
    assert read(encoded([("file", b"x")]), content_type=content_type)[1] == b"x"


@pytest.mark.parametrize("content_type", ["", "text/plain", "multipart/form-data", "multipart/form-data; boundary="])
def test_what_is_no_form_is_refused(content_type: str) -> None:
    with pytest.raises(Refused, match="RequestIsNotMultiPartContent"):
        FormIntake(content_type, lambda _fields: Sink())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "MalformedPOSTRequest"),
        (b"nonsense", "MalformedPOSTRequest"),
        (encoded([("file", b"x")])[:-8], "MalformedPOSTRequest"),
        (encoded([("key", b"x")]), "IncorrectNumberOfFilesInPOSTRequest"),
        (encoded([("key", b"x" * 4097), ("file", b"x")]), "FieldItemTooLong"),
        (encoded([("key", b"\xff"), ("file", b"x")]), "MalformedPOSTRequest"),
        (encoded([("", b"x"), ("file", b"x")]), "MalformedPOSTRequest"),
        (b"----xyz\r\n" + b"x" * 5000, "MalformedPOSTRequest"),
        (encoded([(f"k{number}", b"") for number in range(200)]), "MalformedPOSTRequest"),
        (encoded([("file", b"x" * 10_001)]), "EntityTooLarge"),
    ],
)
def test_a_form_that_is_none_is_refused(body: bytes, code: str) -> None:
    for cuts in ((), range(1, len(body))):
        with pytest.raises(Refused, match=code):
            read(body, *cuts)


@settings(max_examples=200, deadline=None)
@given(st.text('-xyz\r\n:;="fileContent-Disposition form-data name', max_size=200).map(str.encode))
def test_whatever_comes_is_understood_or_refused(body: bytes) -> None:
    with contextlib.suppress(Refused):
        read(b"----xyz\r\n" + body)
