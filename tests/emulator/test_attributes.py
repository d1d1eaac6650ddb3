"""ACLs of objects, and tags: what changes without a new object."""

from __future__ import annotations

import pytest
from emulator.driver import Answer, Driver

from osstorchconnector.emulator.documents import document, element
from osstorchconnector.emulator.service import Service

ACL, TAGGING = [("acl", "")], [("tagging", "")]


def refused(answer: Answer, status: int, code: str) -> bool:
    return (answer.status, answer.code) == (status, code)


def tag_document(*pairs: tuple[str, str]) -> bytes:
    rows = [element("Tag", element("Key", key), element("Value", value)) for key, value in pairs]
    return document("Tagging", element("TagSet", *rows))


def tags_of(send: Driver, key: str) -> dict[str, str]:
    tagging = send("GET", "photos", key, TAGGING)
    return dict(zip(tagging.texts("TagSet/Tag/Key"), tagging.texts("TagSet/Tag/Value"), strict=True))


def acl_of(send: Driver, key: str) -> list[str]:
    return send("GET", "photos", key, ACL).texts("AccessControlList/Grant")


def test_an_object_has_its_buckets_acl_until_it_gets_one(send: Driver) -> None:
    send("PUT", "photos", "k", body=b"x")
    assert acl_of(send, "k") == ["default"]
    assert refused(send("GET", "photos", "k", is_signed=False), 403, "AccessDenied")
    assert send("PUT", "photos", "k", ACL, headers=[("x-oss-object-acl", "public-read")]).status == 200
    assert acl_of(send, "k") == ["public-read"]
    assert send("GET", "photos", "k", is_signed=False).body == b"x"
    assert send("GET", "photos", "k").body == b"x"


def test_a_private_object_stays_private_in_a_public_bucket(send: Driver) -> None:
    send("PUT", "photos", query=ACL, headers=[("x-oss-acl", "public-read")])
    send("PUT", "photos", "k", body=b"x", headers=[("x-oss-object-acl", "private")])
    assert refused(send("GET", "photos", "k", is_signed=False), 403, "AccessDenied")


def test_an_object_that_everybody_may_write_is_written_by_everybody(send: Driver) -> None:
    send("PUT", "photos", "k", body=b"x", headers=[("x-oss-object-acl", "public-read-write")])
    assert send("PUT", "photos", "k", body=b"y", is_signed=False).status == 200
    assert acl_of(send, "k") == ["default"]


def test_an_acl_or_tags_change_neither_bytes_nor_date(send: Driver, service: Service) -> None:
    send("PUT", "photos", "k", body=b"what was there")
    before = send("HEAD", "photos", "k").headers
    service.clock_offset_seconds = 60
    send("PUT", "photos", "k", ACL, headers=[("x-oss-object-acl", "private")])
    send("PUT", "photos", "k", TAGGING, body=tag_document(("a", "1")))
    after = send("HEAD", "photos", "k").headers
    for name in ("etag", "last-modified", "content-length", "x-oss-hash-crc64ecma"):
        assert after[name] == before[name]
    assert send("GET", "photos", "k").body == b"what was there"


def test_an_upload_may_get_its_acl_when_it_is_completed(send: Driver) -> None:
    begun = send("POST", "photos", "k", [("uploads", "")], headers=[("x-oss-tagging", "a=1")])
    upload = [("uploadId", begun.xml.findtext("UploadId", ""))]
    send("PUT", "photos", "k", [*upload, ("partNumber", "1")], body=b"x")
    headers = [("x-oss-complete-all", "yes"), ("x-oss-object-acl", "public-read")]
    assert send("POST", "photos", "k", upload, headers=headers).status == 200
    assert acl_of(send, "k") == ["public-read"]
    assert tags_of(send, "k") == {"a": "1"}


@pytest.mark.parametrize("acl", ["", "public", "Private"])
@pytest.mark.parametrize("query", [[], ACL])
def test_an_acl_that_there_is_not_is_refused(send: Driver, acl: str, query: list[tuple[str, str]]) -> None:
    send("PUT", "photos", "k", body=b"x")
    answer = send("PUT", "photos", "k", query, headers=[("x-oss-object-acl", acl)], body=b"")
    assert refused(answer, 400, "InvalidArgument")
    assert answer.texts("ArgumentName") == ["x-oss-object-acl"]
    assert send("GET", "photos", "k").body == b"x"


