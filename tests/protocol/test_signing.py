"""Signatures held to the published vectors, to their grammar, and to what a verifier recomputes."""

from __future__ import annotations

import hashlib
import hmac
from typing import NamedTuple
from urllib.parse import unquote, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.credentials import Credentials
from osstorchconnector.protocol import signing
from osstorchconnector.protocol.heads import http_date
from osstorchconnector.protocol.signing import (
    UNSIGNED_PAYLOAD,
    ParsedAuthorization,
    V1Signer,
    V4Signer,
    additional_names,
    canonical_request_v4,
    canonical_tail,
    derive_key_v4,
    encode_key,
    encode_query,
    parse_authorization,
    scope_v4,
    signature_v1,
    string_to_sign_v1,
    string_to_sign_v4,
)
from osstorchconnector.protocol.values import Pairs, Request

ID = "LTAI5tTESTACCESSKEYID"
SECRET = "tEsTaCcEsSkEySeCrEt0123456789AB"
TOKEN = "CAISTESTtoken/with+plus=and/slash=="
EPOCH = 1741964966
DATE = "20250314T150926Z"
HTTP_DATE = "Fri, 14 Mar 2025 15:09:26 GMT"
BUCKET = "example-bucket"
UNUSUAL_KEY = "dir one/a+b 数据~\u00e9.bin"
PLAIN = Credentials(access_key_id=ID, access_key_secret=SECRET)
TEMPORARY = Credentials(access_key_id=ID, access_key_secret=SECRET, security_token=TOKEN)
OSS_DATE = (("x-oss-content-sha256", UNSIGNED_PAYLOAD), ("x-oss-date", DATE))


class Vector(NamedTuple):
    request: Request
    canonical: str
    digest: str
    authorization: str
    credentials: Credentials = PLAIN
    region: str = "cn-hangzhou"
    additional: tuple[str, ...] = ()


