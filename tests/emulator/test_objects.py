from __future__ import annotations

import base64
import hashlib
from xml.etree import ElementTree

import pytest
from emulator.driver import Answer, Driver, signed_head

from osstorchconnector.emulator.documents import document, element, fields
from osstorchconnector.emulator.frontend import OPERATIONS
from osstorchconnector.emulator.service import MAX_BODY_BYTES, Policy, Service
from osstorchconnector.protocol.checksum import crc64

DATA = bytes(range(256)) * 400
MD5 = hashlib.md5(DATA).digest()


def content_md5(data: bytes) -> tuple[str, str]:
    return "content-md5", base64.b64encode(hashlib.md5(data).digest()).decode()


def refused(answer: Answer, status: int, code: str) -> bool:
    return (answer.status, answer.code) == (status, code)


def test_what_a_put_is_answered_with(send: Driver) -> None:
    answer = send("PUT", "photos", "k", body=DATA)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["etag"] == f'"{MD5.hex().upper()}"'
    assert answer.headers["x-oss-hash-crc64ecma"] == str(crc64(DATA))
    assert answer.headers["content-md5"] == base64.b64encode(MD5).decode()


def test_what_every_answer_has(send: Driver) -> None:
    first, second = send("GET", "photos", "k"), send("GET", "photos", query=[("list-type", "2")])
    for answer in (first, second):
        assert answer.headers["server"] == "AliyunOSS"
        assert answer.headers["connection"] == "keep-alive"
        assert answer.headers["date"].endswith(" GMT")
        assert answer.headers["x-oss-server-time"].isdigit()
        request_id = answer.headers["x-oss-request-id"]
        assert len(request_id) == 24
        assert set(request_id) <= set("0123456789ABCDEF")
    assert first.headers["x-oss-request-id"] != second.headers["x-oss-request-id"]
    assert first.headers["x-oss-ec"] == "0026-00000001"


def test_an_object_comes_back_with_what_was_said_of_it(send: Driver) -> None:
    said = {
        "content-type": "image/png",
        "cache-control": "no-cache",
        "content-disposition": "attachment",
        "content-encoding": "identity",
        "content-language": "de",
        "expires": "Fri, 14 Mar 2025 15:09:26 GMT",
        "x-oss-meta-label": "cat",
        "x-oss-storage-class": "IA",
    }
    send("PUT", "photos", "k", body=DATA, headers=list(said.items()))
    for method in ("GET", "HEAD"):
        answer = send(method, "photos", "k")
        assert answer.status == 200
        assert said.items() <= answer.headers.items()
        assert answer.headers["x-oss-object-type"] == "Normal"
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["content-length"] == str(len(DATA))
        assert answer.headers["x-oss-hash-crc64ecma"] == str(crc64(DATA))
        assert answer.body == (DATA if method == "GET" else b"")


def test_a_type_that_nobody_gave_is_bytes(send: Driver) -> None:
    send("PUT", "photos", "k")
    assert send("GET", "photos", "k").headers["content-type"] == "application/octet-stream"


def test_the_meta_of_an_object_is_short(send: Driver) -> None:
    send("PUT", "photos", "k", body=DATA, headers=[("x-oss-meta-label", "cat")])
    answer = send("HEAD", "photos", "k", [("objectMeta", "")])
    assert answer.headers["content-length"] == str(len(DATA))
    assert {"etag", "last-modified", "x-oss-hash-crc64ecma"} <= answer.headers.keys()
    assert not {"content-type", "x-oss-meta-label", "x-oss-object-type"} & answer.headers.keys()


def test_the_query_of_a_get_changes_headers_of_the_answer(send: Driver) -> None:
    send("PUT", "photos", "k", body=DATA)
    answer = send("GET", "photos", "k", [("response-content-type", "text/plain"), ("response-expires", "never")])
    assert (answer.headers["content-type"], answer.headers["expires"]) == ("text/plain", "never")
    smuggled = send("GET", "photos", "k", [("response-content-type", "a\r\nx-evil: 1")])
    assert refused(smuggled, 400, "InvalidArgument")
    assert "x-evil" not in smuggled.headers


def ranged(send: Driver, value: str, *more: tuple[str, str], method: str = "GET") -> Answer:
    return send(method, "photos", "k", headers=[("range", value), *more])


STANDARD = ("x-oss-range-behavior", "standard")


def test_a_part_is_sent_as_a_part(send: Driver) -> None:
    send("PUT", "photos", "k", body=DATA)
    answer = ranged(send, "bytes=1000-1999")
    assert (answer.status, answer.body) == (206, DATA[1000:2000])
    assert answer.headers["content-range"] == f"bytes 1000-1999/{len(DATA)}"
    assert answer.headers["content-length"] == "1000"
    assert answer.headers["x-oss-hash-crc64ecma"] == str(crc64(DATA))
    head = ranged(send, "bytes=1000-1999", method="HEAD")
    assert (head.status, head.headers["content-length"], head.body) == (206, "1000", b"")