@pytest.mark.parametrize("query", [ACL, TAGGING])
def test_a_missing_object_has_neither_acl_nor_tags(send: Driver, query: list[tuple[str, str]]) -> None:
    assert refused(send("GET", "photos", "k", query), 404, "NoSuchKey")


def test_tags_are_put_replaced_counted_and_removed(send: Driver) -> None:
    send("PUT", "photos", "k", body=b"x")
    assert tags_of(send, "k") == {}
    assert send("PUT", "photos", "k", TAGGING, body=tag_document(("a", "1"), ("b c", ""))).status == 200
    assert tags_of(send, "k") == {"a": "1", "b c": ""}
    assert send("HEAD", "photos", "k").headers["x-oss-tagging-count"] == "2"
    send("PUT", "photos", "k", TAGGING, body=tag_document(("d", "é")))
    assert tags_of(send, "k") == {"d": "é"}
    assert send("DELETE", "photos", "k", TAGGING).status == 204
    assert tags_of(send, "k") == {}
    assert "x-oss-tagging-count" not in send("GET", "photos", "k").headers


def test_tags_come_with_the_object_by_a_header(send: Driver) -> None:
    header = ("x-oss-tagging", "a=1&b%20c=d%2Be&f")
    send("PUT", "photos", "put", body=b"x", headers=[header])
    send("POST", "photos", "append", [("append", ""), ("position", "0")], body=b"x", headers=[header])
    upload_id = send("POST", "photos", "parts", [("uploads", "")], headers=[header]).xml.findtext("UploadId", "")
    send("PUT", "photos", "parts", [("uploadId", upload_id), ("partNumber", "1")], body=b"x")
    send("POST", "photos", "parts", [("uploadId", upload_id)], headers=[("x-oss-complete-all", "yes")])
    for key in ("put", "append", "parts"):
        assert tags_of(send, key) == {"a": "1", "b c": "d+e", "f": ""}, key


@pytest.mark.parametrize(
    "header",
    [
        "aa=bb=cc",
        "a=1&a=2",
        "=x",
        "a=" + "x" * 257,
        "k" * 129,
        "a=%2A",
        "&".join(f"k{number}" for number in range(11)),
    ],
)
def test_tags_that_oss_does_not_allow_are_refused(send: Driver, header: str) -> None:
    assert refused(send("PUT", "photos", "k", headers=[("x-oss-tagging", header)]), 400, "InvalidTag")


@pytest.mark.parametrize("body", [b"", b"no xml", document("Tagging", element("TagSet", element("Tag")))])
def test_a_document_without_tags_is_refused(send: Driver, body: bytes) -> None:
    send("PUT", "photos", "k", headers=[("x-oss-tagging", "a=1")])
    assert refused(send("PUT", "photos", "k", TAGGING, body=body), 400, "MalformedXML")
    assert tags_of(send, "k") == {"a": "1"}


def test_a_copy_has_its_sources_tags_unless_told_and_never_its_acl(send: Driver) -> None:
    source = ("x-oss-copy-source", "/photos/k")
    send("PUT", "photos", "k", headers=[("x-oss-tagging", "a=1"), ("x-oss-object-acl", "public-read")])
    send("PUT", "photos", "same", headers=[source])
    assert tags_of(send, "same") == {"a": "1"}
    assert acl_of(send, "same") == ["default"]
    told = [source, ("x-oss-tagging-directive", "Replace"), ("x-oss-tagging", "b=2"), ("x-oss-object-acl", "private")]
    send("PUT", "photos", "other", headers=told)
    assert tags_of(send, "other") == {"b": "2"}
    assert acl_of(send, "other") == ["private"]
    answer = send("PUT", "photos", "third", headers=[source, ("x-oss-tagging-directive", "Both")])
    assert refused(answer, 400, "InvalidArgument")


def test_acl_and_tags_last(send: Driver, service: Service) -> None:
    send("PUT", "photos", "k", body=b"x", headers=[("x-oss-tagging", "a=1"), ("x-oss-object-acl", "public-read")])
    upload_id = send("POST", "photos", "p", [("uploads", "")], headers=[("x-oss-tagging", "b=2")])
    upload_id_text = upload_id.xml.findtext("UploadId", "")
    service.close()
    later = Service.open(service.storage.root, send.credentials)
    record = later.bucket("photos").objects["k"]
    assert (record.traits.acl, record.traits.tags) == ("public-read", {"a": "1"})
    assert later.bucket("photos").uploads[upload_id_text].traits.tags == {"b": "2"}
    later.close()