PART = Request(
    "UploadPart",
    "PUT",
    BUCKET,
    "ckpt/step-10/__0_0.distcp",
    (("partNumber", "3"), ("uploadId", "0004B9B2D2F7815C432C9057C03134D4")),
    (("Content-Type", "application/octet-stream"), ("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg==")),
)
LISTING: Pairs = (
    ("list-type", "2"),
    ("prefix", "train/数 据+/"),
    ("delimiter", "/"),
    ("continuation-token", "CgJ0cg--"),
    ("max-keys", "1000"),
    ("encoding-type", "url"),
)
V4 = {
    "A": Vector(
        Request("GetObject", "GET", BUCKET, UNUSUAL_KEY, headers=(("Range", "bytes=0-1048575"),)),
        "GET\n/example-bucket/dir%20one/a%2Bb%20%E6%95%B0%E6%8D%AE~%C3%A9.bin\n\nrange:bytes=0-1048575\n"
        "x-oss-content-sha256:UNSIGNED-PAYLOAD\nx-oss-date:20250314T150926Z\n\nrange\nUNSIGNED-PAYLOAD",
        "15789dd71760b84ad7201a934f755395387a6623f5d498cd5b48a04c373ea642",
        "OSS4-HMAC-SHA256 Credential=LTAI5tTESTACCESSKEYID/20250314/cn-hangzhou/oss/aliyun_v4_request, "
        "Signature=78f747bfac3eb37b3f7137ae80225778d5bd37394ce07a8253f2f18aa86db3fe, AdditionalHeaders=range",
        additional=("Range",),
    ),
    "B": Vector(
        PART,
        "PUT\n/example-bucket/ckpt/step-10/__0_0.distcp\npartNumber=3&uploadId=0004B9B2D2F7815C432C9057C03134D4\n"
        "content-md5:1B2M2Y8AsgTpgAmY7PhCfg==\ncontent-type:application/octet-stream\n"
        "x-oss-content-sha256:UNSIGNED-PAYLOAD\nx-oss-date:20250314T150926Z\n"
        "x-oss-security-token:CAISTESTtoken/with+plus=and/slash==\n\n\nUNSIGNED-PAYLOAD",
        "2fe80d1396726426ffed96a2da94ec209644a2016d54174bbc8bbbfc37cbd742",
        "OSS4-HMAC-SHA256 Credential=LTAI5tTESTACCESSKEYID/20250314/cn-hangzhou/oss/aliyun_v4_request, "
        "Signature=17f862a5a85fb48eb9ce5b30c582a4372cc5ee995003a7bae5a4a80a0eeef1e6",
        credentials=TEMPORARY,
    ),
    "C": Vector(
        Request("ListObjectsV2", "GET", BUCKET, "", (*LISTING, ("start-after", ""), ("fetch-owner", "false"))),
        "GET\n/example-bucket/\ncontinuation-token=CgJ0cg--&delimiter=%2F&encoding-type=url&fetch-owner=false&"
        "list-type=2&max-keys=1000&prefix=train%2F%E6%95%B0%20%E6%8D%AE%2B%2F&start-after\n"
        "x-oss-content-sha256:UNSIGNED-PAYLOAD\nx-oss-date:20250314T150926Z\n\n\nUNSIGNED-PAYLOAD",
        "6b2d1ead916292e9612cb2df41cd3deb66009f0d751a199a74d424e0e973ad59",
        "OSS4-HMAC-SHA256 Credential=LTAI5tTESTACCESSKEYID/20250314/cn-hangzhou/oss/aliyun_v4_request, "
        "Signature=5b770cd7a3127d98352a0a66069002c1fabfff0cce8019e3729a75792cd4ecb1",
    ),
    "D": Vector(
        Request(
            "InitiateMultipartUpload",
            "POST",
            BUCKET,
            "a.bin",
            (("uploads", ""),),
            (("Content-Type", "application/octet-stream"), ("x-oss-storage-class", "IA")),
        ),
        "POST\n/example-bucket/a.bin\nuploads\ncontent-type:application/octet-stream\n"
        "x-oss-content-sha256:UNSIGNED-PAYLOAD\nx-oss-date:20250314T150926Z\nx-oss-storage-class:IA\n\n\n"
        "UNSIGNED-PAYLOAD",
        "3e97787e741bfe1e6d96ad3aaaa14872e37a58178049cac4094463b7ea429ab8",
        "OSS4-HMAC-SHA256 Credential=LTAI5tTESTACCESSKEYID/20250314/ap-southeast-1/oss/aliyun_v4_request, "
        "Signature=83c39c4c2574b07d84c78c81a01135bb5b2aeb8916dfc1bf43fcc1d1fb4482a2",
        region="ap-southeast-1",
    ),
    "E": Vector(
        Request(
            "UploadPart",
            "PUT",
            BUCKET,
            "w/part",
            (("partNumber", "1"), ("uploadId", "ABC")),
            (("Host", "example-bucket.oss-cn-hangzhou.aliyuncs.com"), ("Content-Length", "500")),
        ),
        "PUT\n/example-bucket/w/part\npartNumber=1&uploadId=ABC\ncontent-length:500\n"
        "host:example-bucket.oss-cn-hangzhou.aliyuncs.com\nx-oss-content-sha256:UNSIGNED-PAYLOAD\n"
        "x-oss-date:20250314T150926Z\n\ncontent-length;host\nUNSIGNED-PAYLOAD",
        "6a4249028304401c31f0dfa05d59a44f575665b646cb12292c9921d5b7ba6a1f",
        "OSS4-HMAC-SHA256 Credential=LTAI5tTESTACCESSKEYID/20250314/cn-hangzhou/oss/aliyun_v4_request, "
        "Signature=a60a2f7cf6dcd29300629349eec0914815140f6e94162d2bf99b16395fdc7bf5, "
        "AdditionalHeaders=content-length;host",
        additional=("Host", "Content-Length"),
    ),
}


def canonical_of(vector: Vector) -> str:
    headers = {name.lower(): value for name, value in (*vector.request.headers, *OSS_DATE)}
    if vector.credentials.security_token:
        headers["x-oss-security-token"] = vector.credentials.security_token
    request = vector.request
    tail = canonical_tail(headers, additional_names(vector.additional))
    return canonical_request_v4(request.method, request.bucket, request.key, request.query, tail)


def signature_of(text: str, key: bytes) -> str:
    return hmac.digest(key, text.encode(), "sha256").hex()


@pytest.mark.parametrize("vector", V4.values(), ids=V4)
def test_canonical_requests_of_version_4(vector: Vector) -> None:
    canonical = canonical_of(vector)
    assert canonical == vector.canonical
    assert hashlib.sha256(canonical.encode()).hexdigest() == vector.digest


