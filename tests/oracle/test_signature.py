"""The oracle's signatures, held to vectors that oss2's signer made under a frozen clock."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from oracle import signature
from oracle.messages import Account, OssRequest, Refusal

IDENTITY, SECRET = "LTAI5tTESTACCESSKEYID", "tEsTaCcEsSkEySeCrEt0123456789AB"
TOKEN = "CAISTESTtoken/with+plus=and/slash=="
BUCKET, REGION = "example-bucket", "cn-hangzhou"
TIMESTAMP, DATE, EPOCH = "20250314T150926Z", "Fri, 14 Mar 2025 15:09:26 GMT", 1741964966
KEY = "dir one/a+b 数据~\xe9.bin"
PART = {"partNumber": "3", "uploadId": "0004B9B2D2F7815C432C9057C03134D4"}
PART_HEADERS = {
    "content-type": "application/octet-stream",
    "content-md5": "1B2M2Y8AsgTpgAmY7PhCfg==",
    "x-oss-security-token": TOKEN,
}
LISTING = {
    "list-type": "2",
    "prefix": "train/数 据+/",
    "delimiter": "/",
    "continuation-token": "CgJ0cg--",
    "max-keys": "1000",
    "encoding-type": "url",
}


class V4(NamedTuple):
    method: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    additional: list[str]
    region: str
    expected: str


V4_VECTORS = {
    "a range of a hostile key": V4(
        "GET", KEY, {}, {"range": "bytes=0-1048575"}, ["range"], REGION,
        "78f747bfac3eb37b3f7137ae80225778d5bd37394ce07a8253f2f18aa86db3fe",
    ),
    "a part, with a token": V4(
        "PUT", "ckpt/step-10/__0_0.distcp", PART, PART_HEADERS, [], REGION,
        "17f862a5a85fb48eb9ce5b30c582a4372cc5ee995003a7bae5a4a80a0eeef1e6",
    ),
    "a listing with an empty parameter": V4(
        "GET", "", {**LISTING, "start-after": "", "fetch-owner": "false"}, {}, [], REGION,
        "5b770cd7a3127d98352a0a66069002c1fabfff0cce8019e3729a75792cd4ecb1",
    ),
    "the beginning of an upload": V4(
        "POST", "a.bin", {"uploads": ""}, {"content-type": "application/octet-stream", "x-oss-storage-class": "IA"},
        [], "ap-southeast-1", "83c39c4c2574b07d84c78c81a01135bb5b2aeb8916dfc1bf43fcc1d1fb4482a2",
    ),
    "a part as the C++ connector signs it": V4(
        "PUT", "w/part", {"partNumber": "1", "uploadId": "ABC"},
        {"host": "example-bucket.oss-cn-hangzhou.aliyuncs.com", "content-length": "500"}, ["host", "content-length"],
        REGION, "a60a2f7cf6dcd29300629349eec0914815140f6e94162d2bf99b16395fdc7bf5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("vector", V4_VECTORS.values(), ids=V4_VECTORS)
def test_v4_agrees_with_the_vectors(vector: V4) -> None:
    headers = {**vector.headers, "x-oss-date": TIMESTAMP, "x-oss-content-sha256": "UNSIGNED-PAYLOAD"}
    request = OssRequest(vector.method, BUCKET, vector.key, vector.query, headers)
    canonical = signature.canonical_request_v4(request, vector.additional)
    assert signature.signature_v4(SECRET, canonical, TIMESTAMP, vector.region) == vector.expected


def test_v4_agrees_with_the_vector_of_a_presigned_url() -> None:
    query = {
        "x-oss-signature-version": "OSS4-HMAC-SHA256",
        "x-oss-credential": f"{IDENTITY}/20250314/cn-hangzhou/oss/aliyun_v4_request",
        "x-oss-date": TIMESTAMP,
        "x-oss-expires": "600",
        "x-oss-security-token": TOKEN,
        "x-oss-signature": "e8dd9e666bbe1643f93bb844b71e6b6d8f0234640595b585e8b8f3fa149396ed",
    }
    request = OssRequest("GET", BUCKET, "dir one/a+b.bin", query, {})
    account = Account(IDENTITY, SECRET, TOKEN)
    signature.check(request, [account], REGION, EPOCH + 599)
    with pytest.raises(Refusal, match="expired"):
        signature.check(request, [account], REGION, EPOCH + 601)


class V1(NamedTuple):
    method: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    expected: str


V1_VECTORS = {
    "a version of a hostile key": V1(
        "GET", KEY, {"versionId": "CAEQMhiBgIDXiaaB0BYiIGQz", "foo": "bar"}, {"range": "bytes=0-1"},
        "OLkVGcumZ8hKHzbxaGDq4mfuJJA=",
    ),
    "a part, with a token": V1(
        "PUT", "ckpt/step-10/__0_0.distcp", PART, PART_HEADERS, "Jc6crwIaI15L8/nBnQDidtDdD14="
    ),
    "a listing": V1("GET", "", LISTING, {}, "iRhNaUaFbSzfE1kduyeIR99yGaY="),
}  # fmt: skip


@pytest.mark.parametrize("vector", V1_VECTORS.values(), ids=V1_VECTORS)
def test_v1_agrees_with_the_vectors(vector: V1) -> None:
    request = OssRequest(vector.method, BUCKET, vector.key, vector.query, {**vector.headers, "date": DATE})
    assert signature.signature_v1(SECRET, signature.string_to_sign_v1(request, DATE)) == vector.expected


def test_v1_agrees_with_the_vector_of_a_presigned_url() -> None:
    query = {
        "OSSAccessKeyId": IDENTITY,
        "Expires": "1741965566",
        "security-token": TOKEN,
        "Signature": "bnQ6sB2XcS++PA5SYMIDZE7KwYc=",
    }
    request = OssRequest("GET", BUCKET, "dir one/a+b.bin", query, {})
    signature.check(request, [Account(IDENTITY, SECRET, TOKEN)], REGION, EPOCH)
