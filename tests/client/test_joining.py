"""Operations that join and copy bytes within OSS, and signed URLs, on the emulator."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from files.on_oss import client_of

from osstorchconnector.client.client import OssClient
from osstorchconnector.client.operations import Operations
from osstorchconnector.errors import OssConflictError, OssExistsError, OssServiceError
from osstorchconnector.protocol.checksum import crc64
from osstorchconnector.protocol.values import ByteSpan
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import OssUri

KEYS = ["old"]
R = TypeVar("R")
PART = bytes(range(200)) * 512


def ask(client: OssClient, work: Callable[[Operations], Coroutine[Any, Any, R]]) -> R:
    return client.submit(work).result()


@pytest.fixture
def client(bucket: OssBucket, tmp_path: Path) -> OssClient:
    return client_of(bucket, tmp_path)


@pytest.fixture
def uri(bucket: OssBucket) -> OssUri:
    return OssUri(bucket.name, "new")


def test_appended_bytes_stand_behind_the_others(client: OssClient, bucket: OssBucket, uri: OssUri) -> None:
    first = ask(client, lambda operations: operations.append(uri, b"one ", position=0, crc64=0))
    assert first.crc64 == crc64(b"one ")
    stored = ask(client, lambda operations: operations.append(uri, [b"t", b"wo"], position=4, crc64=first.crc64))
    assert bucket.get("new") == b"one two"
    assert (stored.crc64, client.head(uri).object_type) == (crc64(b"one two"), "Appendable")
    with pytest.raises(OssConflictError, match="PositionNotEqualToLength"):
        ask(client, lambda operations: operations.append(uri, b"x", position=4, crc64=first.crc64))


def test_an_append_whose_answer_was_lost_is_not_done_twice(client: OssClient, bucket: OssBucket, uri: OssUri) -> None:
    bucket.server.fail("AppendObject", "lost_answer", bucket=bucket.name, times=1, after=0)
    stored = ask(client, lambda operations: operations.append(uri, b"once", position=0, crc64=0))
    assert (bucket.get("new"), stored.crc64) == (b"once", crc64(b"once"))


def test_a_part_may_be_a_span_of_another_object(client: OssClient, bucket: OssBucket, uri: OssUri) -> None:
    bucket.put("source", PART + b"end")
    source = OssUri(bucket.name, "source")
    upload_id = client.create_upload(uri)
    etag = client.head(source).etag

    def copy(number: int, span: ByteSpan, if_match: str = "") -> None:
        ask(
            client,
            lambda operations: operations.upload_part_copy(uri, upload_id, number, source, span, if_match=if_match),
        )

    copy(1, ByteSpan(0, len(PART)), etag)
    copy(2, ByteSpan(len(PART), len(PART) + 3))
    with pytest.raises(OssServiceError, match="412"):
        copy(3, ByteSpan(0, 1), "OTHER")
    parts = client.list_parts(uri, upload_id)
    assert client.complete_upload(uri, upload_id, parts).crc64 == crc64(PART + b"end")
    assert bucket.get("new") == PART + b"end"


def test_an_existing_object_stays_where_overwriting_is_forbidden(client: OssClient, bucket: OssBucket) -> None:
    old, source = OssUri(bucket.name, "old"), OssUri(bucket.name, "source")
    bucket.put("source", b"new")
    with pytest.raises(OssExistsError, match="CopyObject.*old"):
        ask(client, lambda operations: operations.copy(source, old, forbid_overwrite=True))
    upload_id = client.create_upload(old)
    parts = [client.upload_part(old, upload_id, 1, b"new")]
    with pytest.raises(FileExistsError):
        ask(client, lambda operations: operations.complete_upload(old, upload_id, parts, forbid_overwrite=True))
    with pytest.raises(FileExistsError):
        client.put(old, b"new", forbid_overwrite=True)
    assert bucket.get("old") == b"old"


@pytest.mark.parametrize("operation", ["CopyObject", "CompleteMultipartUpload"])
def test_what_was_stored_without_our_knowing_is_recognised(
    client: OssClient, bucket: OssBucket, uri: OssUri, operation: str
) -> None:
    bucket.server.fail(operation, "lost_answer", bucket=bucket.name, times=1, after=0)
    if operation == "CopyObject":
        old = OssUri(bucket.name, "old")
        ask(client, lambda operations: operations.copy(old, uri, forbid_overwrite=True))
    else:
        upload_id = client.create_upload(uri)
        parts = [client.upload_part(uri, upload_id, 1, b"old")]
        ask(client, lambda operations: operations.complete_upload(uri, upload_id, parts, forbid_overwrite=True))
    assert bucket.get("new") == b"old"


def test_another_writers_object_is_not_taken_for_ours(client: OssClient, bucket: OssBucket) -> None:
    """The first answer is a 500 that changed nothing, and the object is there when the copy is tried again."""
    bucket.put("source", b"ours")
    old, source = OssUri(bucket.name, "old"), OssUri(bucket.name, "source")
    bucket.server.fail("CopyObject", "500", bucket=bucket.name, times=1, after=0)
    with pytest.raises(OssExistsError):
        ask(client, lambda operations: operations.copy(source, old, forbid_overwrite=True))
    assert bucket.get("old") == b"old"


def test_the_buckets_of_the_account(client: OssClient, bucket: OssBucket) -> None:
    bucket.server.create_bucket("another-bucket")
    try:
        buckets = ask(client, lambda operations: operations.list_buckets())
    finally:
        bucket.server.remove_bucket("another-bucket")
    assert [found.name for found in buckets] == sorted(["another-bucket", bucket.name])
    assert {found.region for found in buckets} == {bucket.region}
    assert all(found.created for found in buckets)


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_anybody_may_use_a_signed_url_for_a_while(bucket: OssBucket, tmp_path: Path, version: str) -> None:
    bucket.put("dir/a b+é", b"for all")
    client = client_of(bucket, tmp_path, signatureVersion=version)
    uri = OssUri(bucket.name, "dir/a b+é")
    url = ask(client, lambda operations: operations.signed_url(uri, seconds=60))
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.read() == b"for all"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url.replace(bucket.name, bucket.name[:-1] + "x"), timeout=30)
    refused.value.close()