@pytest.mark.parametrize("vector", V4.values(), ids=V4)
def test_the_string_that_version_4_signs(vector: Vector) -> None:
    scope = scope_v4("20250314", vector.region)
    assert scope == f"20250314/{vector.region}/oss/aliyun_v4_request"
    text = string_to_sign_v4(canonical_of(vector), timestamp=DATE, scope=scope)
    assert text == f"OSS4-HMAC-SHA256\n20250314T150926Z\n{scope}\n{vector.digest}"
    key = derive_key_v4(SECRET, "20250314", vector.region)
    assert signature_of(text, key) == parse_authorization(vector.authorization).signature


@pytest.mark.parametrize("vector", V4.values(), ids=V4)
def test_the_signer_of_version_4(vector: Vector) -> None:
    signer = V4Signer(vector.credentials, vector.region, additional=vector.additional)
    token = [("x-oss-security-token", TOKEN)] if vector.credentials is TEMPORARY else []
    signed = [*OSS_DATE, *token, ("authorization", vector.authorization)]
    assert signer.sign(vector.request, EPOCH) == signed
    assert signer.sign(vector.request, EPOCH) == signed  # now from what it remembers


@pytest.mark.parametrize(
    ("region", "key"),
    [
        ("cn-hangzhou", "8880a84b95fd82001ff5fc517bbbfafd44ead6e4c8d1393d8a11d0eed56abe10"),
        ("ap-southeast-1", "b1cd1da7d33d94e8437b0a3c61be841d98c26ecffff9504c6fd249ccd7bc74a8"),
    ],
)
def test_the_key_of_a_day_and_region(region: str, key: str) -> None:
    assert derive_key_v4(SECRET, "20250314", region).hex() == key


def test_the_signature_of_a_presigned_url_of_version_4() -> None:
    scope = scope_v4("20250314", "cn-hangzhou")
    query = (
        ("x-oss-signature-version", "OSS4-HMAC-SHA256"),
        ("x-oss-credential", f"{ID}/{scope}"),
        ("x-oss-date", DATE),
        ("x-oss-expires", "600"),
        ("x-oss-security-token", TOKEN),
    )
    canonical = canonical_request_v4("GET", BUCKET, "dir one/a+b.bin", query, canonical_tail({}, ()))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    assert digest == "196702cf9e1cfb39b84557049f2285a7e3c6559906b58a6e95a0108003539f08"
    text = string_to_sign_v4(canonical, timestamp=DATE, scope=scope)
    signature = signature_of(text, derive_key_v4(SECRET, "20250314", "cn-hangzhou"))
    assert signature == "e8dd9e666bbe1643f93bb844b71e6b6d8f0234640595b585e8b8f3fa149396ed"


V1_PART = (
    "PUT\n1B2M2Y8AsgTpgAmY7PhCfg==\napplication/octet-stream\nFri, 14 Mar 2025 15:09:26 GMT\n"
    "x-oss-security-token:CAISTESTtoken/with+plus=and/slash==\n"
    "/example-bucket/ckpt/step-10/__0_0.distcp?partNumber=3&uploadId=0004B9B2D2F7815C432C9057C03134D4"
)
V1 = {
    "A": (
        Request(
            "GetObject",
            "GET",
            BUCKET,
            UNUSUAL_KEY,
            (("versionId", "CAEQMhiBgIDXiaaB0BYiIGQz"), ("foo", "bar")),
            (("Range", "bytes=0-1"),),
        ),
        PLAIN,
        f"GET\n\n\n{HTTP_DATE}\n/example-bucket/{UNUSUAL_KEY}?versionId=CAEQMhiBgIDXiaaB0BYiIGQz",
        "OLkVGcumZ8hKHzbxaGDq4mfuJJA=",
    ),
    "B": (PART, TEMPORARY, V1_PART, "Jc6crwIaI15L8/nBnQDidtDdD14="),
    "C": (
        Request("ListObjectsV2", "GET", BUCKET, "", LISTING),
        PLAIN,
        f"GET\n\n\n{HTTP_DATE}\n/example-bucket/?continuation-token=CgJ0cg--",
        "iRhNaUaFbSzfE1kduyeIR99yGaY=",
    ),
}


@pytest.mark.parametrize("name", V1)
def test_the_signer_of_version_1(name: str) -> None:
    request, credentials, text, signature = V1[name]
    token = [("x-oss-security-token", TOKEN)] if credentials is TEMPORARY else []
    headers = {name.lower(): value for name, value in (*request.headers, *token)}
    assert (
        string_to_sign_v1("PUT" if name == "B" else "GET", BUCKET, request.key, request.query, headers, HTTP_DATE)
        == text
    )
    assert signature_v1(SECRET, text) == signature
    signed = [("date", HTTP_DATE), *token, ("authorization", f"OSS {ID}:{signature}")]
    assert V1Signer(credentials).sign(request, EPOCH) == signed


