from __future__ import annotations

import pytest
from emulator.driver import Answer, Driver

from osstorchconnector.emulator.service import Policy, Service
from osstorchconnector.protocol.checksum import crc64

DATA = bytes(range(256)) * 1000


def copy(send: Driver, source: str, key: str = "copy", *headers: tuple[str, str]) -> Answer:
    return send("PUT", "photos", key, headers=[("x-oss-copy-source", source), *headers])


def refused(answer: Answer, status: int, code: str) -> bool:
    return (answer.status, answer.code) == (status, code)


@pytest.fixture
def filled(send: Driver) -> Driver:
    headers = [("content-type", "image/png"), ("x-oss-meta-label", "cat")]
    send("PUT", "photos", "dir/a b+é", body=DATA, headers=headers)
    return send


SOURCE = "/photos/dir/a%20b%2B%C3%A9"


def test_a_copy_has_the_bytes_and_the_metadata_of_its_source(filled: Driver) -> None:
    answer = copy(filled, SOURCE)
    source, made = filled("GET", "photos", "dir/a b+é"), filled("GET", "photos", "copy")
    assert (answer.status, answer.xml.tag) == (200, "CopyObjectResult")
    assert answer.texts("ETag") == [source.headers["etag"]] == [answer.headers["etag"]]
    assert answer.texts("LastModified")[0].endswith(".000Z")
    assert made.body == DATA
    for name in ("etag", "content-type", "x-oss-meta-label", "x-oss-hash-crc64ecma"):
        assert made.headers[name] == source.headers[name]


def test_a_copy_outlives_its_source(filled: Driver) -> None:
    copy(filled, SOURCE)
    filled("DELETE", "photos", "dir/a b+é")
    assert filled("GET", "photos", "copy").body == DATA


def test_a_copy_onto_itself_can_change_the_metadata(filled: Driver) -> None:
    replace = [("x-oss-metadata-directive", "REPLACE"), ("x-oss-meta-label", "dog")]
    assert copy(filled, SOURCE, "dir/a b+é", *replace).status == 200
    made = filled("GET", "photos", "dir/a b+é")
    assert (made.body, made.headers["x-oss-meta-label"]) == (DATA, "dog")
    assert made.headers["content-type"] == "image/png"
    assert copy(filled, SOURCE, "dir/a b+é", *replace, ("content-type", "text/plain")).status == 200
    assert filled("HEAD", "photos", "dir/a b+é").headers["content-type"] == "text/plain"


def test_a_copy_keeps_what_its_decryption_needs(send: Driver) -> None:
    name = "x-oss-meta-client-side-encryption-key"
    send("PUT", "photos", "k", body=DATA, headers=[(name, "a key"), ("x-oss-meta-label", "cat")])
    copy(send, "/photos/k", "copy", ("x-oss-metadata-directive", "REPLACE"))
    made = send("HEAD", "photos", "copy").headers
    assert made[name] == "a key"
    assert "x-oss-meta-label" not in made


def test_a_source_may_name_a_version_and_encode_its_slashes(filled: Driver) -> None:
    assert copy(filled, "/photos/dir%2Fa%20b%2B%C3%A9?versionId=null").status == 200


def test_a_version_that_there_is_not_is_not_copied(filled: Driver) -> None:
    assert refused(copy(filled, f"{SOURCE}?versionId=CAEQ"), 501, "NotImplemented")


def test_a_copy_is_answered_with_its_checksum(filled: Driver) -> None:
    assert copy(filled, SOURCE).headers["x-oss-hash-crc64ecma"] == str(crc64(DATA))


@pytest.mark.parametrize("operation", ["put", "append", "copy", "complete"])
def test_no_way_of_writing_replaces_an_object_when_told_not_to(filled: Driver, operation: str) -> None:
    filled("PUT", "photos", "copy", body=b"what was there")
    upload = [("uploadId", filled("POST", "photos", "copy", [("uploads", "")]).xml.findtext("UploadId", ""))]
    filled("PUT", "photos", "copy", [*upload, ("partNumber", "1")], body=b"part")
    spare = ("x-oss-forbid-overwrite", "true")
    if operation == "copy":
        answer = copy(filled, SOURCE, "copy", spare)
    elif operation == "complete":
        answer = filled("POST", "photos", "copy", upload, headers=[("x-oss-complete-all", "yes"), spare])
    elif operation == "append":
        answer = filled("POST", "photos", "copy", [("append", ""), ("position", "14")], body=b"x", headers=[spare])
        assert refused(answer, 409, "ObjectNotAppendable")
        return
    else:
        answer = filled("PUT", "photos", "copy", body=b"new", headers=[spare])
    assert refused(answer, 409, "FileAlreadyExists")
    assert filled("GET", "photos", "copy").body == b"what was there"


