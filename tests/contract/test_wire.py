"""What both servers put on the wire: headers, documents, and what they demand of a request."""

from __future__ import annotations

import base64
import hashlib
import http.client
import re
import time
from urllib.parse import unquote, urlsplit

import pytest
from contract.clients import Client, Server
from oracle import documents
from oracle.messages import OssRequest
from oracle.signed_http import SignedHttp, WireReply, target_of

HELLO = b"hello world\n"
HELLO_CRC64 = "14969823782951187105"
HOSTILE = "dir/ü +%&<>\x01"
HOSTILE_ENCODED = "dir/%C3%BC%20%2B%25%26%3C%3E%01"


def md5_header(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def texts(reply: WireReply, path: str) -> list[str]:
    return [node.text or "" for node in reply.expect(200).document().findall(path)]


@pytest.mark.parametrize("key", ["k", "missing"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_answer_names_server_time_and_request(wire: SignedHttp, sdk: Client, method: str, key: str) -> None:
    sdk.put("k", HELLO)
    reply = wire.send(method, sdk.bucket, key)
    assert reply.headers["server"] == "AliyunOSS"
    assert re.fullmatch("[0-9A-F]{24}", reply.headers["x-oss-request-id"])
    assert reply.headers["x-oss-server-time"].isdigit()
    assert reply.headers["date"].endswith("GMT")
    assert ("x-oss-ec" in reply.headers) == (key == "missing")


def test_an_object_comes_with_its_headers(wire: SignedHttp, sdk: Client) -> None:
    put = sdk.put("k", HELLO)
    for method in ("GET", "HEAD"):
        headers = wire.send(method, sdk.bucket, "k").expect(200).headers
        assert headers["content-length"] == "12"
        assert headers["etag"] == f'"{put.etag}"'
        assert headers["x-oss-hash-crc64ecma"] == HELLO_CRC64
        assert headers["x-oss-object-type"] == "Normal"
        assert headers["x-oss-storage-class"] == "Standard"
        assert headers["accept-ranges"] == "bytes"
        assert headers["content-type"] == "application/octet-stream"
        assert not any(name.startswith("x-amz-") for name in headers)


def test_an_upload_is_of_type_multipart(wire: SignedHttp, sdk: Client) -> None:
    sdk.put_in_parts("k", HELLO)
    assert wire.send("HEAD", sdk.bucket, "k").headers["x-oss-object-type"] == "Multipart"
    assert texts(wire.send("GET", sdk.bucket, query={"list-type": "2"}), "Contents/Type") == ["Multipart"]


def test_object_meta_is_the_short_head(wire: SignedHttp, sdk: Client) -> None:
    sdk.put("k", HELLO)
    headers = wire.send("HEAD", sdk.bucket, "k", query={"objectMeta": ""}).expect(200).headers
    assert headers["content-length"] == "12"
    assert headers["x-oss-hash-crc64ecma"] == HELLO_CRC64
    assert "etag" in headers
    assert "last-modified" in headers


def test_content_type_and_metadata_stay_with_an_object(wire: SignedHttp, sdk: Client) -> None:
    sent = {"content-type": "text/plain", "x-oss-meta-color": "green", "cache-control": "no-cache"}
    wire.send("PUT", sdk.bucket, "k", headers=sent, body=HELLO).expect(200)
    headers = wire.send("GET", sdk.bucket, "k").headers
    assert {name: headers[name] for name in sent} == sent


def test_a_copy_keeps_the_metadata_or_replaces_it(wire: SignedHttp, sdk: Client) -> None:
    wire.send("PUT", sdk.bucket, "k", headers={"x-oss-meta-color": "green"}, body=HELLO).expect(200)
    source = {"x-oss-copy-source": f"/{sdk.bucket}/k", "x-oss-meta-color": "red"}
    for directive, color in (("COPY", "green"), ("REPLACE", "red")):
        headers = {**source, "x-oss-metadata-directive": directive}
        wire.send("PUT", sdk.bucket, directive, headers=headers).expect(200)
        assert wire.send("HEAD", sdk.bucket, directive).headers["x-oss-meta-color"] == color


@pytest.mark.parametrize("source", ["k", "{bucket}/k", "/{bucket}", "/{bucket}/"])
def test_a_copy_source_is_written_slash_bucket_slash_key(wire: SignedHttp, sdk: Client, source: str) -> None:
    sdk.put("k", HELLO)
    headers = {"x-oss-copy-source": source.format(bucket=sdk.bucket)}
    assert wire.send("PUT", sdk.bucket, "target", headers=headers).expect(400).code == "InvalidArgument"


def test_an_error_is_a_document_without_a_namespace(wire: SignedHttp, sdk: Client) -> None:
    reply = wire.send("GET", sdk.bucket, "missing").expect(404)
    assert b"xmlns" not in reply.body
    error = reply.document()
    assert error.tag == "Error"
    assert error.findtext("Code") == "NoSuchKey"
    assert error.findtext("Message")
    assert error.findtext("RequestId") == reply.headers["x-oss-request-id"]
    assert error.findtext("HostId")
    assert error.findtext("EC") == reply.headers["x-oss-ec"]


@pytest.mark.parametrize(("there", "code"), [(True, "NoSuchKey"), (False, "NoSuchBucket")])
def test_a_head_carries_its_error_in_a_header(wire: SignedHttp, bucket: str, there: bool, code: str) -> None:
    reply = wire.send("HEAD", bucket if there else "contract-no-such-bucket", "missing").expect(404)
    assert reply.body == b""
    assert documents.parse(base64.b64decode(reply.headers["x-oss-err"])).findtext("Code") == code


def test_an_error_about_a_hostile_key_is_well_formed(wire: SignedHttp, sdk: Client) -> None:
    assert wire.send("GET", sdk.bucket, HOSTILE).expect(404).code == "NoSuchKey"


def test_a_connection_is_kept_after_success_and_after_refusal(server: Server, wire: SignedHttp, sdk: Client) -> None:
    sdk.put("k", HELLO)
    connection = http.client.HTTPConnection(urlsplit(server.endpoint).netloc, timeout=100)
    sockets = set()
    for method, key, status in (("GET", "k", 200), ("HEAD", "k", 200), ("GET", "no", 404), ("HEAD", "no", 404)) * 2:
        request = OssRequest(method, sdk.bucket, key, {}, {"host": wire.host})
        connection.request(method, target_of(request), headers=wire.signed(request, time.time()))
        reply = connection.getresponse()
        reply.read()
        assert reply.status == status
        sockets.add(connection.sock)
    connection.close()
    assert len(sockets) == 1
    assert None not in sockets


@pytest.mark.parametrize("host", ["{bucket}.oss-cn-test.aliyuncs.com", "{bucket}.localhost"])
def test_the_host_may_name_the_bucket(wire: SignedHttp, sdk: Client, host: str) -> None:
    sdk.put("dir/k", HELLO)
    request = OssRequest("GET", sdk.bucket, "dir/k", {}, {"host": host.format(bucket=sdk.bucket)})
    reply = wire.send_unsigned("GET", "/dir/k", wire.signed(request, time.time())).expect(200)
    assert reply.body == HELLO


def test_a_body_that_is_not_its_md5_is_refused(wire: SignedHttp, sdk: Client) -> None:
    upload_id = sdk.create_upload("k")
    wrong, right = {"content-md5": md5_header(b"other")}, {"content-md5": md5_header(HELLO)}
    for query in ({}, {"partNumber": "1", "uploadId": upload_id}):
        reply = wire.send("PUT", sdk.bucket, "k", query=query, headers=wrong, body=HELLO)
        assert (reply.status, reply.code) == (400, "InvalidDigest")
        assert sdk.keys() == []
        wire.send("PUT", sdk.bucket, "k", query=query, headers=right, body=HELLO).expect(200)
        sdk.delete("k")


def test_a_body_needs_a_length(wire: SignedHttp, sdk: Client) -> None:
    request = OssRequest("PUT", sdk.bucket, "k", {}, {"host": wire.host})
    signed = wire.signed(request, time.time())
    reply = wire.send_unsigned("PUT", target_of(request), signed, with_length=False)
    assert (reply.status, reply.code) == (411, "MissingContentLength")


def test_a_body_may_come_in_chunks(wire: SignedHttp, sdk: Client) -> None:
    request = OssRequest("PUT", sdk.bucket, "k", {}, {"host": wire.host, "transfer-encoding": "chunked"})
    chunks = b"5\r\nhello\r\n7;name=value\r\n world\n\r\n0\r\n\r\n"
    reply = wire.send_unsigned("PUT", target_of(request), wire.signed(request, time.time()), chunks, with_length=False)
    assert reply.expect(200).headers["x-oss-hash-crc64ecma"] == HELLO_CRC64
    assert sdk.get("k") == HELLO


@pytest.mark.parametrize(
    "parameters",
    [{"max-keys": "0"}, {"max-keys": "1001"}, {"max-keys": "x"}, {"max-keys": "-1"}, {"encoding-type": "x"}],
)
@pytest.mark.parametrize("version", [{}, {"list-type": "2"}])
def test_a_listing_refuses_wrong_parameters(
    wire: SignedHttp, sdk: Client, parameters: dict[str, str], version: dict[str, str]
) -> None:
    reply = wire.send("GET", sdk.bucket, query={**version, **parameters})
    assert (reply.status, reply.code) == (400, "InvalidArgument")


def test_a_token_nobody_gave_out_is_refused(wire: SignedHttp, sdk: Client) -> None:
    reply = wire.send("GET", sdk.bucket, query={"list-type": "2", "continuation-token": "no such token"})
    assert (reply.status, reply.code) == (400, "InvalidArgument")


@pytest.mark.parametrize("version", [{}, {"list-type": "2"}])
def test_a_page_has_100_keys_unless_asked(wire: SignedHttp, crowded_bucket: str, version: dict[str, str]) -> None:
    reply = wire.send("GET", crowded_bucket, query=version)
    assert len(texts(reply, "Contents")) == 100
    assert texts(reply, "MaxKeys") == ["100"]
    assert texts(reply, "IsTruncated") == ["true"]


def test_a_listing_describes_each_object(wire: SignedHttp, sdk: Client) -> None:
    etag = sdk.put("k", HELLO).etag
    reply = wire.send("GET", sdk.bucket, query={"list-type": "2"})
    assert b"xmlns" not in reply.body
    assert texts(reply, "Contents/Key") == ["k"]
    assert texts(reply, "Contents/ETag") == [f'"{etag}"']
    assert texts(reply, "Contents/Type") == ["Normal"]
    assert texts(reply, "Contents/Size") == ["12"]
    assert texts(reply, "Contents/StorageClass") == ["Standard"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.000Z", texts(reply, "Contents/LastModified")[0])
    assert texts(reply, "Contents/Owner") == []
    assert texts(reply, "Name") == [sdk.bucket]
    assert texts(reply, "KeyCount") == ["1"]
    assert texts(reply, "IsTruncated") == ["false"]


def test_an_owner_is_told_when_asked_for(wire: SignedHttp, sdk: Client) -> None:
    sdk.put("k", HELLO)
    reply = wire.send("GET", sdk.bucket, query={"list-type": "2", "fetch-owner": "true"})
    assert len(texts(reply, "Contents/Owner/ID")) == 1


def test_the_key_count_is_of_keys_and_prefixes(wire: SignedHttp, sdk: Client) -> None:
    for key in ("a/1", "a/2", "b/1", "c"):
        sdk.put(key, b"")
    reply = wire.send("GET", sdk.bucket, query={"list-type": "2", "delimiter": "/", "max-keys": "2"})
    assert texts(reply, "KeyCount") == ["2"]
    assert texts(reply, "CommonPrefixes/Prefix") == ["a/", "b/"]
    assert len(texts(reply, "NextContinuationToken")) == 1


def test_empty_parameters_of_a_listing_count_as_absent(wire: SignedHttp, sdk: Client) -> None:
    sdk.put("k", HELLO)
    names = ("prefix", "delimiter", "start-after", "continuation-token", "encoding-type")
    reply = wire.send("GET", sdk.bucket, query={"list-type": "2", **dict.fromkeys(names, "")})
    assert texts(reply, "Contents/Key") == ["k"]


def test_encoding_type_url_encodes_every_name(wire: SignedHttp, sdk: Client) -> None:
    sdk.put(HOSTILE, b"")
    sdk.put(HOSTILE + "/deeper", b"")
    query = {"list-type": "2", "encoding-type": "url", "delimiter": "/", "prefix": "dir/ü", "start-after": "dir/ü "}
    reply = wire.send("GET", sdk.bucket, query=query)
    assert texts(reply, "EncodingType") == ["url"]
    assert [unquote(key) for key in texts(reply, "Contents/Key")] == [HOSTILE]
    assert [unquote(prefix) for prefix in texts(reply, "CommonPrefixes/Prefix")] == [HOSTILE + "/"]
    assert unquote(texts(reply, "Prefix")[0]) == "dir/ü"
    assert unquote(texts(reply, "StartAfter")[0]) == "dir/ü "
    assert "+" not in "".join(texts(reply, "Contents/Key"))
    assert "ü".encode() not in reply.body


def test_names_are_plain_unless_encoding_is_asked_for(wire: SignedHttp, sdk: Client) -> None:
    sdk.put("dir/ü +%&<>", b"")
    reply = wire.send("GET", sdk.bucket, query={"list-type": "2"})
    assert texts(reply, "Contents/Key") == ["dir/ü +%&<>"]
    assert texts(reply, "EncodingType") == []


def test_version_1_of_the_listing_goes_on_from_a_marker(wire: SignedHttp, sdk: Client) -> None:
    for key in ("a", "b/1", "b/2", "c", "d"):
        sdk.put(key, b"")
    query = {"delimiter": "/", "max-keys": "2", "encoding-type": "url"}
    first = wire.send("GET", sdk.bucket, query=query)
    assert texts(first, "Contents/Key") == ["a"]
    assert texts(first, "CommonPrefixes/Prefix") == ["b/"]
    assert texts(first, "NextMarker") == ["b/"]
    second = wire.send("GET", sdk.bucket, query={**query, "marker": "b/"})
    assert texts(second, "Contents/Key") == ["c", "d"]
    assert texts(second, "IsTruncated") == ["false"]
    assert texts(second, "NextMarker") == []


def test_multi_delete_demands_an_md5(wire: SignedHttp, sdk: Client) -> None:
    body = b"<Delete><Object><Key>k</Key></Object></Delete>"
    wire.send("POST", sdk.bucket, query={"delete": ""}, body=body).expect(400)
    reply = wire.send(
        "POST", sdk.bucket, query={"delete": ""}, headers={"content-md5": md5_header(body + b" ")}, body=body
    )
    assert (reply.status, reply.code) == (400, "InvalidDigest")


def test_a_quiet_multi_delete_answers_nothing(wire: SignedHttp, sdk: Client) -> None:
    for quiet in ("true", "false"):
        sdk.put("k", HELLO)
        body = f"<Delete><Quiet>{quiet}</Quiet><Object><Key>k</Key></Object></Delete>".encode()
        headers = {"content-md5": md5_header(body)}
        reply = wire.send("POST", sdk.bucket, query={"delete": ""}, headers=headers, body=body).expect(200)
        assert sdk.keys() == []
        if quiet == "true":
            assert reply.body == b""
        else:
            assert texts(reply, "Deleted/Key") == ["k"]


@pytest.mark.parametrize(
    "body", [b"", b"no xml", b"<Delete></Delete>", b"<Delete>" + b"<Object><Key>k</Key></Object>" * 1001]
)
def test_a_multi_delete_that_is_no_list_of_keys_is_malformed(wire: SignedHttp, sdk: Client, body: bytes) -> None:
    headers = {"content-md5": md5_header(body)}
    reply = wire.send("POST", sdk.bucket, query={"delete": ""}, headers=headers, body=body)
    assert (reply.status, reply.code) == (400, "MalformedXML")


def test_a_bucket_that_holds_objects_is_not_deleted(wire: SignedHttp, sdk: Client) -> None:
    sdk.put("k", HELLO)
    reply = wire.send("DELETE", sdk.bucket)
    assert (reply.status, reply.code) == (409, "BucketNotEmpty")
    sdk.delete("k")
    wire.send("DELETE", sdk.bucket).expect(204)
    assert wire.send("GET", sdk.bucket).expect(404).code == "NoSuchBucket"


def test_creating_ones_own_bucket_again_changes_nothing(wire: SignedHttp, sdk: Client) -> None:
    sdk.put("k", HELLO)
    wire.send("PUT", sdk.bucket).expect(200)
    assert sdk.keys() == ["k"]


@pytest.mark.parametrize("name", ["ab", "Upper-case", "under_score", "-dash", "dash-", "a" * 64])
def test_a_bucket_name_that_oss_does_not_allow_is_refused(wire: SignedHttp, name: str) -> None:
    assert wire.send("PUT", name).expect(400).code == "InvalidBucketName"


def test_buckets_are_listed(wire: SignedHttp, sdk: Client) -> None:
    reply = wire.send("GET", query={"prefix": sdk.bucket, "max-keys": "1000"})
    assert reply.document().tag == "ListAllMyBucketsResult"
    assert sdk.bucket in texts(reply, "Buckets/Bucket/Name")
    assert all(name.startswith(sdk.bucket) for name in texts(reply, "Buckets/Bucket/Name"))
    for field in ("CreationDate", "Location", "ExtranetEndpoint", "IntranetEndpoint", "StorageClass"):
        assert len(texts(reply, f"Buckets/Bucket/{field}")) == len(texts(reply, "Buckets/Bucket"))


@pytest.mark.parametrize("name", ["legalHold", "overwriteConfig", "cors", "x-oss-process", "no-such-thing"])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_sub_resource_that_is_not_there_changes_nothing(
    wire: SignedHttp, sdk: Client, method: str, name: str
) -> None:
    sdk.put("k", HELLO)
    wire.send(method, sdk.bucket, "k", query={name: ""}).expect(501)
    assert sdk.get("k") == HELLO
    sdk.delete("k")
    wire.send(method, sdk.bucket, query={name: ""}).expect(501)
    assert sdk.keys() == []


def test_a_copy_is_answered_with_its_checksum(wire: SignedHttp, sdk: Client) -> None:
    sdk.put("k", HELLO)
    reply = wire.send("PUT", sdk.bucket, "copy", headers={"x-oss-copy-source": f"/{sdk.bucket}/k"})
    assert reply.expect(200).headers["x-oss-hash-crc64ecma"] == HELLO_CRC64
