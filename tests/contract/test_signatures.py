"""Who may do what: every form of signature that OSS takes, and every way in which one is wrong."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import oss2
import pytest
from contract.clients import Client, Ours, Server, our_client
from oracle import signature
from oracle.messages import Account, OssRequest
from oracle.signed_http import SignedHttp, target_of

BODY = b"hello world\n"
KEY = "dir one/a+b 数据~é%20'()*!.bin"
SIGNERS = {"V1": oss2.Auth, "V4": oss2.AuthV4}


@pytest.fixture
def keys(server: Server) -> tuple[str, str]:
    return server.credentials.access_key_id, server.credentials.access_key_secret


@pytest.fixture(params=SIGNERS)
def signed(request: pytest.FixtureRequest, server: Server, keys: tuple[str, str], bucket: str) -> Iterator[oss2.Bucket]:
    """oss2 on a new bucket, signing one way or the other."""
    session = oss2.Session()
    yield oss2.Bucket(SIGNERS[request.param](*keys), server.endpoint, bucket, session=session, region=server.region)
    session.session.close()


def test_either_signature_is_taken_for_every_operation(signed: oss2.Bucket) -> None:
    signed.put_object(KEY, BODY, headers={"Content-Type": "text/plain", "x-oss-meta-a": "inner  blanks"})
    assert signed.get_object(KEY, byte_range=(0, 4)).read() == BODY[:5]
    assert signed.head_object(KEY).content_length == len(BODY)
    assert signed.get_object_meta(KEY).content_length == len(BODY)
    assert [entry.key for entry in signed.list_objects_v2(prefix="dir one/a+", start_after="a").object_list] == [KEY]
    assert [entry.key for entry in signed.list_objects(prefix="dir one/a+").object_list] == [KEY]
    signed.copy_object(signed.bucket_name, KEY, "copy +")
    upload_id = signed.init_multipart_upload(KEY).upload_id
    part = signed.upload_part(KEY, upload_id, 1, BODY)
    signed.complete_multipart_upload(KEY, upload_id, [oss2.models.PartInfo(1, part.etag)])
    assert sorted(signed.batch_delete_objects([KEY, "copy +"]).deleted_keys) == ["copy +", KEY]


def test_a_body_of_unknown_length_is_signed_too(signed: oss2.Bucket) -> None:
    signed.put_object("k", iter([b"hello ", b"world\n"]))
    assert signed.get_object("k").read() == BODY


def test_a_presigned_url_reads_and_writes(wire: SignedHttp, signed: oss2.Bucket) -> None:
    target = signed.sign_url("PUT", KEY, 60).removeprefix(signed.endpoint)
    wire.send_unsigned("PUT", target, {"host": wire.host}, BODY).expect(200)
    with urllib.request.urlopen(signed.sign_url("GET", KEY, 60), timeout=100) as reply:
        assert reply.read() == BODY


def test_a_presigned_url_is_good_for_one_method_and_key(signed: oss2.Bucket) -> None:
    signed.put_object("k", BODY)
    url = signed.sign_url("GET", "k", 60)
    for changed in (urllib.request.Request(url, method="DELETE"), url.replace("/k?", "/other?")):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(changed, timeout=100)
        with caught.value as reply:
            assert reply.code == 403
            assert b"<Code>SignatureDoesNotMatch</Code>" in reply.read()
    assert signed.object_exists("k")


def test_a_presigned_url_runs_out(signed: oss2.Bucket) -> None:
    signed.put_object("k", BODY)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(signed.sign_url("GET", "k", -3600), timeout=100)
    with caught.value as reply:
        assert reply.code in (400, 403)


@pytest.mark.parametrize("signer", SIGNERS)
@pytest.mark.parametrize(
    ("wrong", "code"), [("id", "InvalidAccessKeyId"), ("secret", "SignatureDoesNotMatch"), ("bucket", "NoSuchBucket")]
)
def test_wrong_keys_are_told_apart(
    server: Server, keys: tuple[str, str], bucket: str, signer: str, wrong: str, code: str
) -> None:
    identity, secret = keys
    pair = ("nobody" if wrong == "id" else identity, "guess" if wrong == "secret" else secret)
    name = "contract-no-such-bucket" if wrong == "bucket" else bucket
    session = oss2.Session()
    sdk = oss2.Bucket(SIGNERS[signer](*pair), server.endpoint, name, session=session, region=server.region)
    with pytest.raises(oss2.exceptions.ServerError) as caught:
        sdk.get_object("k")
    session.session.close()
    assert caught.value.code == code
    assert secret not in str(caught.value)


@pytest.mark.parametrize("seconds", [-3600, 3600])
def test_a_clock_that_is_an_hour_off_is_told_so(wire: SignedHttp, bucket: str, seconds: int) -> None:
    reply = wire.send("GET", bucket, epoch_seconds=time.time() + seconds)
    assert (reply.status, reply.code) == (403, "RequestTimeTooSkewed")
    assert "date" in reply.headers


def test_ten_minutes_are_near_enough(wire: SignedHttp, bucket: str) -> None:
    for seconds in (-600, 600):
        wire.send("GET", bucket, epoch_seconds=time.time() + seconds).expect(200)


def test_a_signature_for_another_region_is_refused(server: Server, wire: SignedHttp, bucket: str) -> None:
    elsewhere = SignedHttp(server.endpoint, "cn-elsewhere", wire.account)
    assert elsewhere.send("GET", bucket).status in (400, 403)


def test_a_token_that_belongs_to_no_session_is_refused(server: Server, wire: SignedHttp, bucket: str) -> None:
    account = Account(wire.account.access_key_id, wire.account.access_key_secret, "a token from nowhere")
    reply = SignedHttp(server.endpoint, server.region, account).send("GET", bucket)
    assert (reply.status, reply.code) == (403, "InvalidSecurityToken")


@pytest.mark.parametrize("version", [oss2.AUTH_VERSION_1, oss2.AUTH_VERSION_4])
def test_a_session_signs_with_its_token(server: Server, session_account: Account, bucket: str, version: str) -> None:
    session = oss2.Session()
    auth = oss2.StsAuth(*session_account, auth_version=version)
    sdk = oss2.Bucket(auth, server.endpoint, bucket, session=session, region=server.region)
    sdk.put_object(KEY, BODY)
    assert sdk.get_object(KEY).read() == BODY
    with urllib.request.urlopen(sdk.sign_url("GET", KEY, 60), timeout=100) as reply:
        assert reply.read() == BODY
    session.session.close()


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_our_client_signs_either_way_and_with_a_token(
    server: Server, session_account: Account, bucket: str, tmp_path: Path, version: str
) -> None:
    for account in (server.credentials, session_account):
        ours = our_client(server, account, tmp_path, signatureVersion=version)
        client = Ours(ours, bucket)
        client.put(KEY, BODY)
        assert client.get_range(KEY, 0, 5) == BODY[:5]
        assert client.keys("dir one/a+") == [KEY]
        client.copy(KEY, "copy +")
        client.put_in_parts("parts", BODY)
        client.delete_many([KEY, "copy +", "parts"])
        assert client.keys() == []
        ours.close()


@pytest.mark.parametrize(("token", "code"), [("", "InvalidAccessKeyId"), ("another token", "InvalidSecurityToken")])
def test_a_session_is_refused_without_its_token(
    server: Server, session_account: Account, bucket: str, token: str, code: str
) -> None:
    account = session_account._replace(security_token=token)
    reply = SignedHttp(server.endpoint, server.region, account).send("GET", bucket)
    assert (reply.status, reply.code) == (403, code)
    assert session_account.security_token.encode() not in reply.body


@pytest.mark.parametrize("authorization", [None, "", "Bearer token", "OSS", "OSS4-HMAC-SHA256", "OSS4-HMAC-SHA256 x"])
def test_what_is_not_signed_is_refused(wire: SignedHttp, sdk: Client, authorization: str | None) -> None:
    sdk.put("k", BODY)
    request = OssRequest("GET", sdk.bucket, "k", {}, {"host": wire.host})
    headers = wire.signed(request, time.time())
    del headers["authorization"]
    if authorization is not None:
        headers["authorization"] = authorization
    assert wire.send_unsigned("GET", target_of(request), headers).status in (400, 403)


@pytest.mark.parametrize("changed", ["method", "key", "query", "header", "date"])
def test_whatever_is_changed_after_signing_is_noticed(wire: SignedHttp, sdk: Client, changed: str) -> None:
    sdk.put("k", BODY)
    request = OssRequest("GET", sdk.bucket, "k", {}, {"host": wire.host})
    headers, method, target = wire.signed(request, time.time() - 10), "GET", target_of(request)
    if changed == "method":
        method = "DELETE"
    elif changed == "key":
        target += "2"
    elif changed == "query":
        target += "?v=2"
    elif changed == "header":
        headers["x-oss-range-behavior"] = "standard"
    else:
        headers["x-oss-date"] = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    reply = wire.send_unsigned(method, target, headers)
    assert (reply.status, reply.code) == (403, "SignatureDoesNotMatch")
    assert sdk.get("k") == BODY


def test_headers_signed_in_addition_are_checked(wire: SignedHttp, sdk: Client) -> None:
    """The C++ connector signs the host, and the length of a body."""
    headers = {"host": wire.host, "content-length": str(len(BODY)), "x-oss-content-sha256": "UNSIGNED-PAYLOAD"}
    timestamp = headers["x-oss-date"] = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    request = OssRequest("PUT", sdk.bucket, "k", {}, headers, BODY)
    account = wire.account
    canonical = signature.canonical_request_v4(request, ["content-length", "host"])
    proof = signature.signature_v4(account.access_key_secret, canonical, timestamp, wire.region)
    scope = f"{account.access_key_id}/{timestamp[:8]}/{wire.region}/oss/aliyun_v4_request"
    for text, status in (
        (f"Credential={scope},AdditionalHeaders=content-length;host,Signature={proof}", 200),
        (f"Credential={scope}, Signature={proof}, AdditionalHeaders=content-length;host", 200),
        (f"Credential={scope},AdditionalHeaders=host,Signature={proof}", 403),
    ):
        signed = {**headers, "authorization": f"OSS4-HMAC-SHA256 {text}"}
        wire.send_unsigned("PUT", target_of(request), signed, BODY).expect(status)