def test_a_range_past_the_end_means_what_the_behaviour_says(send: Driver) -> None:
    send("PUT", "photos", "k", body=DATA)
    plain = ranged(send, "bytes=0-999999999")
    assert (plain.status, len(plain.body)) == (200, len(DATA))
    assert "content-range" not in plain.headers
    standard = ranged(send, "bytes=102000-999999999", STANDARD)
    assert (standard.status, standard.body) == (206, DATA[102000:])
    beyond = ranged(send, "bytes=999999-", STANDARD)
    assert refused(beyond, 416, "InvalidRange")
    assert beyond.headers["content-range"] == f"bytes */{len(DATA)}"


def test_conditions_are_looked_at_before_ranges(send: Driver) -> None:
    send("PUT", "photos", "k", body=DATA)
    assert refused(ranged(send, "bytes=999999-", STANDARD, ("if-match", "other")), 412, "PreconditionFailed")
    unchanged = send("GET", "photos", "k", headers=[("if-none-match", MD5.hex().upper())])
    assert (unchanged.status, unchanged.body, unchanged.headers["content-length"]) == (304, b"", "0")
    assert send("HEAD", "photos", "k", headers=[("if-match", "other")]).status == 412


def test_a_head_carries_its_error_in_a_header(send: Driver) -> None:
    for key in ("missing", "/bad"):
        answer = send("HEAD", "photos", key)
        code = ElementTree.fromstring(base64.b64decode(answer.headers["x-oss-err"])).findtext("Code")
        assert (answer.status, code) == ((404, "NoSuchKey") if key == "missing" else (400, "InvalidObjectName"))
        assert answer.body == b""


def test_a_missing_object_is_named_in_the_error(send: Driver) -> None:
    answer = send("GET", "photos", "a<b")
    assert refused(answer, 404, "NoSuchKey")
    assert [answer.texts(tag) for tag in ("Key", "BucketName", "HostId")] == [["a<b"], ["photos"], ["127.0.0.1:9000"]]
    assert answer.texts("RequestId") == [answer.headers["x-oss-request-id"]]


def test_an_overwrite_can_be_forbidden(send: Driver) -> None:
    forbid = [("x-oss-forbid-overwrite", "true")]
    assert send("PUT", "photos", "k", body=b"old", headers=forbid).status == 200
    assert refused(send("PUT", "photos", "k", body=b"new", headers=forbid), 409, "FileAlreadyExists")
    assert send("GET", "photos", "k").body == b"old"
    assert send("PUT", "photos", "k", body=b"new", headers=[("x-oss-forbid-overwrite", "false")]).status == 200
    nonsense = send("PUT", "photos", "k", headers=[("x-oss-forbid-overwrite", "maybe")])
    assert refused(nonsense, 400, "InvalidArgument")


@pytest.mark.parametrize("digest", [base64.b64encode(b"0" * 16).decode(), "not base64!", ""])
def test_a_body_that_is_not_its_digest_is_refused(send: Driver, service: Service, digest: str) -> None:
    answer = send("PUT", "photos", "k", body=DATA, headers=[("content-md5", digest)])
    assert refused(answer, 400, "InvalidDigest")
    assert send("GET", "photos", "k").status == 404
    assert list((service.storage.root / "blobs").glob("*/*")) == []


def test_a_storage_class_that_there_is_not_is_refused(send: Driver, service: Service) -> None:
    answer = send("PUT", "photos", "k", body=DATA, headers=[("x-oss-storage-class", "Gold")])
    assert refused(answer, 400, "InvalidArgument")
    assert list((service.storage.root / "blobs").glob("*/*")) == []


def test_an_archived_object_cannot_be_read(send: Driver) -> None:
    send("PUT", "photos", "k", body=DATA, headers=[("x-oss-storage-class", "Archive")])
    assert refused(send("GET", "photos", "k"), 403, "InvalidObjectState")
    assert send("HEAD", "photos", "k").status == 200


def test_a_put_must_say_how_long_it_is(send: Driver) -> None:
    host = ("host", "127.0.0.1")
    assert refused(send.send(signed_head(send, "PUT", "/photos/k", host)), 411, "MissingContentLength")
    too_long = ("content-length", str(MAX_BODY_BYTES + 1))
    assert refused(send.send(signed_head(send, "PUT", "/photos/k", host, too_long)), 400, "EntityTooLarge")
    assert send("PUT", "photos", "k", headers=[("transfer-encoding", "chunked")]).status == 200


