"""What is no answer of OSS to the request that was sent is never taken for one, whatever its status says."""

from __future__ import annotations

import re
import threading

import pytest
from client.scripted_server import BODY, URI, ScriptedServer, answer, close, first, part, refused, whole

from osstorchconnector.errors import (
    OssConnectionError,
    OssNotFoundError,
    OssObjectChangedError,
    OssPermissionError,
    OssProtocolError,
)
from osstorchconnector.files.reader import OssReader
from osstorchconnector.protocol.answers import GOOD_STATUSES
from osstorchconnector.protocol.checksum import crc64
from osstorchconnector.protocol.values import ByteSpan, UploadedPart
from osstorchconnector.uri import parse_object_uri

OBJECT = parse_object_uri(URI)
PARTS = [UploadedPart(1, "E", len(BODY), crc64(BODY))]
LARGE = bytes(16 * 1024 * 1024)  # more than sockets take in
OPERATIONS = {
    "GetObject": lambda client: client.get(URI),
    "HeadObject": lambda client: client.head(URI),
    "PutObject": lambda client: client.put(URI, BODY),
    "AppendObject": lambda client: run(client, lambda operations: operations.append(OBJECT, BODY, position=0, crc64=0)),
    "CopyObject": lambda client: client.copy(URI, URI + "2"),
    "DeleteObject": lambda client: client.delete(URI),
    "DeleteMultipleObjects": lambda client: client.delete_many("bucket", ["a", "b"]),
    "ListObjectsV2": lambda client: list(client.list("oss://bucket/")),
    "InitiateMultipartUpload": lambda client: client.create_upload(URI),
    "UploadPart": lambda client: client.upload_part(URI, "ID", 1, BODY),
    "UploadPartCopy": lambda client: run(
        client, lambda operations: operations.upload_part_copy(OBJECT, "ID", 1, OBJECT, ByteSpan(0, 5))
    ),
    "CompleteMultipartUpload": lambda client: client.complete_upload(URI, "ID", PARTS),
    "AbortMultipartUpload": lambda client: client.abort_upload(URI, "ID"),
    "ListParts": lambda client: client.list_parts(URI, "ID"),
    "ListMultipartUploads": lambda client: client.list_uploads("oss://bucket/"),
    "ListBuckets": lambda client: run(client, lambda operations: operations.list_buckets()),
    "PutBucket": lambda client: run(client, lambda operations: operations.create_bucket("bucket")),
}
UPLOADS = ("PutObject", "AppendObject", "UploadPart", "CompleteMultipartUpload")
DELETES = ("DeleteObject", "AbortMultipartUpload")
PAGE = b"<html><body>Please log in.</body></html>"


def run(client, work):
    return client.submit(work).result()


def always(step: bytes) -> ScriptedServer:
    """A server that gives the same answer to everything, having read the request's body."""

    def read_and_answer(visit):
        if b"\r\nContent-Length: " in visit.head:
            visit.read_body()
        head, end, body = step.partition(b"\r\n\r\n")
        visit.send(head + end + (b"" if visit.head.startswith(b"HEAD") else body))

    return ScriptedServer.in_turn(*[read_and_answer] * 20)


def fails(connect, server, operation, match):
    with server, pytest.raises(OssProtocolError, match=match) as caught:
        OPERATIONS[operation](connect(server, maxAttempts=3))
    assert operation in str(caught.value)
    assert "3 attempts]" in str(caught.value)


def test_every_operation_is_tried_here():
    assert set(OPERATIONS) == set(GOOD_STATUSES)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_login_page_is_no_answer(connect, operation):
    # the right status, and even the right checksum
    status = "204 No Content" if operation in DELETES else "200 OK"
    page = b"" if operation in DELETES else PAGE
    portal = answer(page, status=status, x_oss_request_id="", x_oss_hash_crc64ecma=str(crc64(page)))
    fails(connect, always(portal), operation, r"not OSS \(a proxy, a cache, a login page\) answered 20[04]")


@pytest.mark.parametrize(
    ("operation", "status"),
    [
        (operation, status)
        for operation, good in GOOD_STATUSES.items()
        for status in (200, 201, 202, 203, 204, 205, 206, 226, 299)
        if status not in good
    ],
)
def test_a_status_that_oss_does_not_document_is_no_success(connect, operation, status):
    body = b"" if status in (204, 205) else BODY
    step = answer(body, status=f"{status} Whatever", x_oss_hash_crc64ecma=str(crc64(BODY)))
    fails(connect, always(step), operation, f"answered {status}, where OSS answers 20")


@pytest.mark.parametrize("operation", UPLOADS)
def test_an_upload_needs_the_checksum_of_what_was_stored(connect, operation):
    document = b"<CompleteMultipartUploadResult><ETag>E</ETag></CompleteMultipartUploadResult>"
    fails(connect, always(answer(document)), operation, "without x-oss-hash-crc64ecma")


@pytest.mark.parametrize("operation", ["PutObject", "UploadPart"])
def test_an_answer_that_came_before_the_body_was_read_is_no_success(connect, operation):
    done = threading.Event()

    def answer_at_once(visit):
        visit.send(answer(x_oss_hash_crc64ecma=str(crc64(LARGE))))
        done.wait(30)
        visit.connection.close()

    with ScriptedServer.in_turn(*[answer_at_once] * 3) as server:
        client = connect(server, maxAttempts=3)
        with pytest.raises(OssProtocolError, match="answered 200 before the request's body was read.*3 attempts"):
            client.put(URI, LARGE) if operation == "PutObject" else client.upload_part(URI, "ID", 1, LARGE)
        done.set()


