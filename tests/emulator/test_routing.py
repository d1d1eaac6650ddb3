from __future__ import annotations

import pytest

from osstorchconnector.emulator.exchange import Call
from osstorchconnector.emulator.refusals import Refused
from osstorchconnector.emulator.routing import Hosts, Resource, check_names, decode_path, decode_query, name_operation

HOSTS = Hosts(["oss.test", "Other.Test"], {"CDN.test": "photos"})


@pytest.mark.parametrize(
    ("host", "path", "resource"),
    [
        ("127.0.0.1:9000", "/", ("", "")),
        ("127.0.0.1:9000", "/photos", ("photos", "")),
        ("127.0.0.1", "/photos/", ("photos", "")),
        ("127.0.0.1", "/photos/a/b", ("photos", "a/b")),
        ("127.0.0.1", "/photos/a%2Fb%20+", ("photos", "a/b +")),
        ("127.0.0.1", "/photos//b", ("photos", "/b")),
        ("[::1]:9000", "/photos/k", ("photos", "k")),
        ("localhost:9000", "/photos/k", ("photos", "k")),
        ("nobody.knows", "/photos/k", ("photos", "k")),
        ("", "/photos/k", ("photos", "k")),
        ("photos.localhost:9000", "/k", ("photos", "k")),
        ("oss.test", "/", ("", "")),
        ("photos.oss.test:80", "/a/b", ("photos", "a/b")),
        ("PHOTOS.OTHER.test", "/a/b", ("photos", "a/b")),
        ("cdn.test:9000", "/a/b", ("photos", "a/b")),
        ("photos.oss-cn-test.aliyuncs.com", "/k", ("photos", "k")),
        ("oss-cn-test-internal.aliyuncs.com", "/", ("", "")),
        ("photos.cn-test.oss.aliyuncs.com", "/k", ("photos", "k")),
    ],
)
def test_the_bucket_stands_in_the_path_or_in_the_host(host: str, path: str, resource: tuple[str, str]) -> None:
    assert HOSTS.resource(host, path) == resource


def test_hosts_that_nobody_will_ask_for_again_are_forgotten() -> None:
    hosts = Hosts(["oss.test"])
    for number in range(3000):
        assert hosts.resource(f"b{number}.oss.test", "/k") == (f"b{number}", "k")


def test_a_path_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(Refused, match="InvalidObjectName"):
        decode_path("/photos/%ff")


def test_a_query_is_decoded_in_order() -> None:
    pairs = decode_query("uploads&prefix=a%2Fb+c%2B&empty=&=x&&twice=1&twice=2&bad=%ff")
    assert pairs == [
        ("uploads", ""),
        ("prefix", "a/b c+"),
        ("empty", ""),
        ("", "x"),
        ("twice", "1"),
        ("twice", "2"),
        ("bad", "\ufffd"),
    ]


BUCKET, OBJECT = Resource("photos", ""), Resource("photos", "k")


@pytest.mark.parametrize(
    ("method", "resource", "query", "operation"),
    [
        ("GET", Resource("", ""), "", "ListBuckets"),
        ("PUT", Resource("", ""), "", ""),
        ("GET", BUCKET, "", "ListObjects"),
        ("GET", BUCKET, "list-type=1", "ListObjects"),
        ("GET", BUCKET, "list-type=2", "ListObjectsV2"),
        ("GET", BUCKET, "uploads", "ListMultipartUploads"),
        ("GET", BUCKET, "bucketInfo", "GetBucketInfo"),
        ("GET", BUCKET, "location", "GetBucketLocation"),
        ("GET", BUCKET, "acl", "GetBucketAcl"),
        ("PUT", BUCKET, "acl", "PutBucketAcl"),
        ("PUT", BUCKET, "", "PutBucket"),
        ("DELETE", BUCKET, "", "DeleteBucket"),
        ("POST", BUCKET, "delete", "DeleteMultipleObjects"),
        ("POST", BUCKET, "", "PostObject"),
        ("HEAD", BUCKET, "", ""),
        ("GET", BUCKET, "lifecycle", ""),
        ("GET", OBJECT, "", "GetObject"),
        ("GET", OBJECT, "uploadId=1", "ListParts"),
        ("GET", OBJECT, "versions", ""),
        ("GET", OBJECT, "tagging", "GetObjectTagging"),
        ("PUT", OBJECT, "tagging", "PutObjectTagging"),
        ("DELETE", OBJECT, "tagging", "DeleteObjectTagging"),
        ("GET", OBJECT, "acl", "GetObjectACL"),
        ("PUT", OBJECT, "acl", "PutObjectACL"),
        ("DELETE", OBJECT, "acl", ""),
        ("GET", OBJECT, "symlink", "GetSymlink"),
        ("PUT", OBJECT, "symlink", "PutSymlink"),
        ("POST", OBJECT, "restore", "RestoreObject"),
        ("HEAD", OBJECT, "", "HeadObject"),
        ("HEAD", OBJECT, "objectMeta", "GetObjectMeta"),
        ("PUT", OBJECT, "", "PutObject"),
        ("PUT", OBJECT, "partNumber=1&uploadId=1", "UploadPart"),
        ("POST", OBJECT, "append&position=0", "AppendObject"),
        ("POST", OBJECT, "uploads", "InitiateMultipartUpload"),
        ("POST", OBJECT, "uploadId=1", "CompleteMultipartUpload"),
        ("POST", OBJECT, "", ""),
        ("DELETE", OBJECT, "", "DeleteObject"),
        ("DELETE", OBJECT, "uploadId=1", "AbortMultipartUpload"),
        ("PATCH", OBJECT, "", ""),
    ],
)
def test_operations_are_told_apart(method: str, resource: Resource, query: str, operation: str) -> None:
    assert name_operation(method, resource, decode_query(query), {}) == operation


def test_a_copy_source_makes_a_copy() -> None:
    headers = {"x-oss-copy-source": "/photos/k"}
    assert name_operation("PUT", OBJECT, [], headers) == "CopyObject"
    assert name_operation("PUT", OBJECT, [("uploadId", "1")], headers) == "UploadPartCopy"


@pytest.mark.parametrize("bucket", ["ab", "a" * 64, "Photos", "-ab", "ab-", "a_b", "a.b", "..", "phot\u00f6s"])
def test_a_bucket_that_oss_does_not_allow_is_refused(bucket: str) -> None:
    with pytest.raises(Refused, match="InvalidBucketName"):
        check_names(Call("", "", bucket))


@pytest.mark.parametrize("key", ["/k", "\\k", "k" * 1024, "é" * 512])
def test_a_key_that_oss_does_not_allow_is_refused(key: str) -> None:
    with pytest.raises(Refused, match="InvalidObjectName"):
        check_names(Call("", "", "photos", key))


@pytest.mark.parametrize("key", ["", "k" * 1023, "a//b", "../x", "\0", "é" * 511, "a\\b", " "])
def test_strange_keys_that_oss_allows_are_allowed(key: str) -> None:
    check_names(Call("", "", "a-1", key))