def test_deleting_is_done_once_and_acknowledged_always(send: Driver) -> None:
    send("PUT", "photos", "k", body=DATA)
    assert [send("DELETE", "photos", "k").status for _ in range(2)] == [204, 204]
    assert send("GET", "photos", "k").status == 404
    assert refused(send("DELETE", "nowhere", "k"), 404, "NoSuchBucket")


def deletion(*keys: str, quiet: str = "false") -> bytes:
    rows = [element("Object", fields({"Key": key})) for key in keys]
    return document("Delete", element("Quiet", quiet), *rows)


def delete_many(send: Driver, body: bytes, *query: tuple[str, str]) -> Answer:
    return send("POST", "photos", query=[("delete", ""), *query], body=body, headers=[content_md5(body)])


def test_many_are_deleted_at_once(send: Driver) -> None:
    for key in ("a b", "c%20d", "kept"):
        send("PUT", "photos", key)
    answer = delete_many(send, deletion("a b", "c%20d", "missing"), ("encoding-type", "url"))
    assert answer.texts("Deleted/Key") == ["a%20b", "c%2520d", "missing"]
    assert answer.texts("EncodingType") == ["url"]
    assert send("GET", "photos", query=[("list-type", "2")]).texts("Contents/Key") == ["kept"]


def test_a_quiet_deletion_is_answered_by_nothing(send: Driver) -> None:
    send("PUT", "photos", "k")
    answer = delete_many(send, deletion("k", quiet="true"))
    assert (answer.status, answer.body) == (200, b"")


def test_a_deletion_must_carry_its_digest(send: Driver) -> None:
    answer = send("POST", "photos", query=[("delete", "")], body=deletion("k"))
    assert refused(answer, 400, "MissingArgument")
    wrong = send("POST", "photos", query=[("delete", "")], body=deletion("k"), headers=[content_md5(b"other")])
    assert refused(wrong, 400, "InvalidDigest")
    assert refused(delete_many(send, b"<Delete>"), 400, "MalformedXML")


def test_a_document_that_is_too_large_is_refused(send: Driver) -> None:
    body = b" " * (9 * 1024 * 1024)
    assert refused(delete_many(send, body), 400, "EntityTooLarge")


def append(send: Driver, position: object, data: bytes, key: str = "log") -> Answer:
    return send("POST", "photos", key, [("append", ""), ("position", str(position))], body=data)


def test_appends_make_one_object(send: Driver) -> None:
    first = append(send, 0, b"1234")
    assert (first.status, first.headers["x-oss-next-append-position"]) == (200, "4")
    second = append(send, 4, b"56789")
    assert second.headers["x-oss-next-append-position"] == "9"
    assert second.headers["x-oss-hash-crc64ecma"] == "11051210869376104954"
    whole = send("GET", "photos", "log")
    assert (whole.body, whole.headers["x-oss-object-type"]) == (b"123456789", "Appendable")
    assert whole.headers["x-oss-next-append-position"] == "9"
    assert ranged_log(send) == b"456"


def ranged_log(send: Driver) -> bytes:
    return send("GET", "photos", "log", headers=[("range", "bytes=3-5")]).body


def test_an_append_at_the_wrong_place_is_told_the_right_one(send: Driver) -> None:
    append(send, 0, b"1234")
    answer = append(send, 3, b"x")
    assert refused(answer, 409, "PositionNotEqualToLength")
    assert answer.headers["x-oss-next-append-position"] == "4"
    assert refused(append(send, "end", b"x"), 400, "InvalidArgument")
    send("PUT", "photos", "plain", body=b"1234")
    assert refused(append(send, 4, b"x", "plain"), 409, "ObjectNotAppendable")


def test_checked_bodies_can_be_discarded(send: Driver, service: Service) -> None:
    service.policy = Policy(discard_bodies=True)
    answer = send("PUT", "photos", "k", body=DATA)
    assert answer.headers["etag"] == f'"{MD5.hex().upper()}"'
    assert send("HEAD", "photos", "k").headers["content-length"] == str(len(DATA))
    assert refused(send("GET", "photos", "k"), 403, "InvalidObjectState")
    assert list((service.storage.root / "blobs").glob("*/*")) == []


def test_small_bodies_can_be_kept_when_others_are_discarded(send: Driver, service: Service) -> None:
    service.policy = Policy(discard_bodies=True, keep_up_to_bytes=len(DATA))
    send("PUT", "photos", "kept", body=DATA)
    send("PUT", "photos", "discarded", body=DATA + b"x")
    assert send("GET", "photos", "kept").body == DATA
    assert refused(send("GET", "photos", "discarded"), 403, "InvalidObjectState")


