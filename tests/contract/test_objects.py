"""Putting, getting, looking at and deleting whole objects."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from typing import Any

import pytest
from contract.clients import CLIENTS, Client, Refused, Server

HELLO = b"hello world\n"
HELLO_CRC64 = 14969823782951187105
OTHER_ETAG = "0" * 32


def md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest().upper()


@pytest.mark.parametrize("size", [0, 1, 102400, 3 << 20])
def test_an_object_is_read_back_as_it_was_put(client: Client, size: int) -> None:
    body = random.Random(size).randbytes(size)
    client.put("a/b", body)
    assert client.get("a/b") == body


def test_a_put_answers_the_md5_as_etag_and_the_crc64(client: Client) -> None:
    assert client.put("k", HELLO) == (len(HELLO), md5(HELLO), HELLO_CRC64)


def test_a_head_says_what_the_put_said(client: Client) -> None:
    assert client.put("k", HELLO) == client.head("k")


def test_an_empty_object_has_size_and_crc64_zero(client: Client) -> None:
    client.put("empty", b"")
    assert client.head("empty") == (0, md5(b""), 0)
    assert client.get("empty") == b""


def test_a_second_put_replaces_the_object(client: Client) -> None:
    client.put("k", b"old and longer")
    client.put("k", HELLO)
    assert client.get("k") == HELLO
    assert client.head("k") == (len(HELLO), md5(HELLO), HELLO_CRC64)


def test_forbid_overwrite_keeps_the_object_that_is_there(client: Client) -> None:
    client.put("k", HELLO, forbid_overwrite=True)
    with pytest.raises(Refused) as caught:
        client.put("k", b"new", forbid_overwrite=True)
    assert (caught.value.status, caught.value.code) == (409, "FileAlreadyExists")
    assert client.get("k") == HELLO


def test_a_matching_etag_lets_a_get_through(client: Client) -> None:
    etag = client.put("k", HELLO).etag
    assert client.get("k", if_match=etag) == HELLO
    assert client.get("k", if_match=f'"{etag}"') == HELLO


def test_another_etag_stops_a_get(client: Client) -> None:
    client.put("k", HELLO)
    with pytest.raises(Refused) as caught:
        client.get("k", if_match=OTHER_ETAG)
    assert (caught.value.status, caught.value.code) == (412, "PreconditionFailed")


READS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "get": ("get", ("missing",)),
    "a range": ("get_range", ("missing", 0, 10)),
    "head": ("head", ("missing",)),
    "copy": ("copy", ("missing", "target")),
}


@pytest.mark.parametrize("read", READS)
def test_an_object_that_is_not_there_is_no_such_key(client: Client, read: str) -> None:
    method, arguments = READS[read]
    with pytest.raises(Refused) as caught:
        getattr(client, method)(*arguments)
    assert (caught.value.status, caught.value.code) == (404, "NoSuchKey")


CALLS: dict[str, tuple[str, tuple[Any, ...]]] = {
    **READS,
    "put": ("put", ("k", b"body")),
    "delete": ("delete", ("k",)),
    "delete many": ("delete_many", (["k", "l"],)),
    "list": ("list_page", ()),
    "create upload": ("create_upload", ("k",)),
    "list uploads": ("list_uploads", ()),
    "upload part": ("upload_part", ("k", "0123456789ABCDEF0123456789ABCDEF", 1, b"body")),
}


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("call", CALLS)
def test_a_bucket_that_is_not_there_is_no_such_bucket(
    make_client: Callable[[str, str], Client], name: str, call: str
) -> None:
    method, arguments = CALLS[call]
    with pytest.raises(Refused) as caught:
        getattr(make_client(name, "contract-no-such-bucket"), method)(*arguments)
    assert (caught.value.status, caught.value.code) == (404, "NoSuchBucket")


def test_a_deleted_object_is_gone(client: Client) -> None:
    client.put("k", HELLO)
    client.put("kept", HELLO)
    client.delete("k")
    assert client.keys() == ["kept"]
    with pytest.raises(Refused):
        client.get("k")


def test_deleting_what_is_not_there_succeeds(client: Client) -> None:
    client.delete("never/there")


def test_many_objects_are_deleted_at_once_with_those_that_are_missing(client: Client) -> None:
    for key in ("a", "b/c", "ü & <x>", "kept"):
        client.put(key, HELLO)
    client.delete_many(["a", "b/c", "ü & <x>", "missing"])
    assert client.keys() == ["kept"]


def test_a_copy_has_the_content_etag_and_crc64_of_its_source(client: Client) -> None:
    put = client.put("source", HELLO)
    assert client.copy("source", "folder/target") == put.etag
    assert client.get("folder/target") == HELLO
    assert client.head("folder/target")[:2] == put[:2]
    assert client.head("folder/target").crc64 in (put.crc64, None)
    assert client.head("source") == put


def test_a_copy_replaces_its_target(client: Client) -> None:
    client.put("source", HELLO)
    client.put("target", b"old")
    client.copy("source", "target")
    assert client.get("target") == HELLO


def test_an_object_is_copied_between_buckets(
    client: Client, server: Server, make_client: Callable[[str, str], Client]
) -> None:
    other = f"{client.bucket}-other"
    server.create_bucket(other)
    make_client("oss2", other).put("source", HELLO)
    client.copy("source", "target", source_bucket=other)
    assert client.get("target") == HELLO


def test_a_copy_from_a_bucket_that_is_not_there_is_no_such_bucket(client: Client) -> None:
    with pytest.raises(Refused) as caught:
        client.copy("source", "target", source_bucket="contract-no-such-bucket")
    assert (caught.value.status, caught.value.code) == (404, "NoSuchBucket")


def test_a_copy_of_a_source_that_has_changed_is_refused(client: Client) -> None:
    etag = client.put("source", HELLO).etag
    client.copy("source", "first", if_match=etag)
    with pytest.raises(Refused) as caught:
        client.copy("source", "second", if_match=OTHER_ETAG)
    assert (caught.value.status, caught.value.code) == (412, "PreconditionFailed")
    assert client.keys() == ["first", "source"]


def test_a_copy_is_independent_of_its_source(client: Client) -> None:
    client.put("source", HELLO)
    client.copy("source", "target")
    client.put("source", b"changed")
    client.delete("source")
    assert client.get("target") == HELLO
