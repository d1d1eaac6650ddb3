"""What is sent is the bytes of whatever is bytes-like; what is not says what to pass instead."""

from __future__ import annotations

import array
import io
import mmap
from pathlib import Path

import numpy as np
import pytest

from osstorchconnector.client.client import OssClient
from osstorchconnector.client.transport.base import WireRequest
from osstorchconnector.errors import OssUsageError
from osstorchconnector.protocol.endpoint import Origin
from osstorchconnector.protocol.requests import put_object
from osstorchconnector.protocol.values import (
    ByteSpan,
    Download,
    ListedObject,
    ListedObjects,
    ListedPrefix,
    ListPage,
    ObjectStat,
    Request,
    flat_buffers,
    shown_bytes,
    writable_memory,
)
from osstorchconnector.testing import OssBucket

DATA = bytes(range(24))
GRID = np.frombuffer(DATA, np.uint8).reshape(4, 6)


def mapped() -> mmap.mmap:
    memory = mmap.mmap(-1, len(DATA))
    memory.write(DATA)
    return memory


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (DATA, DATA),
        (bytearray(DATA), DATA),
        (memoryview(DATA), DATA),
        (memoryview(DATA)[::2], DATA[::2]),
        (memoryview(DATA).cast("B", (4, 6)), DATA),
        (array.array("I", [1, 2]), array.array("I", [1, 2]).tobytes()),
        (mapped(), DATA),
        (GRID, DATA),
        (GRID.T, GRID.T.tobytes()),
        (GRID[:, ::2], GRID[:, ::2].tobytes()),
        (np.arange(3, dtype=">f8"), np.arange(3, dtype=">f8").tobytes()),
        (np.zeros((0, 3)), b""),
        (np.float32(1.5), np.float32(1.5).tobytes()),
        (io.BytesIO(DATA).getbuffer(), DATA),
        ([], b""),
        ([DATA[:5], bytearray(DATA[5:9]), GRID.reshape(-1)[9:]], DATA),
        ((part for part in (DATA[:5], DATA[5:])), DATA),
        (io.BytesIO(b"one\ntwo\n"), b"one\ntwo\n"),
    ],
)
def test_the_bytes_of_whatever_is_bytes_like_are_sent(body: object, expected: bytes, oss_bucket: OssBucket) -> None:
    client, uri = OssClient(**oss_bucket.options), oss_bucket.uri + "key"
    client.put(uri, body)  # type: ignore[arg-type]
    client.close()
    assert oss_bucket.get("key") == expected


def test_nothing_is_copied_that_need_not_be() -> None:
    memory = bytearray(DATA)
    (view,) = flat_buffers("PutObject", memoryview(memory).cast("B", (4, 6)))
    memory[0] = 77
    assert view[0] == 77
    assert flat_buffers("PutObject", DATA)[0] is DATA


@pytest.mark.parametrize(
    ("body", "advice"),
    [
        ("text", r"text\.encode\(\)"),
        (Path("/data/model.pt"), r"path\.read_bytes\(\)"),
        (["text"], "among them is str"),
        ([DATA, 5], "among them is int"),
        ([[DATA]], "among them is list"),
        (io.StringIO("text"), "among them is str"),
        (5, "not int"),
        (None, "not NoneType"),
        ({"a": b"b"}, "not dict"),
    ],
)
def test_what_is_not_bytes_like_says_what_to_pass(body: object, advice: str) -> None:
    client = OssClient("http://127.0.0.1:9", region="cn-test")
    with pytest.raises(OssUsageError, match=rf"PutObject oss://bucket/key: .*{advice}"):
        client.put("oss://bucket/key", body)  # type: ignore[arg-type]
    with pytest.raises(OssUsageError, match="UploadPart oss://bucket/key: .*text"):
        client.upload_part("oss://bucket/key", "ID", 1, "text")  # type: ignore[arg-type]


def test_memory_to_fill_may_be_an_array(oss_bucket: OssBucket) -> None:
    client, target = OssClient(**oss_bucket.options), np.zeros((3, 2), np.float32)
    client.put(oss_bucket.uri + "key", DATA)
    client.get(oss_bucket.uri + "key", ByteSpan(0, 24), into=target)
    assert target.tobytes() == DATA
    for memory in (DATA, GRID.copy()[:, ::2]):
        with pytest.raises(OssUsageError, match="has no gaps"):
            client.get(oss_bucket.uri + "key", ByteSpan(0, len(memory)), into=memory)
    client.close()
    assert writable_memory(bytearray(3)).nbytes == 3


LARGE = bytes(40_000_000)
STAT = ObjectStat(40_000_000, "E", 5)


@pytest.mark.parametrize(
    "value",
    [
        Download(STAT, ByteSpan(0, 40_000_000), LARGE, 5),
        put_object("bucket", "key", LARGE),
        put_object("bucket", "key", [LARGE[:1_000_000], memoryview(LARGE), bytearray(1000)]),
        WireRequest(Origin("http", "host", 80), "PUT", "/key", [], (LARGE,)),
        ListPage(ListedObjects(["k" * 1000] * 1000, [5] * 1000, ["E"] * 1000, [""] * 1000), [], ""),
    ],
    ids=["download", "request", "request of several", "wire request", "page"],
)
def test_a_repr_is_short(value: object) -> None:
    assert len(repr(value)) < 5000


def test_a_repr_shows_what_is_short() -> None:
    assert repr(Download(STAT, ByteSpan(0, 3), b"abc", 5)).endswith("body=b'abc', crc64=5)")
    assert "b'abc'" in repr(Request("PutObject", "PUT", body=(b"abc",)))
    assert repr(ListedObjects(["a"], [1], ["E"], ["now"])) == f"[{ListedObject('a', 1, 'E', 'now')!r}]"
    assert shown_bytes(memoryview(b"abc")) == "b'abc'"
    assert shown_bytes(memoryview(LARGE)) == "<40000000 bytes>"


def test_folders_of_a_listing_are_told_from_objects(oss_bucket: OssBucket) -> None:
    for key in ("b", "a/1", "a/2", "c/1", "d", "a"):
        oss_bucket.put(key, b"12345")
    client = OssClient(**oss_bucket.options)
    found = list(client.list(oss_bucket.uri, delimiter="/"))
    assert [(entry.key, entry.is_prefix(), entry.size) for entry in found] == [
        ("a", False, 5),
        ("a/", True, 0),
        ("b", False, 5),
        ("c/", True, 0),
        ("d", False, 5),
    ]
    assert [entry for entry in found if isinstance(entry, ListedPrefix)] == [ListedPrefix("a/"), ListedPrefix("c/")]
    assert [entry.key for entry in client.list(oss_bucket.uri)] == ["a", "a/1", "a/2", "b", "c/1", "d"]
    client.close()