def test_an_etag_can_be_had_without_md5(send: Driver, service: Service) -> None:
    service.policy = Policy(fast_etag=True)
    answer = send("PUT", "photos", "k", body=DATA)
    assert answer.headers["etag"] == f'"{crc64(DATA):016X}{len(DATA):016X}"'
    assert "content-md5" not in answer.headers
    assert refused(send("PUT", "photos", "k", body=DATA, headers=[content_md5(b"other")]), 400, "InvalidDigest")
    assert send("PUT", "photos", "k", body=DATA, headers=[content_md5(DATA)]).status == 200


@pytest.mark.parametrize(
    ("method", "key", "query", "status"),
    [("POST", "k", [], 501), ("GET", "k", [("versionId", "")], 501), ("PATCH", "k", [], 405), ("HEAD", "", [], 501)],
)
def test_what_the_emulator_does_not_have_it_says(
    send: Driver, method: str, key: str, query: list[tuple[str, str]], status: int
) -> None:
    assert send(method, "photos", key, query).status == status


def test_a_path_that_is_no_text_is_refused(send: Driver) -> None:
    answer = send.send(b"GET /photos/%ff HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
    assert refused(answer, 400, "InvalidObjectName")


def test_a_mistake_of_the_server_is_an_internal_error(
    send: Driver, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    send("PUT", "photos", "k", body=DATA)
    for path in (service.storage.root / "blobs").glob("*/*"):
        path.unlink()
    answer = send("PUT", "photos", "copy", headers=[("x-oss-copy-source", "/photos/k")])
    assert answer.status == 200
    part = send("POST", "photos", "k", [("uploads", "")]).xml.findtext("UploadId", "")
    query = [("partNumber", "1"), ("uploadId", part)]
    answer = send("PUT", "photos", "k", query, headers=[("x-oss-copy-source", "/photos/k")])
    assert refused(answer, 500, "InternalError")
    assert "UploadPartCopy failed" in caplog.text


def test_a_folder_that_cannot_be_written_is_an_internal_error(send: Driver, service: Service) -> None:
    folder = service.storage.root / "blobs"
    folder.rmdir()
    folder.write_bytes(b"a file in its place")
    answer = send("PUT", "photos", "k", body=DATA)
    assert refused(answer, 500, "InternalError")
    assert "Not a directory" in answer.texts("Message")[0]


@pytest.mark.parametrize("host", ["photos.oss.test", "cdn.test", "photos.localhost"])
def test_a_host_that_names_the_bucket_is_signed_like_a_path(send: Driver, host: str) -> None:
    send("PUT", "photos", "k", body=b"x")
    assert send.send(signed_head(send, "GET", "/k", ("host", host))).body == b"x"


def test_every_operation_of_the_dispatcher_is_counted_under_its_name(send: Driver) -> None:
    assert {"GetObject", "PutObject", "ListObjectsV2", "CompleteMultipartUpload"} <= set(OPERATIONS)
    send("PUT", "photos", "k", body=DATA)
    assert send.frontend.recorder.snapshot().requests == {"PutObject": 1}


@pytest.mark.parametrize(
    ("refused_by", "message"),
    [
        ("precondition", "At least one of the pre-conditions you specified did not hold."),
        ("position", "Position is not equal to file length"),
        ("append", "The object is not appendable"),
        ("skew", "The difference between the request time and the current time is too large."),
        ("region", "Invalid signing region in Authorization header."),
        ("overwrite", "The object you specified already exists and can not be overwritten."),
    ],
)
def test_what_people_match_in_messages_is_as_oss_says_it(
    send: Driver, service: Service, refused_by: str, message: str
) -> None:
    send("PUT", "photos", "k", body=DATA)
    send("POST", "photos", "a", [("append", ""), ("position", "0")], body=DATA)
    if refused_by == "precondition":
        answer = send("GET", "photos", "k", headers=[("if-match", "other")])
    elif refused_by in ("position", "append"):
        key = "a" if refused_by == "position" else "k"
        answer = send("POST", "photos", key, [("append", ""), ("position", "0")], body=DATA)
    elif refused_by == "skew":
        head = signed_head(send, "GET", "/photos/k", ("host", "127.0.0.1"))
        service.clock_offset_seconds = 3600
        answer = send.send(head)
    elif refused_by == "region":
        head = signed_head(send, "GET", "/photos/k", ("host", "127.0.0.1"))
        service.policy = Policy(region="cn-other")
        answer = send.send(head)
    else:
        answer = send("PUT", "photos", "k", headers=[("x-oss-forbid-overwrite", "true")])
    assert answer.texts("Message") == [message]
