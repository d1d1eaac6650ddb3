"""Each operation as the request that goes out."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable

import pytest

from osstorchconnector.errors import OssUriError
from osstorchconnector.protocol import requests
from osstorchconnector.protocol.attributes import Attributes
from osstorchconnector.protocol.values import ByteSpan, Request, UploadedPart
from osstorchconnector.uri import OssUri

BYTES = ("content-type", "application/octet-stream")
XML = ("content-type", "application/xml")
URL_ENCODED = ("encoding-type", "url")
IA = b"<StorageClass>IA</StorageClass>"
LISTING = (("list-type", "2"), URL_ENCODED)
DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'
ONE_PART = b'<Part><PartNumber>1</PartNumber><ETag>"A"</ETag></Part>'

TABLE = [
    (requests.get_object("b", "k"), Request("GetObject", "GET", "b", "k")),
    (
        requests.get_object("b", "k", ByteSpan(5, 10), "AB"),
        Request(
            "GetObject",
            "GET",
            "b",
            "k",
            headers=(("range", "bytes=5-9"), ("x-oss-range-behavior", "standard"), ("if-match", '"AB"')),
        ),
    ),
    (requests.head_object("b", "k"), Request("HeadObject", "HEAD", "b", "k")),
    (requests.put_object("b", "k", b"x"), Request("PutObject", "PUT", "b", "k", (), (BYTES,), (b"x",))),
    (
        requests.put_object(
            "b", "k", [b"x", bytearray(b"y")], forbid_overwrite=True, attributes=Attributes("image/png")
        ),
        Request(
            "PutObject",
            "PUT",
            "b",
            "k",
            headers=(("content-type", "image/png"), ("x-oss-forbid-overwrite", "true")),
            body=(b"x", b"y"),
        ),
    ),
    (
        requests.copy_object("a", "dir/ü +", "b", "k"),
        Request("CopyObject", "PUT", "b", "k", headers=(("x-oss-copy-source", "/a/dir/%C3%BC%20%2B"),)),
    ),
    (
        requests.append_object("b", "k", 7, b"x"),
        Request("AppendObject", "POST", "b", "k", (("append", ""), ("position", "7")), (BYTES,), (b"x",)),
    ),
    (
        requests.copy_object("a", "s", "b", "k", forbid_overwrite=True),
        Request(
            "CopyObject",
            "PUT",
            "b",
            "k",
            headers=(("x-oss-copy-source", "/a/s"), ("x-oss-forbid-overwrite", "true")),
        ),
    ),
    (
        requests.upload_part_copy("b", "k", "ID", 2, OssUri("a", "s"), ByteSpan(5, 10), "AB"),
        Request(
            "UploadPartCopy",
            "PUT",
            "b",
            "k",
            (("partNumber", "2"), ("uploadId", "ID")),
            (
                ("x-oss-copy-source", "/a/s"),
                ("x-oss-copy-source-if-match", '"AB"'),
                ("x-oss-copy-source-range", "bytes=5-9"),
            ),
        ),
    ),
    (requests.put_bucket("b"), Request("PutBucket", "PUT", "b", "")),
    (
        requests.put_bucket("b", "IA"),
        Request(
            "PutBucket",
            "PUT",
            "b",
            "",
            headers=(("content-type", "application/xml"),),
            body=(DECLARATION + b"<CreateBucketConfiguration>" + IA + b"</CreateBucketConfiguration>",),
        ),
    ),
    (requests.list_buckets(), Request("ListBuckets", "GET", query=(("max-keys", "1000"),))),
    (
        requests.list_buckets("p", "m", 7),
        Request("ListBuckets", "GET", query=(("prefix", "p"), ("marker", "m"), ("max-keys", "7"))),
    ),
    (
        requests.copy_object("a", "s", "b", "k", "AB"),
        Request(
            "CopyObject",
            "PUT",
            "b",
            "k",
            headers=(("x-oss-copy-source", "/a/s"), ("x-oss-copy-source-if-match", '"AB"')),
        ),
    ),
    (requests.delete_object("b", "k"), Request("DeleteObject", "DELETE", "b", "k")),
    (requests.list_objects("b"), Request("ListObjectsV2", "GET", "b", "", (*LISTING, ("max-keys", "1000")))),
    (
        requests.list_objects("b", "p/", "/", "p/a", "TOKEN", 7),
        Request(
            "ListObjectsV2",
            "GET",
            "b",
            query=(
                *LISTING,
                ("max-keys", "7"),
                ("prefix", "p/"),
                ("delimiter", "/"),
                ("start-after", "p/a"),
                ("continuation-token", "TOKEN"),
            ),
        ),
    ),
    (
        requests.create_upload("b", "k"),
        Request("InitiateMultipartUpload", "POST", "b", "k", (("uploads", ""), URL_ENCODED), (BYTES,)),
    ),
    (
        requests.upload_part("b", "k", "ID", 3, (b"x", b"y")),
        Request("UploadPart", "PUT", "b", "k", (("partNumber", "3"), ("uploadId", "ID")), (BYTES,), (b"x", b"y")),
    ),
    (
        requests.complete_upload("b", "k", "ID", [UploadedPart(1, "A", 1, 0)]),
        Request(
            "CompleteMultipartUpload",
            "POST",
            "b",
            "k",
            (("uploadId", "ID"), URL_ENCODED),
            (XML,),
            (DECLARATION + b"<CompleteMultipartUpload>" + ONE_PART + b"</CompleteMultipartUpload>",),
        ),
    ),
    (
        requests.complete_upload("b", "k", "ID", [], forbid_overwrite=True),
        Request(
            "CompleteMultipartUpload",
            "POST",
            "b",
            "k",
            (("uploadId", "ID"), URL_ENCODED),
            (XML, ("x-oss-forbid-overwrite", "true")),
            (DECLARATION + b"<CompleteMultipartUpload></CompleteMultipartUpload>",),
        ),
    ),
    (
        requests.abort_upload("b", "k", "ID"),
        Request("AbortMultipartUpload", "DELETE", "b", "k", (("uploadId", "ID"),)),
    ),
    (
        requests.list_parts("b", "k", "ID"),
        Request("ListParts", "GET", "b", "k", (("uploadId", "ID"), ("max-parts", "1000"), URL_ENCODED)),
    ),
    (
        requests.list_parts("b", "k", "ID", 5, 10),
        Request(
            "ListParts",
            "GET",
            "b",
            "k",
            (("uploadId", "ID"), ("max-parts", "10"), URL_ENCODED, ("part-number-marker", "5")),
        ),
    ),
    (
        requests.list_uploads("b"),
        Request("ListMultipartUploads", "GET", "b", "", (("uploads", ""), ("max-uploads", "1000"), URL_ENCODED)),
    ),
    (
        requests.list_uploads("b", "p", "k", "ID", 5),
        Request(
            "ListMultipartUploads",
            "GET",
            "b",
            query=(
                ("uploads", ""),
                ("max-uploads", "5"),
                URL_ENCODED,
                ("prefix", "p"),
                ("key-marker", "k"),
                ("upload-id-marker", "ID"),
            ),
        ),
    ),
]


@pytest.mark.parametrize(("made", "expected"), TABLE, ids=lambda request: request.operation)
def test_an_operation_is_this_request(made: Request, expected: Request) -> None:
    assert made == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda: requests.get_object("b", ""),
        lambda: requests.head_object("b", ""),
        lambda: requests.put_object("b", "", b"x"),
        lambda: requests.copy_object("b", "k", "b", ""),
        lambda: requests.copy_object("b", "", "b", "k"),
        lambda: requests.append_object("b", "", 0, b"x"),
        lambda: requests.upload_part_copy("b", "k", "ID", 1, OssUri("b", ""), ByteSpan(0, 1)),
        lambda: requests.delete_object("b", ""),
        lambda: requests.create_upload("b", ""),
        lambda: requests.upload_part("b", "", "ID", 1, b"x"),
        lambda: requests.complete_upload("b", "", "ID", []),
        lambda: requests.abort_upload("b", "", "ID"),
        lambda: requests.list_parts("b", "", "ID"),
        lambda: requests.delete_objects("b", ["k", ""]),
    ],
)
def test_without_a_key_there_is_no_request_for_an_object(make: Callable[[], Request]) -> None:
    # PUT and DELETE would make and remove the bucket
    with pytest.raises(OssUriError, match="the key is empty"):
        make()


def test_a_batch_of_deletes_carries_the_digest_that_oss_wants() -> None:
    made = requests.delete_objects("b", ["k<1>", "k2"], quiet=False)
    body = (
        DECLARATION + b"<Delete><Quiet>false</Quiet><Object><Key>k&lt;1&gt;</Key></Object>"
        b"<Object><Key>k2</Key></Object></Delete>"
    )
    digest = base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
    query, headers = (("delete", ""), URL_ENCODED), (XML, ("content-md5", digest))
    assert made == Request("DeleteMultipleObjects", "POST", "b", "", query, headers, (body,))


@pytest.mark.parametrize("count", [0, 1001])
def test_a_batch_of_deletes_has_1_to_1000_keys(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        requests.delete_objects("b", ["k"] * count)
    assert requests.delete_objects("b", ["k"] * 1000)


def test_a_batch_of_deletes_takes_no_key_that_xml_can_not_carry() -> None:
    with pytest.raises(ValueError, match="can't be written in XML"):
        requests.delete_objects("b", ["plain", "bell\a"])


def test_bodies_are_not_copied() -> None:
    memory = memoryview(bytearray(10))
    assert requests.put_object("b", "k", memory).body[0] is memory
    assert requests.upload_part("b", "k", "ID", 1, [memory, b"x"]).body[0] is memory
