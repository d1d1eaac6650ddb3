from __future__ import annotations

import hashlib

import pytest
from emulator.driver import Answer, Driver

from osstorchconnector.emulator.documents import document, element, fields
from osstorchconnector.emulator.service import Service
from osstorchconnector.protocol.checksum import crc64

LARGE = bytes(range(256)) * 400  # 102400 bytes: the least a part must have unless it is the last


def begin(send: Driver, key: str = "big", *headers: tuple[str, str]) -> str:
    return send("POST", "photos", key, [("uploads", "")], headers=headers).xml.findtext("UploadId", "")


def put_part(send: Driver, upload_id: str, number: object, data: bytes, key: str = "big") -> Answer:
    return send("PUT", "photos", key, [("partNumber", str(number)), ("uploadId", upload_id)], body=data)


def etag_of(data: bytes) -> str:
    return hashlib.md5(data).hexdigest().upper()


def listing(*parts: tuple[int, str]) -> bytes:
    rows = [element("Part", fields({"PartNumber": number, "ETag": f'"{etag}"'})) for number, etag in parts]
    return document("CompleteMultipartUpload", *rows)


def complete(
    send: Driver, upload_id: str, *parts: tuple[int, str], headers: tuple[tuple[str, str], ...] = ()
) -> Answer:
    return send("POST", "photos", "big", [("uploadId", upload_id)], body=listing(*parts), headers=headers)


def refused(answer: Answer, status: int, code: str) -> bool:
    return (answer.status, answer.code) == (status, code)


def test_parts_become_one_object(send: Driver, service: Service) -> None:
    upload_id = begin(send, "big", ("x-oss-meta-label", "cat"), ("content-type", "x/y"))
    assert len(upload_id) == 32
    part = put_part(send, upload_id, 7, LARGE)
    assert part.headers["etag"] == f'"{etag_of(LARGE)}"'
    assert part.headers["x-oss-hash-crc64ecma"] == str(crc64(LARGE))
    put_part(send, upload_id, 9, b"tail")
    assert send("GET", "photos", "big").status == 404
    done = complete(send, upload_id, (7, etag_of(LARGE).lower()), (9, etag_of(b"tail")))
    digest = hashlib.md5(bytes.fromhex(etag_of(LARGE)) + bytes.fromhex(etag_of(b"tail"))).hexdigest().upper()
    assert done.texts("ETag") == [f'"{digest}-2"']
    assert [done.xml.findtext(tag) for tag in ("Bucket", "Key")] == ["photos", "big"]
    assert done.headers["x-oss-hash-crc64ecma"] == str(crc64(LARGE + b"tail"))
    whole = send("GET", "photos", "big")
    assert whole.body == LARGE + b"tail"
    assert whole.headers["x-oss-object-type"] == "Multipart"
    assert (whole.headers["x-oss-meta-label"], whole.headers["content-type"]) == ("cat", "x/y")
    assert send("GET", "photos", "big", headers=[("range", "bytes=102398-102401")]).body == LARGE[-2:] + b"ta"
    assert service.bucket("photos").uploads == {}


def test_parts_that_are_not_listed_are_dropped(send: Driver, service: Service) -> None:
    upload_id = begin(send)
    for number in (1, 2, 3):
        put_part(send, upload_id, number, LARGE)
    assert complete(send, upload_id, (2, etag_of(LARGE))).status == 200
    assert send("GET", "photos", "big").body == LARGE
    assert len(list((service.storage.root / "blobs").glob("*/*"))) == 1


def test_a_part_sent_again_replaces_the_first(send: Driver) -> None:
    upload_id = begin(send)
    put_part(send, upload_id, 1, b"first")
    put_part(send, upload_id, 1, b"second")
    assert refused(complete(send, upload_id, (1, etag_of(b"first"))), 400, "InvalidPart")
    assert complete(send, upload_id, (1, etag_of(b"second"))).status == 200
    assert send("GET", "photos", "big").body == b"second"


def test_all_parts_can_be_taken_without_a_list(send: Driver) -> None:
    upload_id = begin(send)
    put_part(send, upload_id, 2, b"tail")
    put_part(send, upload_id, 1, LARGE)
    everything = (("x-oss-complete-all", "yes"),)
    assert refused(complete(send, upload_id, (1, "x"), headers=everything), 400, "InvalidArgument")
    query = [("uploadId", upload_id), ("encoding-type", "url")]
    assert send("POST", "photos", "big", query, headers=everything).texts("EncodingType") == ["url"]
    assert send("GET", "photos", "big").body == LARGE + b"tail"
    empty = begin(send)
    assert refused(send("POST", "photos", "big", [("uploadId", empty)], headers=everything), 400, "InvalidPart")