def test_version_1_signs_the_date_of_oss_where_there_is_one() -> None:
    request = Request("GetObject", "GET", BUCKET, "k", headers=(("X-Oss-Date", DATE),))
    text = string_to_sign_v1("GET", BUCKET, "k", (), {"x-oss-date": DATE}, DATE)
    assert V1Signer(PLAIN).sign(request, EPOCH)[-1] == ("authorization", f"OSS {ID}:{signature_v1(SECRET, text)}")


def test_blanks_around_a_value_are_not_signed_and_only_headers_of_oss_are() -> None:
    headers = {"x-oss-meta-a": " \tb c\t ", "x-ossuary": "d", "x-os": "e", "range": "f"}
    assert string_to_sign_v1("GET", BUCKET, "k", (), headers, "D") == "GET\n\n\nD\nx-oss-meta-a:b c\n/example-bucket/k"
    canonical = canonical_request_v4("GET", BUCKET, "k", (), canonical_tail(headers, ()))
    assert canonical == "GET\n/example-bucket/k\n\nx-oss-meta-a:b c\n\n\nUNSIGNED-PAYLOAD"


def test_version_1_of_the_service_itself() -> None:
    assert string_to_sign_v1("GET", "", "", (("max-keys", "5"),), {}, "D") == "GET\n\n\nD\n/"


def test_the_signature_of_a_presigned_url_of_version_1() -> None:
    query = (("security-token", TOKEN),)
    text = string_to_sign_v1("GET", BUCKET, "dir one/a+b.bin", query, {}, "1741965566")
    assert signature_v1(SECRET, text) == "bnQ6sB2XcS++PA5SYMIDZE7KwYc="


# --- what is encoded, and how

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
pairs = st.lists(st.tuples(st.text("abAB-_./+ %=&é", min_size=1, max_size=5), texts), max_size=5)


@given(texts)
def test_an_encoded_key_is_one_word_of_plain_ascii_that_decodes_to_the_key(key: str) -> None:
    encoded = encode_key(key)
    assert set(encoded) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~/%")
    assert unquote(encoded, errors="strict") == key
    assert encoded.count("/") == key.count("/")


@given(pairs)
def test_an_encoded_query_is_sorted_and_decodes_to_the_query(query: list[tuple[str, str]]) -> None:
    encoded = encode_query(query)
    split = [part.partition("=")[::2] for part in encoded.split("&")] if encoded else []
    assert sorted(split) == split
    assert sorted((unquote_plus(name), unquote_plus(value)) for name, value in split) == sorted(query)
    assert encoded == encode_query(reversed(query))
    assert "/" not in encoded
    assert "+" not in encoded


def test_a_parameter_without_value_has_no_equals_sign() -> None:
    assert encode_query([("uploads", ""), ("a", "b")]) == "a=b&uploads"


def test_parameters_are_sorted_by_their_encoded_names() -> None:
    # "-" comes before "=" but not before the end of a name
    assert encode_query([("a-b", "1"), ("a", "2"), ("ä", "3")]) == "%C3%A4=3&a=2&a-b=1"


def test_times_are_written_in_english_whatever_the_locale() -> None:
    assert http_date(EPOCH) == HTTP_DATE
    assert signing.oss_date(EPOCH) == DATE
    assert http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT"


# --- the fast signer and the plain functions agree

header_names = st.sampled_from(
    ["Range", "x-oss-range-behavior", "X-OSS-Meta-A", "Content-Type", "Content-MD5", "Host", "If-Match", "x-oss-acl"]
)
header_values = st.text("abc 123;=/+", max_size=12)
requests = st.builds(
    Request,
    operation=st.just("Any"),
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
    bucket=st.sampled_from(["", "bucket"]),
    key=texts,
    query=pairs.map(tuple),
    headers=st.dictionaries(header_names, header_values, max_size=4).map(lambda found: tuple(found.items())),
)


