"""Conditional requests, on the wire."""

from __future__ import annotations

from email.utils import formatdate, parsedate_to_datetime

import pytest
from contract.clients import Client
from oracle.signed_http import SignedHttp

BODY = b"hello world\n"
OTHER = '"' + "0" * 32 + '"'


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("form", ["{}", '"{}"', "{lower}", '"{lower}"'])
def test_etags_compare_without_case_and_quotes(wire: SignedHttp, sdk: Client, method: str, form: str) -> None:
    etag = sdk.put("k", BODY).etag
    given = form.format(etag, lower=etag.lower())
    wire.send(method, sdk.bucket, "k", headers={"if-match": given}).expect(200)
    wire.send(method, sdk.bucket, "k", headers={"if-none-match": given}).expect(304)
    wire.send(method, sdk.bucket, "k", headers={"if-none-match": OTHER}).expect(200)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_another_etag_is_a_failed_precondition(wire: SignedHttp, sdk: Client, method: str) -> None:
    sdk.put("k", BODY)
    reply = wire.send(method, sdk.bucket, "k", headers={"if-match": OTHER}).expect(412)
    assert reply.headers["x-oss-ec"]
    assert reply.code == ("PreconditionFailed" if method == "GET" else "")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_not_modified_has_no_body(wire: SignedHttp, sdk: Client, method: str) -> None:
    etag = sdk.put("k", BODY).etag
    reply = wire.send(method, sdk.bucket, "k", headers={"if-none-match": etag}).expect(304)
    assert reply.body == b""


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_times_are_compared_to_the_last_modification(wire: SignedHttp, sdk: Client, method: str) -> None:
    sdk.put("k", BODY)
    modified = wire.send("HEAD", sdk.bucket, "k").headers["last-modified"]
    earlier = formatdate(parsedate_to_datetime(modified).timestamp() - 10, usegmt=True)
    for header, given, status in (
        ("if-modified-since", earlier, 200),
        ("if-modified-since", modified, 304),
        ("if-unmodified-since", earlier, 412),
        ("if-unmodified-since", modified, 200),
    ):
        wire.send(method, sdk.bucket, "k", headers={header: given}).expect(status)


def test_a_copy_may_depend_on_its_source(wire: SignedHttp, sdk: Client) -> None:
    etag = sdk.put("source", BODY).etag
    modified = wire.send("HEAD", sdk.bucket, "source").headers["last-modified"]
    earlier = formatdate(parsedate_to_datetime(modified).timestamp() - 10, usegmt=True)
    source = {"x-oss-copy-source": f"/{sdk.bucket}/source"}
    for condition, given, status in (
        ("match", etag, 200),
        ("match", OTHER, 412),
        ("none-match", OTHER, 200),
        ("none-match", etag, 304),
        ("modified-since", earlier, 200),
        ("modified-since", modified, 304),
        ("unmodified-since", modified, 200),
        ("unmodified-since", earlier, 412),
    ):
        headers = {**source, f"x-oss-copy-source-if-{condition}": given}
        wire.send("PUT", sdk.bucket, "target", headers=headers).expect(status)


@pytest.mark.parametrize("operation", ["put", "copy", "complete"])
def test_every_write_honours_forbid_overwrite(wire: SignedHttp, sdk: Client, operation: str) -> None:
    sdk.put("k", b"old")
    sdk.put("source", BODY)
    forbid = {"x-oss-forbid-overwrite": "true"}
    if operation == "put":
        reply = wire.send("PUT", sdk.bucket, "k", headers=forbid, body=BODY)
    elif operation == "copy":
        reply = wire.send("PUT", sdk.bucket, "k", headers={**forbid, "x-oss-copy-source": f"/{sdk.bucket}/source"})
    else:
        upload_id = sdk.create_upload("k")
        sdk.upload_part("k", upload_id, 1, BODY)
        headers = {**forbid, "x-oss-complete-all": "yes"}
        reply = wire.send("POST", sdk.bucket, "k", query={"uploadId": upload_id}, headers=headers)
    assert (reply.status, reply.code) == (409, "FileAlreadyExists")
    assert sdk.get("k") == b"old"


def test_forbid_overwrite_is_true_or_false(wire: SignedHttp, sdk: Client) -> None:
    wire.send("PUT", sdk.bucket, "k", headers={"x-oss-forbid-overwrite": "false"}, body=BODY).expect(200)
    reply = wire.send("PUT", sdk.bucket, "k", headers={"x-oss-forbid-overwrite": "perhaps"}, body=BODY)
    assert (reply.status, reply.code) == (400, "InvalidArgument")
