"""Multipart uploads on the wire: what no client would send, and documents no client shows."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from contract.clients import Client, Part
from oracle.signed_http import SignedHttp, WireReply

PART = b"x" * 102400
HOSTILE = "dir/ü +%&<>\x01"


def completion(*parts: tuple[int, str]) -> bytes:
    listed = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts)
    return f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()


@pytest.fixture
def upload_id(sdk: Client) -> str:
    return sdk.create_upload("k")


@pytest.fixture
def parts(sdk: Client, upload_id: str) -> list[Part]:
    """Three parts in place."""
    return [sdk.upload_part("k", upload_id, number, PART) for number in (1, 2, 3)]


def complete(wire: SignedHttp, sdk: Client, upload_id: str, body: bytes) -> WireReply:
    return wire.send("POST", sdk.bucket, "k", query={"uploadId": upload_id}, body=body)


def test_parts_out_of_order_are_refused_before_anything_else(
    wire: SignedHttp, sdk: Client, upload_id: str, parts: list[Part]
) -> None:
    small = sdk.upload_part("k", upload_id, 2, b"small")
    for numbers in ((2, 1), (1, 1), (1, 3, 2)):
        body = completion(*((number, small.etag if number == 2 else parts[0].etag) for number in numbers))
        reply = complete(wire, sdk, upload_id, body)
        assert (reply.status, reply.code) == (400, "InvalidPartOrder"), numbers


@pytest.mark.parametrize("body", [b"no xml", b"<CompleteMultipartUpload>", completion(), b"<Other/>"])
def test_a_completion_that_names_no_parts_is_malformed(
    wire: SignedHttp, sdk: Client, upload_id: str, parts: list[Part], body: bytes
) -> None:
    reply = complete(wire, sdk, upload_id, body)
    assert (reply.status, reply.code) == (400, "MalformedXML")
    assert len(sdk.list_parts("k", upload_id)) == len(parts)


@pytest.mark.parametrize("form", ["{}", '"{}"', "&quot;{}&quot;", "{lower}", '"{lower}"'])
def test_etags_of_parts_may_be_quoted_or_not(
    wire: SignedHttp, sdk: Client, upload_id: str, parts: list[Part], form: str
) -> None:
    body = completion(*((part.number, form.format(part.etag, lower=part.etag.lower())) for part in parts))
    complete(wire, sdk, upload_id, body).expect(200)
    assert sdk.get("k") == PART * 3


def test_a_completion_answers_etag_and_crc64(wire: SignedHttp, sdk: Client, upload_id: str, parts: list[Part]) -> None:
    reply = complete(wire, sdk, upload_id, completion(*((part.number, part.etag) for part in parts))).expect(200)
    document, head = reply.document(), sdk.head("k")
    assert document.tag == "CompleteMultipartUploadResult"
    assert (document.findtext("Bucket"), document.findtext("Key")) == (sdk.bucket, "k")
    assert document.findtext("ETag") == f'"{head.etag}"'
    assert reply.headers["x-oss-hash-crc64ecma"] == str(head.crc64)
    assert b"xmlns" not in reply.body


def test_complete_all_takes_the_parts_that_are_there(
    wire: SignedHttp, sdk: Client, upload_id: str, parts: list[Part]
) -> None:
    headers = {"x-oss-complete-all": "yes"}
    wire.send("POST", sdk.bucket, "k", query={"uploadId": upload_id}, headers=headers).expect(200)
    assert sdk.get("k") == PART * len(parts)


def test_an_unknown_upload_is_not_aborted(wire: SignedHttp, sdk: Client, upload_id: str) -> None:
    for key, given in (("k", "0123456789ABCDEF0123456789ABCDEF"), ("other", upload_id)):
        reply = wire.send("DELETE", sdk.bucket, key, query={"uploadId": given})
        assert (reply.status, reply.code) == (404, "NoSuchUpload")
    wire.send("DELETE", sdk.bucket, "k", query={"uploadId": upload_id}).expect(204)
    wire.send("DELETE", sdk.bucket, "k", query={"uploadId": upload_id}).expect(404)


def test_parts_are_listed_page_by_page_with_their_crc64(wire: SignedHttp, sdk: Client, upload_id: str) -> None:
    sent = [sdk.upload_part("k", upload_id, number, b"%d" % number) for number in (2, 5, 70, 900)]
    seen: list[tuple[int, int]] = []
    marker = "0"
    while marker:
        query = {"uploadId": upload_id, "max-parts": "3", "part-number-marker": marker}
        page = wire.send("GET", sdk.bucket, "k", query=query).expect(200).document()
        assert page.tag == "ListPartsResult"
        seen += [
            (int(node.findtext("PartNumber", "")), int(node.findtext("HashCrc64ecma", "")))
            for node in page.findall("Part")
        ]
        marker = page.findtext("NextPartNumberMarker", "") if page.findtext("IsTruncated") == "true" else ""
    assert seen == [(part.number, part.crc64) for part in sent]


def test_uploads_are_listed_page_by_page(wire: SignedHttp, sdk: Client) -> None:
    begun = sorted((key, sdk.create_upload(key)) for key in ("a", "b", "b", "b", "c/1"))
    seen: list[tuple[str, str]] = []
    markers = {"key-marker": "", "upload-id-marker": ""}
    while markers:
        query = {"uploads": "", "max-uploads": "2", **markers}
        page = wire.send("GET", sdk.bucket, query=query).expect(200).document()
        assert page.tag == "ListMultipartUploadsResult"
        found = [(node.findtext("Key", ""), node.findtext("UploadId", "")) for node in page.findall("Upload")]
        assert len(found) <= 2
        seen += found
        last = {
            name: page.findtext(f"Next{tag}Marker", "")
            for name, tag in (("key-marker", "Key"), ("upload-id-marker", "UploadId"))
        }
        markers = last if page.findtext("IsTruncated") == "true" else {}
    assert seen == begun


def test_a_key_marker_alone_skips_all_uploads_of_its_key(wire: SignedHttp, sdk: Client) -> None:
    for key in ("a", "b", "b"):
        sdk.create_upload(key)
    later = sdk.create_upload("c")
    page = wire.send("GET", sdk.bucket, query={"uploads": "", "key-marker": "b"}).expect(200).document()
    assert [node.findtext("UploadId") for node in page.findall("Upload")] == [later]


def test_every_answer_encodes_the_key_when_asked(wire: SignedHttp, sdk: Client) -> None:
    encoding = {"encoding-type": "url"}
    begun = wire.send("POST", sdk.bucket, HOSTILE, query={"uploads": "", **encoding}).expect(200).document()
    upload_id = begun.findtext("UploadId", "")
    etag = sdk.upload_part(HOSTILE, upload_id, 1, b"x").etag
    listed = wire.send("GET", sdk.bucket, HOSTILE, query={"uploadId": upload_id, **encoding}).expect(200).document()
    query = {"uploadId": upload_id, **encoding}
    done = wire.send("POST", sdk.bucket, HOSTILE, query=query, body=completion((1, etag))).expect(200).document()
    for document in (begun, listed, done):
        assert document.findtext("EncodingType") == "url"
        assert unquote(document.findtext("Key", "")) == HOSTILE


def test_a_part_is_copied_from_an_object(wire: SignedHttp, sdk: Client, upload_id: str) -> None:
    sdk.put("source", PART + b"tail")
    source = {"x-oss-copy-source": f"/{sdk.bucket}/source"}
    for number, span in ((1, {}), (2, {"x-oss-copy-source-range": "bytes=102400-102402"})):
        query = {"uploadId": upload_id, "partNumber": str(number)}
        reply = wire.send("PUT", sdk.bucket, "k", query=query, headers={**source, **span}).expect(200)
        assert reply.document().tag == "CopyPartResult"
        assert reply.document().findtext("ETag")
    headers = {"x-oss-complete-all": "yes"}
    wire.send("POST", sdk.bucket, "k", query={"uploadId": upload_id}, headers=headers).expect(200)
    assert sdk.get("k") == PART + b"tail" + b"tai"


def test_a_part_may_be_copied_up_to_its_sources_end(wire: SignedHttp, sdk: Client, upload_id: str) -> None:
    sdk.put("source", PART + b"the end")
    headers = {"x-oss-copy-source": f"/{sdk.bucket}/source", "x-oss-copy-source-range": f"bytes={len(PART)}-"}
    query = {"uploadId": upload_id, "partNumber": "1"}
    copied = wire.send("PUT", sdk.bucket, "k", query=query, headers=headers).expect(200)
    complete(wire, sdk, upload_id, completion((1, copied.document().findtext("ETag", "")))).expect(200)
    assert sdk.get("k") == b"the end"
