from __future__ import annotations

import pytest
from emulator.driver import Answer, Driver

from osstorchconnector.emulator.documents import document, element


def refused(answer: Answer, status: int, code: str) -> bool:
    return (answer.status, answer.code) == (status, code)


def test_a_bucket_is_made_filled_emptied_and_removed(send: Driver) -> None:
    assert refused(send("PUT", "new-one", "k", body=b"x"), 404, "NoSuchBucket")
    assert send("PUT", "new-one").status == 200
    assert send("PUT", "new-one", "k", body=b"x").status == 200
    assert refused(send("DELETE", "new-one"), 409, "BucketNotEmpty")
    send("DELETE", "new-one", "k")
    upload_id = send("POST", "new-one", "k", [("uploads", "")]).xml.findtext("UploadId", "")
    assert refused(send("DELETE", "new-one"), 409, "BucketNotEmpty")
    send("DELETE", "new-one", "k", [("uploadId", upload_id)])
    assert send("DELETE", "new-one").status == 204
    assert refused(send("DELETE", "new-one"), 404, "NoSuchBucket")


def test_making_a_bucket_again_keeps_what_is_in_it(send: Driver) -> None:
    send("PUT", "photos", "k", body=b"x")
    assert send("PUT", "photos", headers=[("x-oss-acl", "public-read")]).status == 200
    assert send("GET", "photos", "k").body == b"x"
    assert send("GET", "photos", query=[("acl", "")]).texts("AccessControlList/Grant") == ["public-read"]
    assert send("PUT", "photos").status == 200
    assert send("GET", "photos", query=[("acl", "")]).texts("AccessControlList/Grant") == ["public-read"]


def test_a_bucket_has_a_storage_class_which_its_objects_inherit(send: Driver) -> None:
    body = document("CreateBucketConfiguration", element("StorageClass", "IA"))
    send("PUT", "cold-one", body=body)
    send("PUT", "cold-one", "k")
    assert send("HEAD", "cold-one", "k").headers["x-oss-storage-class"] == "IA"
    assert send("GET", "cold-one", query=[("bucketInfo", "")]).texts("Bucket/StorageClass") == ["IA"]


@pytest.mark.parametrize("name", ["Bad_Name", "xy"])
def test_a_bad_name_makes_no_bucket(send: Driver, name: str) -> None:
    assert refused(send("PUT", name), 400, "InvalidBucketName")


def test_what_is_known_of_a_bucket(send: Driver) -> None:
    info = send("GET", "photos", query=[("bucketInfo", "")]).xml.find("Bucket")
    assert info is not None
    assert info.findtext("Name") == "photos"
    assert info.findtext("Location") == "oss-cn-test"
    assert info.findtext("AccessControlList/Grant") == "private"
    assert info.findtext("Owner/ID") == "1234567890123456"
    location = send("GET", "photos", query=[("location", "")]).xml
    assert (location.tag, location.text) == ("LocationConstraint", "oss-cn-test")
    assert refused(send("GET", "nowhere", query=[("location", "")]), 404, "NoSuchBucket")


def test_buckets_are_listed_by_name(send: Driver) -> None:
    for name in ("b-two", "a-one", "b-one"):
        send("PUT", name)
    everything = send("GET")
    assert everything.texts("Buckets/Bucket/Name") == ["a-one", "b-one", "b-two", "photos"]
    assert everything.xml.find("IsTruncated") is None
    page = send("GET", query=[("prefix", "b-"), ("max-keys", "1")])
    assert page.texts("Buckets/Bucket/Name") == ["b-one"]
    assert [page.xml.findtext(tag) for tag in ("IsTruncated", "NextMarker")] == ["true", "b-one"]
    rest = send("GET", query=[("prefix", "b-"), ("marker", "b-one")])
    assert rest.texts("Buckets/Bucket/Name") == ["b-two"]
    assert rest.texts("IsTruncated") == ["false"]


def test_a_public_bucket_is_read_and_listed_by_anyone_and_written_by_nobody_else(send: Driver) -> None:
    send("PUT", "photos", "k", body=b"x")
    assert refused(send("GET", "photos", "k", is_signed=False), 403, "AccessDenied")
    assert send("PUT", "photos", query=[("acl", "")], headers=[("x-oss-acl", "public-read")]).status == 200
    assert send("GET", "photos", "k", is_signed=False).body == b"x"
    assert send("GET", "photos", query=[("list-type", "2")], is_signed=False).texts("Contents/Key") == ["k"]
    assert refused(send("PUT", "photos", "k", is_signed=False), 403, "AccessDenied")
    assert refused(send("GET", "nowhere", "k", is_signed=False), 403, "AccessDenied")
    assert refused(send("PUT", "photos", query=[("acl", "")], headers=[("x-oss-acl", "mine")]), 400, "InvalidArgument")
