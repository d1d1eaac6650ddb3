from __future__ import annotations

import pytest
from emulator.driver import Answer, Driver

from osstorchconnector.credentials import Credentials
from osstorchconnector.emulator.documents import document, element
from osstorchconnector.emulator.service import Service
from osstorchconnector.protocol.heads import encode_head
from osstorchconnector.protocol.signing import V4Signer
from osstorchconnector.protocol.values import Request


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
    assert refused(send("GET", "nowhere", "k", is_signed=False), 404, "NoSuchBucket")
    assert refused(send("PUT", "photos", query=[("acl", "")], headers=[("x-oss-acl", "mine")]), 400, "InvalidArgument")


def test_a_bucket_that_everybody_may_write_is_written_by_everybody(send: Driver) -> None:
    send("PUT", "photos", query=[("acl", "")], headers=[("x-oss-acl", "public-read-write")])
    assert send("PUT", "photos", "k", body=b"x", is_signed=False).status == 200
    assert send("DELETE", "photos", "k", is_signed=False).status == 204
    assert refused(send("DELETE", "photos", is_signed=False), 403, "AccessDenied")


def test_a_missing_bucket_is_told_before_a_wrong_key(send: Driver) -> None:
    stranger = Driver(send.frontend, Credentials(access_key_id="nobody", access_key_secret="x"))
    assert refused(stranger("GET", "nowhere", "k"), 404, "NoSuchBucket")
    assert refused(stranger("GET", "photos", "k"), 403, "InvalidAccessKeyId")
    assert refused(stranger("PUT", "new-one"), 403, "InvalidAccessKeyId")


def test_the_acl_of_a_missing_bucket_makes_the_bucket(send: Driver) -> None:
    assert send("PUT", "new-one", query=[("acl", "")], headers=[("x-oss-acl", "public-read")]).status == 200
    assert send("GET", "new-one", query=[("acl", "")]).texts("AccessControlList/Grant") == ["public-read"]


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        ("localhost:9000", "localhost:9000"),
        ("photos.oss.test:9000", "oss.test:9000"),
        ("photos.oss-cn-test.aliyuncs.com", "127.0.0.1:1234"),
        ("photos.cn-test.oss.aliyuncs.com", "127.0.0.1:1234"),
    ],
)
def test_the_endpoints_of_a_bucket_are_this_server(send: Driver, service: Service, host: str, endpoint: str) -> None:
    service.endpoint = "http://127.0.0.1:1234"
    in_path = not host.startswith("photos.")
    request = Request("", "GET", "photos", "", (("bucketInfo", ""),))
    signed = V4Signer(send.credentials, "cn-test").sign(request, int(send.frontend.service.now()))
    target = "/photos/?bucketInfo" if in_path else "/?bucketInfo"
    info = send.send(encode_head("GET", target, [("host", host), *signed]))
    for name in ("ExtranetEndpoint", "IntranetEndpoint"):
        assert info.texts(f"Bucket/{name}") == [f"http://{endpoint}"]


def test_no_answer_names_the_live_service(send: Driver) -> None:
    for answer in (send("GET"), send("GET", "photos", query=[("bucketInfo", "")])):
        assert b"aliyuncs.com" not in answer.body
        assert b"127.0.0.1:9000" in answer.body


def test_a_bucket_is_described_with_all_that_sdks_read(send: Driver) -> None:
    info = send("GET", "photos", query=[("bucketInfo", "")])
    for name in (
        "Comment",
        "CreationDate",
        "DataRedundancyType",
        "TransferAcceleration",
        "CrossRegionReplication",
        "AccessMonitor",
        "ResourceGroupId",
        "ServerSideEncryptionRule/SSEAlgorithm",
        "BucketPolicy/LogBucket",
        "AccessControlList/Grant",
        "Owner/ID",
    ):
        assert len(info.texts(f"Bucket/{name}")) == 1, name


@pytest.mark.parametrize("redundancy", ["LRS", "ZRS"])
def test_a_bucket_keeps_its_redundancy(send: Driver, redundancy: str) -> None:
    body = document("CreateBucketConfiguration", element("DataRedundancyType", redundancy))
    send("PUT", "new-one", body=body)
    assert send("GET", "new-one", query=[("bucketInfo", "")]).texts("Bucket/DataRedundancyType") == [redundancy]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"no xml", "MalformedXML"),
        (document("CreateBucketConfiguration", element("StorageClass", "Warm")), "InvalidArgument"),
        (document("CreateBucketConfiguration", element("DataRedundancyType", "XRS")), "InvalidArgument"),
    ],
)
def test_a_bucket_is_not_made_with_settings_that_there_are_not(send: Driver, body: bytes, code: str) -> None:
    assert refused(send("PUT", "new-one", body=body), 400, code)
    assert refused(send("GET", "new-one"), 404, "NoSuchBucket")


def test_what_is_in_a_bucket_is_counted(send: Driver) -> None:
    send("PUT", "photos", "k", body=b"12345")
    send("PUT", "photos", "cold", body=b"123", headers=[("x-oss-storage-class", "Archive")])
    upload_id = send("POST", "photos", "p", [("uploads", "")]).xml.findtext("UploadId", "")
    send("PUT", "photos", "p", [("uploadId", upload_id), ("partNumber", "1")], body=b"1234567")
    stat = send("GET", "photos", query=[("stat", "")])
    names = ("Storage", "ObjectCount", "ArchiveStorage", "MultipartUploadCount", "MultipartPartStorage")
    assert [stat.texts(name) for name in names] == [["8"], ["2"], ["3"], ["1"], ["7"]]