def test_a_list_of_parts_must_be_right(send: Driver) -> None:
    upload_id = begin(send)
    etag = put_part(send, upload_id, 1, b"small").headers["etag"].strip('"')
    put_part(send, upload_id, 2, b"small")
    assert refused(complete(send, upload_id, (2, etag), (1, etag)), 400, "InvalidPartOrder")
    assert refused(complete(send, upload_id, (1, etag), (1, etag)), 400, "InvalidPartOrder")
    assert refused(complete(send, upload_id, (1, etag), (3, etag)), 400, "InvalidPart")
    assert refused(complete(send, upload_id, (1, "0" * 32)), 400, "InvalidPart")
    assert refused(complete(send, upload_id, (1, etag), (2, etag)), 400, "EntityTooSmall")
    assert refused(complete(send, upload_id), 400, "MalformedXML")
    assert complete(send, upload_id, (1, etag)).status == 200


def test_an_upload_ends_once(send: Driver) -> None:
    upload_id = begin(send)
    etag = put_part(send, upload_id, 1, b"x").headers["etag"].strip('"')
    assert complete(send, upload_id, (1, etag)).status == 200
    assert refused(complete(send, upload_id, (1, etag)), 404, "NoSuchUpload")
    assert refused(send("DELETE", "photos", "big", [("uploadId", upload_id)]), 404, "NoSuchUpload")


def test_an_aborted_upload_leaves_nothing(send: Driver, service: Service) -> None:
    upload_id = begin(send)
    put_part(send, upload_id, 1, LARGE)
    assert send("DELETE", "photos", "big", [("uploadId", upload_id)]).status == 204
    assert refused(put_part(send, upload_id, 2, LARGE), 404, "NoSuchUpload")
    assert list((service.storage.root / "blobs").glob("*/*")) == []


@pytest.mark.parametrize("number", ["0", "10001", "-1", "one", "", "1" * 30])
def test_a_part_has_a_number_from_1_to_10000(send: Driver, number: str) -> None:
    assert refused(put_part(send, begin(send), number, b"x"), 400, "InvalidArgument")


def test_an_upload_belongs_to_its_key(send: Driver) -> None:
    upload_id = begin(send)
    answer = put_part(send, upload_id, 1, b"x", "other")
    assert refused(answer, 404, "NoSuchUpload")
    assert answer.texts("UploadId") == [upload_id]
    assert send("GET", "photos", "other", [("uploadId", upload_id)]).status == 404


def test_the_old_object_stays_until_the_new_one_is_complete(send: Driver) -> None:
    send("PUT", "photos", "big", body=b"old")
    upload_id = begin(send)
    etag = put_part(send, upload_id, 1, b"new").headers["etag"].strip('"')
    assert send("GET", "photos", "big").body == b"old"
    forbid = (("x-oss-forbid-overwrite", "true"),)
    assert refused(complete(send, upload_id, (1, etag), headers=forbid), 409, "FileAlreadyExists")
    assert send("GET", "photos", "big").body == b"old"
    assert complete(send, upload_id, (1, etag)).status == 200
    assert send("GET", "photos", "big").body == b"new"


def test_parts_are_listed_page_by_page(send: Driver) -> None:
    upload_id = begin(send, "a b")
    for number in (3, 1, 20):
        put_part(send, upload_id, number, bytes(number), "a b")
    numbers, marker = [], "0"
    for _ in range(3):
        query = [("uploadId", upload_id), ("max-parts", "1"), ("part-number-marker", marker), ("encoding-type", "url")]
        page = send("GET", "photos", "a b", query)
        assert [page.xml.findtext(tag) for tag in ("Key", "MaxParts", "StorageClass")] == ["a%20b", "1", "Standard"]
        numbers += page.texts("Part/PartNumber")
        marker = page.xml.findtext("NextPartNumberMarker", "")
    assert numbers == ["1", "3", "20"]
    assert page.texts("IsTruncated") == ["false"]
    assert page.texts("Part/ETag") == [f'"{etag_of(bytes(20))}"']
    assert page.texts("Part/HashCrc64ecma") == [str(crc64(bytes(20)))]
    assert page.texts("Part/Size") == ["20"]
    beyond = send("GET", "photos", "a b", [("uploadId", upload_id), ("part-number-marker", "20")])
    assert (beyond.texts("Part"), beyond.texts("NextPartNumberMarker")) == ([], ["0"])


def test_an_upload_is_begun_only_where_there_is_a_bucket(send: Driver) -> None:
    assert refused(send("POST", "nowhere", "big", [("uploads", "")]), 404, "NoSuchBucket")
    begun = send("POST", "photos", "a b", [("uploads", ""), ("encoding-type", "url")])
    assert [begun.xml.findtext(tag) for tag in ("EncodingType", "Bucket", "Key")] == ["url", "photos", "a%20b"]
