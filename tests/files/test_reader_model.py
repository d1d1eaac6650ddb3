"""A reader is held against `io.BytesIO`: any sequence of calls gives the same results, whatever is fetched for it."""

from __future__ import annotations

import functools
import io
import os
import random
from typing import Any

import pytest
from files.fake_client import TRANSFER, URI, FakeClient
from hypothesis import given, settings
from hypothesis import strategies as st

from osstorchconnector.files.data_object import DataObject
from osstorchconnector.files.read_plan import FIRST_BYTES, MIB
from osstorchconnector.files.reader import OssReader
from osstorchconnector.protocol.values import ByteSpan

SIZES = [0, 1, 10, 1000, FIRST_BYTES - 1, FIRST_BYTES, FIRST_BYTES + 1, 300_000, 3 * MIB + 12345]


@functools.cache
def content(size: int) -> bytes:
    """Bytes with a line end here and there, and no period."""
    rng = random.Random(size)
    return b"".join(rng.randbytes(rng.randrange(1, 2000)).replace(b"\n", b"") + b"\n" for _ in range(size // 900 + 2))[
        :size
    ]


counts = st.one_of(
    st.integers(0, 200), st.integers(0, 2 * FIRST_BYTES), st.integers(0, 3 * MIB), st.sampled_from([FIRST_BYTES, MIB])
)
steps = st.one_of(
    st.tuples(st.sampled_from(["read", "read", "read", "readinto", "readinto"]), counts),
    st.tuples(st.sampled_from(["read", "readline"]), st.sampled_from([None, -1])),
    st.tuples(st.sampled_from(["readline", "read1", "readinto1", "peek"]), counts),
    st.tuples(st.just("seek"), counts),
    st.tuples(st.just("skip"), st.integers(-200_000, 200_000)),
    st.tuples(st.just("back from the end"), counts),
)


class Model:
    """The same call on the reader and on a `BytesIO`."""

    def __init__(self, reader: io.BufferedIOBase, data: bytes) -> None:
        self.reader, self.model, self.size = reader, io.BytesIO(data), len(data)

    def step(self, name: str, count: Any) -> None:
        getattr(self, "call_" + name.replace(" ", "_"))(count)
        assert self.reader.tell() == self.model.tell()

    def call_read(self, count: int | None) -> None:
        assert self.reader.read(count) == self.model.read(count)

    def call_readline(self, count: int | None) -> None:
        assert self.reader.readline(count) == self.model.readline(count)

    def call_readinto(self, count: int) -> None:
        found, expected = bytearray(count), bytearray(count)
        assert self.reader.readinto(found) == self.model.readinto(expected)
        assert found == expected

    def call_read1(self, count: int) -> None:
        self._check_some(self.reader.read1(count), count)

    def call_readinto1(self, count: int) -> None:
        memory = bytearray(count)
        found = self.reader.readinto1(memory)
        self._check_some(bytes(memory[:found]), count)

    def call_peek(self, count: int) -> None:
        found = self.reader.peek(count)
        at = self.model.tell()
        assert found == self.model.read(len(found))
        assert found or at >= self.size
        self.model.seek(at)

    def call_seek(self, count: int) -> None:
        assert self.reader.seek(count) == self.model.seek(count)

    def call_skip(self, count: int) -> None:
        count = max(count, -self.model.tell())
        assert self.reader.seek(count, os.SEEK_CUR) == self.model.seek(count, os.SEEK_CUR)

    def call_back_from_the_end(self, count: int) -> None:
        count = min(count, self.size)
        assert self.reader.seek(-count, os.SEEK_END) == self.model.seek(-count, os.SEEK_END)

    def _check_some(self, found: bytes, count: int) -> None:
        """As many bytes as there are at hand, of those that come next: one at least unless there is none."""
        expected = self.model.read(len(found))
        assert found == expected
        assert len(found) <= count
        assert found or not count or self.model.tell() >= self.size


@given(st.sampled_from(SIZES), st.lists(steps, max_size=25))
@settings(max_examples=150, deadline=None)
def test_a_reader_does_what_a_bytesio_does(shared_client: FakeClient, size: int, calls: list[tuple[str, Any]]) -> None:
    shared_client.store(URI, content(size))
    with OssReader(shared_client, URI, transfer=TRANSFER) as reader:
        model = Model(reader, content(size))
        for name, count in calls:
            model.step(name, count)


@given(st.sampled_from(SIZES), st.lists(steps, max_size=15))
@settings(max_examples=50, deadline=None)
def test_a_data_object_does_what_a_bytesio_does(size: int, calls: list[tuple[str, Any]]) -> None:
    with DataObject(URI, content(size)) as data:
        model = Model(data, content(size))
        for name, count in calls:
            model.step(name, count)


@given(st.sampled_from(SIZES[1:]), st.integers(1, 3 * MIB), st.lists(steps, max_size=15))
@settings(max_examples=50, deadline=None)
def test_a_data_object_too_large_to_hold_does_what_a_bytesio_does(
    shared_client: FakeClient, size: int, first_bytes: int, calls: list[tuple[str, Any]]
) -> None:
    shared_client.store(URI, content(size))
    first = shared_client.get(URI, ByteSpan(0, first_bytes))
    reader = OssReader(shared_client, URI, transfer=TRANSFER, first=first)
    with DataObject(URI, reader) as data:
        model = Model(data, content(size))
        for name, count in calls:
            model.step(name, count)


@pytest.mark.parametrize("size", SIZES)
def test_lines_are_those_of_a_bytesio(shared_client: FakeClient, size: int) -> None:
    shared_client.store(URI, content(size))
    with OssReader(shared_client, URI, transfer=TRANSFER) as reader:
        assert list(reader) == list(io.BytesIO(content(size)))
    with OssReader(shared_client, URI, transfer=TRANSFER) as reader:
        assert reader.readlines(5000) == io.BytesIO(content(size)).readlines(5000)