@pytest.mark.parametrize(
    ("source", "status", "code"),
    [
        ("photos/k", 400, "InvalidArgument"),
        ("/photos", 400, "InvalidArgument"),
        ("/photos/", 400, "InvalidArgument"),
        ("/photos/missing", 404, "NoSuchKey"),
        ("/nowhere/k", 404, "NoSuchBucket"),
        ("/Bad_Name/k", 400, "InvalidBucketName"),
        ("/photos/%ff", 400, "InvalidObjectName"),
        ("/photos//k", 400, "InvalidObjectName"),
    ],
)
def test_a_source_that_cannot_be_copied_is_refused(filled: Driver, source: str, status: int, code: str) -> None:
    assert refused(copy(filled, source), status, code)
    assert filled("GET", "photos", "copy").status == 404


def test_a_copy_has_conditions_of_its_own(filled: Driver) -> None:
    etag = filled("HEAD", "photos", "dir/a b+é").headers["etag"]
    assert copy(filled, SOURCE, "copy", ("x-oss-copy-source-if-match", etag)).status == 200
    assert refused(copy(filled, SOURCE, "copy", ("x-oss-copy-source-if-match", "x")), 412, "PreconditionFailed")
    assert copy(filled, SOURCE, "copy", ("x-oss-copy-source-if-none-match", etag)).status == 304
    assert refused(copy(filled, SOURCE, "copy", ("x-oss-forbid-overwrite", "true")), 409, "FileAlreadyExists")
    assert refused(copy(filled, SOURCE, "copy", ("x-oss-metadata-directive", "MIX")), 400, "InvalidArgument")


def test_what_is_not_at_hand_is_not_copied(filled: Driver, service: Service) -> None:
    service.policy = Policy(discard_bodies=True)
    filled("PUT", "photos", "forgotten", body=DATA)
    assert refused(copy(filled, "/photos/forgotten"), 403, "InvalidObjectState")


def begin(send: Driver) -> str:
    return send("POST", "photos", "big", [("uploads", "")]).xml.findtext("UploadId", "")


def copy_part(send: Driver, upload_id: str, number: int, span: str = "") -> Answer:
    headers = [("x-oss-copy-source", SOURCE), *([("x-oss-copy-source-range", span)] if span else [])]
    return send("PUT", "photos", "big", [("partNumber", str(number)), ("uploadId", upload_id)], headers=headers)


def test_parts_are_copied_from_ranges(filled: Driver) -> None:
    upload_id = begin(filled)
    first, second = copy_part(filled, upload_id, 1), copy_part(filled, upload_id, 2, "bytes=256-1255")
    assert [answer.xml.tag for answer in (first, second)] == ["CopyPartResult"] * 2
    assert second.texts("LastModified")[0].endswith(".000Z")
    done = filled("POST", "photos", "big", [("uploadId", upload_id)], headers=[("x-oss-complete-all", "yes")])
    expected = DATA + DATA[256:1256]
    assert done.headers["x-oss-hash-crc64ecma"] == str(crc64(expected))
    assert filled("GET", "photos", "big").body == expected


@pytest.mark.parametrize(
    ("span", "status", "code"),
    [
        ("bytes=0-256000", 400 + 16, "InvalidRange"),
        ("bytes=5-4", 416, "InvalidRange"),
        ("bytes=-5", 400, "InvalidArgument"),
        ("0-5", 400, "InvalidArgument"),
    ],
)
def test_a_part_is_copied_only_from_within_its_source(filled: Driver, span: str, status: int, code: str) -> None:
    upload_id = begin(filled)
    assert refused(copy_part(filled, upload_id, 1, span), status, code)
    assert refused(copy_part(filled, "0" * 32, 1), 404, "NoSuchUpload")
    assert refused(copy_part(filled, upload_id, 0), 400, "InvalidArgument")


@pytest.mark.parametrize("first", [0, 1, len(DATA) - 1])
def test_a_part_may_be_copied_up_to_its_sources_end(filled: Driver, first: int) -> None:
    upload = [("uploadId", filled("POST", "photos", "copy", [("uploads", "")]).xml.findtext("UploadId", ""))]
    headers = [("x-oss-copy-source", SOURCE), ("x-oss-copy-source-range", f"bytes={first}-")]
    assert filled("PUT", "photos", "copy", [*upload, ("partNumber", "1")], headers=headers).status == 200
    filled("POST", "photos", "copy", upload, headers=[("x-oss-complete-all", "yes")])
    assert filled("GET", "photos", "copy").body == DATA[first:]