def test_a_refusal_may_come_before_the_body_was_read(connect):
    with ScriptedServer.in_turn(first(refused("403 Forbidden", "AccessDenied"), close)) as server:
        with pytest.raises((OssPermissionError, OssConnectionError)):
            connect(server, maxAttempts=1).put(URI, LARGE)


# --- refusals that are not OSS's


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("status", ["404 Not Found", "409 Conflict", "412 Precondition Failed"])
def test_a_proxys_refusal_does_not_tell_what_is_stored(connect, operation, status):
    fails(
        connect, always(answer(PAGE, status=status, x_oss_request_id="")), operation, f"not OSS.*answered {status[:3]}"
    )


def test_a_refusal_of_oss_is_known_by_the_request_id_in_its_document_too(connect):
    document = b"<Error><Code>NoSuchKey</Code><RequestId>5C3D</RequestId></Error>"
    with ScriptedServer.in_turn(answer(document, status="404 Not Found", x_oss_request_id="")) as server:
        with pytest.raises(OssNotFoundError, match="OSS answered 404 NoSuchKey"):
            connect(server).get(URI)


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_what_oss_says_is_shown_whatever_the_signature(connect, version):
    with ScriptedServer.in_turn(refused("404 Not Found", "NoSuchKey")) as server:
        with pytest.raises(OssNotFoundError, match=r"OSS answered 404 NoSuchKey \(told so\) \[request id REQ-1"):
            connect(server, signatureVersion=version).get(URI)


# --- downloads that go on


BROKEN = first(whole()[:-150], close)  # 50 bytes have come


@pytest.mark.parametrize(
    ("rest", "is_kept"),
    [
        (answer(status="204 No Content"), True),
        (answer(BODY[50:], status="203 Non-Authoritative Information", Content_Range="bytes 50-199/200"), True),
        (answer(BODY[50:], status="202 Accepted"), True),
        (whole(), True),
        (part(50, 200, x_oss_request_id=""), True),
        (part(50, 200, ETag=""), True),
        (part(50, 200, Content_Range="bytes 50-199/300"), False),
        (part(50, 200, x_oss_hash_crc64ecma="7"), False),
    ],
    ids=["204", "203", "202", "200", "no request id", "no ETag", "another size", "another CRC-64"],
)
@pytest.mark.parametrize("span", [None, ByteSpan(0, 200)])
def test_only_the_rest_of_the_same_object_goes_on_where_a_body_broke_off(connect, rest, is_kept, span):
    with ScriptedServer.in_turn(BROKEN, *[rest] * 4) as server:
        with pytest.raises(OssProtocolError, match="4 attempts"):
            connect(server).get(URI, span)
    after = part(50, 200) if is_kept else whole()
    with ScriptedServer.in_turn(BROKEN, rest, after) as server:
        assert connect(server).get(URI, span).body == BODY


def test_what_broke_off_before_a_byte_came_need_not_be_gone_on_with(connect):
    old = b"another object, with another ETag"
    nothing = first(whole(old, ETag='"OLD"')[: -len(old)], close)
    with ScriptedServer.in_turn(nothing, whole()) as server:
        assert connect(server).get(URI).body == BODY
    assert b"if-match" not in server.heads[1].lower()


def test_an_object_must_carry_the_etag_that_was_asked_for(connect):
    with ScriptedServer.in_turn(*[whole(ETag="")] * 4) as server:
        with pytest.raises(OssProtocolError, match="without an ETag"):
            connect(server).get(URI, if_match="E1")
    with ScriptedServer.in_turn(whole(ETag='"E2"')) as server:
        with pytest.raises(OssObjectChangedError):
            connect(server).get(URI, if_match="E1")


UNSIZED = b'HTTP/1.1 200 OK\r\nx-oss-request-id: 5C3D\r\nETag: "E1"\r\n'


def test_a_body_is_not_whole_because_the_connection_ended(connect):
    cut_off = first(UNSIZED + b"\r\n" + BODY[:100], close)
    with ScriptedServer.in_turn(*[cut_off] * 5) as server:  # `direct` hands it over to aiohttp first
        with pytest.raises(OssProtocolError, match="neither a length nor a CRC-64"):
            connect(server).get(URI)
    checked = UNSIZED + f"x-oss-hash-crc64ecma: {crc64(BODY)}\r\n\r\n".encode()
    with ScriptedServer.in_turn(*[first(checked + BODY, close)] * 2) as server:
        assert connect(server).get(URI).body == BODY


def test_nothing_is_no_answer_to_deletions_if_only_the_connection_ended_it(connect):
    with ScriptedServer.in_turn(*[first(UNSIZED + b"\r\n", close)] * 4) as server:
        with pytest.raises(OssProtocolError, match="without a length, and nothing came"):
            connect(server, maxAttempts=3).delete_many("bucket", ["a"])


def test_ranges_that_disagree_about_the_size_are_not_of_one_object(connect):
    """A reader asks for one range after the other: the ETag is the same, and what is said of the whole is not."""
    data = bytes(range(256)) * 1024

    def of(size):
        def give(visit):
            first, last = map(int, re.search(rb"range: bytes=(\d+)-(\d+)", visit.head).groups())
            stop = min(last + 1, len(data))
            visit.send(part(first, stop, data, Content_Range=f"bytes {first}-{stop - 1}/{size}"))

        return give

    for size in (len(data), len(data) + 1):
        with ScriptedServer.in_turn(of(len(data)), *[of(size)] * 9) as server:
            client = connect(server)
            with OssReader(client, parse_object_uri(URI), transfer=client.config.checkpoint) as reader:
                assert reader.read(10) == data[:10]
                reader.seek(200_000)
                if size == len(data):
                    assert reader.read(10) == data[200_000:200_010]
                else:
                    with pytest.raises(OssObjectChangedError, match="now 262145"):
                        reader.read(10)