@given(
    st.lists(requests, min_size=1, max_size=4),
    st.sampled_from([PLAIN, TEMPORARY]),
    st.sampled_from([(), ("host", "Range"), ("If-Match", "x-oss-acl", "content-type")]),
    st.lists(st.integers(0, 2**33), min_size=1, max_size=3),
)
def test_the_signer_gives_what_the_functions_give(
    sent: list[Request], credentials: Credentials, additional: tuple[str, ...], times: list[int]
) -> None:
    signer = V4Signer(credentials, "cn-test", additional=additional)
    for epoch in times:
        for request in (*sent, *sent):
            added = dict(signer.sign(request, epoch))
            parsed = parse_authorization(added.pop("authorization"))
            headers = {name.lower(): value for name, value in request.headers} | added
            tail = canonical_tail(headers, parsed.additional)
            canonical = canonical_request_v4(request.method, request.bucket, request.key, request.query, tail)
            text = string_to_sign_v4(canonical, timestamp=added["x-oss-date"], scope=parsed.scope)
            assert added["x-oss-date"] == signing.oss_date(epoch)
            assert parsed.day == added["x-oss-date"][:8]
            assert parsed.signature == signature_of(text, derive_key_v4(SECRET, parsed.day, "cn-test"))


def test_the_signer_remembers_a_bounded_number_of_header_sets() -> None:
    signer = V4Signer(PLAIN, "cn-test")
    for number in range(signer.MAX_TAILS + 10):
        signer.sign(Request("Any", "PUT", "b", "k", headers=(("content-md5", str(number)),)), EPOCH)
    assert len(signer._moment.tails) == signer.MAX_TAILS


def test_a_cloud_box_is_a_product_of_its_own() -> None:
    authorization = dict(V4Signer(PLAIN, "cb-1", "oss-cloudbox").sign(V4["A"].request, EPOCH))["authorization"]
    parsed = parse_authorization(authorization)
    assert (parsed.region, parsed.product) == ("cb-1", "oss-cloudbox")


def test_no_secret_shows_in_a_signer() -> None:
    for signer in (V4Signer(TEMPORARY, "cn-test"), V1Signer(TEMPORARY)):
        assert SECRET not in repr(signer)
        assert SECRET not in repr(signer.sign(PART, EPOCH))


# --- what a server reads


@pytest.mark.parametrize(
    "text",
    [
        "OSS4-HMAC-SHA256 Credential=AK/20250314/cn/oss/aliyun_v4_request, Signature=ab, AdditionalHeaders=host;range",
        "OSS4-HMAC-SHA256 Credential=AK/20250314/cn/oss/aliyun_v4_request,AdditionalHeaders=host;range,Signature=ab",
        "OSS4-HMAC-SHA256 AdditionalHeaders= Host;Range ,Signature =ab,Credential=AK/20250314/cn/oss/aliyun_v4_request",
    ],
)
def test_the_sdks_ways_of_writing_an_authorization(text: str) -> None:
    parsed = parse_authorization(text)
    assert parsed == ParsedAuthorization("v4", "AK", "ab", "20250314", "cn", "oss", ("host", "range"))
    assert parsed.scope == "20250314/cn/oss/aliyun_v4_request"


def test_a_key_id_may_hold_slashes_and_colons() -> None:
    text = "OSS4-HMAC-SHA256 Credential=STS.a/b:c/20250314/cn/oss/aliyun_v4_request,Signature=ab"
    assert parse_authorization(text).access_key_id == "STS.a/b:c"
    assert parse_authorization("OSS a:b:sig=").access_key_id == "a:b"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "OSS",
        "OSS AK",
        "OSS :sig",
        "OSS AK:",
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        "OSS4-HMAC-SHA256",
        "OSS4-HMAC-SHA256 Signature=ab",
        "OSS4-HMAC-SHA256 Credential=AK/20250314/cn/oss/aliyun_v4_request",
        "OSS4-HMAC-SHA256 Credential=AK/20250314/cn/oss/aliyun_v4_request,Signature=",
        "OSS4-HMAC-SHA256 Credential=AK/20250314/cn/oss/aws4_request,Signature=ab",
        "OSS4-HMAC-SHA256 Credential=AK/cn/oss/aliyun_v4_request,Signature=ab",
        "OSS4-HMAC-SHA256 Credential=/20250314/cn/oss/aliyun_v4_request,Signature=ab",
    ],
)
def test_what_is_no_authorization(text: str) -> None:
    with pytest.raises(ValueError, match=r"Authorization|algorithm|credential"):
        parse_authorization(text)


@given(st.text(max_size=100).map(lambda text: "OSS4-HMAC-SHA256 " + text) | st.text(max_size=100))
def test_any_text_is_an_authorization_or_a_value_error(text: str) -> None:
    try:
        parsed = parse_authorization(text)
    except ValueError:
        return
    assert parsed.version in ("v1", "v4")
    assert parsed.access_key_id
    assert parsed.signature
