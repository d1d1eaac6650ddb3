"""Signatures as the verifying side sees them; the vectors were made with oss2's signer under a frozen clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from osstorchconnector.credentials import Credentials
from osstorchconnector.emulator.auth import Keyring, Rules, authenticate, is_signed
from osstorchconnector.emulator.exchange import Call
from osstorchconnector.emulator.refusals import Refused
from osstorchconnector.protocol import signing
from osstorchconnector.protocol.repeats import CommonHead
from osstorchconnector.protocol.values import Pairs, Request

KEY_ID, SECRET = "LTAI5tTESTACCESSKEYID", "tEsTaCcEsSkEySeCrEt0123456789AB"
TOKEN = "CAISTESTtoken/with+plus=and/slash=="
NOW = 1741964966
UKEY = "dir one/a+b 数据~\u00e9.bin"
PLAIN = Credentials(access_key_id=KEY_ID, access_key_secret=SECRET)
STS = replace(PLAIN, security_token=TOKEN)
SCOPE = "20250314/cn-hangzhou/oss/aliyun_v4_request"
V4_HEADERS = {"x-oss-content-sha256": "UNSIGNED-PAYLOAD", "x-oss-date": "20250314T150926Z"}
V1_DATE = {"date": "Fri, 14 Mar 2025 15:09:26 GMT"}
PART_QUERY = [("partNumber", "3"), ("uploadId", "0004B9B2D2F7815C432C9057C03134D4")]
PART_HEADERS = {
    "content-type": "application/octet-stream",
    "content-md5": "1B2M2Y8AsgTpgAmY7PhCfg==",
    "x-oss-security-token": TOKEN,
}
LIST_QUERY = [
    ("list-type", "2"),
    ("prefix", "train/数 据+/"),
    ("delimiter", "/"),
    ("continuation-token", "CgJ0cg--"),
    ("max-keys", "1000"),
    ("encoding-type", "url"),
]
PRESIGNED_V4 = [
    ("x-oss-signature-version", "OSS4-HMAC-SHA256"),
    ("x-oss-credential", f"{KEY_ID}/{SCOPE}"),
    ("x-oss-date", "20250314T150926Z"),
    ("x-oss-expires", "600"),
    ("x-oss-security-token", TOKEN),
    ("x-oss-signature", "e8dd9e666bbe1643f93bb844b71e6b6d8f0234640595b585e8b8f3fa149396ed"),
]
PRESIGNED_V1 = [
    ("OSSAccessKeyId", KEY_ID),
    ("Expires", "1741965566"),
    ("Signature", "bnQ6sB2XcS++PA5SYMIDZE7KwYc="),
    ("security-token", TOKEN),
]


def v4(signature: str, additional: str = "", scope: str = SCOPE) -> dict[str, str]:
    listed = f", AdditionalHeaders={additional}" if additional else ""
    value = f"OSS4-HMAC-SHA256 Credential={KEY_ID}/{scope}, Signature={signature}{listed}"
    return {**V4_HEADERS, "authorization": value}


def v1(signature: str) -> dict[str, str]:
    return {**V1_DATE, "authorization": f"OSS {KEY_ID}:{signature}"}


def call(method: str, key: str = "", query: Pairs | list[tuple[str, str]] = (), **headers: str) -> Call:
    return Call("", method, "example-bucket", key, list(query), headers)


V4_A = call(
    "GET",
    UKEY,
    [],
    range="bytes=0-1048575",
    **v4("78f747bfac3eb37b3f7137ae80225778d5bd37394ce07a8253f2f18aa86db3fe", "range"),
)
V1_A = call(
    "GET",
    UKEY,
    [("versionId", "CAEQMhiBgIDXiaaB0BYiIGQz"), ("foo", "bar")],
    **v1("OLkVGcumZ8hKHzbxaGDq4mfuJJA="),
    range="bytes=0-1",
)
VECTORS = [
    (PLAIN, V4_A),
    (
        STS,
        call(
            "PUT",
            "ckpt/step-10/__0_0.distcp",
            PART_QUERY,
            **PART_HEADERS,
            **v4("17f862a5a85fb48eb9ce5b30c582a4372cc5ee995003a7bae5a4a80a0eeef1e6"),
        ),
    ),
    (
        PLAIN,
        call(
            "GET",
            "",
            [*LIST_QUERY, ("start-after", ""), ("fetch-owner", "false")],
            **v4("5b770cd7a3127d98352a0a66069002c1fabfff0cce8019e3729a75792cd4ecb1"),
        ),
    ),
    (
        PLAIN,
        call(
            "PUT",
            "w/part",
            [("partNumber", "1"), ("uploadId", "ABC")],
            **{"host": "example-bucket.oss-cn-hangzhou.aliyuncs.com", "content-length": "500"},
            **v4("a60a2f7cf6dcd29300629349eec0914815140f6e94162d2bf99b16395fdc7bf5", "content-length;host"),
        ),
    ),
    (STS, call("GET", "dir one/a+b.bin", PRESIGNED_V4)),
    (PLAIN, V1_A),
    (STS, call("PUT", "ckpt/step-10/__0_0.distcp", PART_QUERY, **PART_HEADERS, **v1("Jc6crwIaI15L8/nBnQDidtDdD14="))),
    (PLAIN, call("GET", "", LIST_QUERY, **v1("iRhNaUaFbSzfE1kduyeIR99yGaY="))),
    (STS, call("GET", "dir one/a+b.bin", PRESIGNED_V1)),
]


def check(
    asked: Call, credentials: Credentials = PLAIN, *, now: float = NOW, region: str = "cn-hangzhou", v1: bool = True
) -> Credentials:
    assert is_signed(asked)
    return authenticate(asked, Keyring(credentials), Rules(region, ("v1", "v4") if v1 else ("v4",)), now)


def refusal(asked: Call, credentials: Credentials = PLAIN, *, now: float = NOW, v1: bool = True) -> Refused:
    with pytest.raises(Refused) as caught:
        check(asked, credentials, now=now, v1=v1)
    return caught.value


@pytest.mark.parametrize(("credentials", "asked"), VECTORS)
def test_a_right_signature_is_accepted(credentials: Credentials, asked: Call) -> None:
    assert check(asked, credentials) is credentials


@pytest.mark.parametrize(("credentials", "asked"), VECTORS)
def test_a_wrong_secret_key_method_or_bucket_is_refused(credentials: Credentials, asked: Call) -> None:
    wrong_secret = replace(credentials, access_key_secret="other")
    assert refusal(asked, wrong_secret).code == "SignatureDoesNotMatch"
    for changed in (replace(asked, key="other"), replace(asked, method="DELETE"), replace(asked, bucket="other")):
        assert refusal(changed, credentials).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize(("credentials", "asked"), VECTORS)
def test_a_key_id_that_is_not_known_is_refused(credentials: Credentials, asked: Call) -> None:
    assert refusal(asked, replace(credentials, access_key_id="other")).code == "InvalidAccessKeyId"


def with_headers(asked: Call, **headers: str) -> Call:
    return replace(asked, headers={**asked.headers, **{n.replace("_", "-"): v for n, v in headers.items()}})


def with_query(asked: Call, **values: str) -> Call:
    return replace(asked, query=[(name, values.get(name.replace("-", "_"), value)) for name, value in asked.query])


def test_a_signed_header_must_not_change_and_an_unsigned_one_may() -> None:
    assert refusal(with_headers(V4_A, range="bytes=0-1")).code == "SignatureDoesNotMatch"
    assert refusal(with_headers(V4_A, x_oss_meta_a="b")).code == "SignatureDoesNotMatch"
    assert check(with_headers(V4_A, accept="*/*")) is PLAIN
    assert check(with_headers(V1_A, range="bytes=5-6")) is PLAIN


def test_the_refusal_shows_what_was_signed_and_no_secret() -> None:
    refused = refusal(VECTORS[6][1], replace(STS, access_key_secret="other-secret"))
    assert refused.extras["StringToSign"].startswith("PUT\n1B2M2Y8AsgTpgAmY7PhCfg==\n")
    assert refused.extras["SignatureProvided"] == "Jc6crwIaI15L8/nBnQDidtDdD14="
    refused_v4 = refusal(VECTORS[1][1], replace(STS, access_key_secret="other-secret"))
    assert refused_v4.extras["CanonicalRequest"].startswith("PUT\n/example-bucket/ckpt/step-10/__0_0.distcp\n")
    for shown in (refused, refused_v4):
        assert TOKEN not in str(shown.extras)
        assert "other-secret" not in str(shown.extras)


@pytest.mark.parametrize("asked", [V4_A, V1_A])
@pytest.mark.parametrize("skew", [-901, 901, 10**9])
def test_a_clock_that_is_off_by_more_than_a_quarter_of_an_hour_is_refused(asked: Call, skew: int) -> None:
    refused = refusal(asked, now=NOW + skew)
    assert refused.code == "RequestTimeTooSkewed"
    assert refused.extras["RequestTime"] == "20250314T150926Z"
    assert check(asked, now=NOW + (900 if skew > 0 else -900)) is PLAIN


@pytest.mark.parametrize("date", ["", "yesterday", "20250314T150926", "20251314T150926Z", "2025031xT150926Z"])
def test_a_date_that_is_none_is_refused(date: str) -> None:
    assert refusal(with_headers(V4_A, x_oss_date=date)).code in ("AccessDenied", "RequestTimeTooSkewed")
    assert refusal(with_headers(V1_A, date=date)).code in ("AccessDenied", "RequestTimeTooSkewed")


def test_version_4_takes_the_date_header_where_there_is_no_other() -> None:
    request = Request("", "GET", "example-bucket", "k")
    headers = {"x-oss-content-sha256": "UNSIGNED-PAYLOAD", **V1_DATE}
    canonical = signing.canonical_request_v4("GET", "example-bucket", "k", (), signing.canonical_tail(headers, ()))
    key = signing.derive_key_v4(SECRET, "20250314", "cn-hangzhou")
    moment = signing.Moment(NOW, "20250314T150926Z", "", SCOPE, key)
    headers["authorization"] = v4(moment.signature(canonical))["authorization"]
    assert check(Call("", "GET", request.bucket, request.key, [], headers)) is PLAIN


@pytest.mark.parametrize(
    "scope",
    [
        "20250314/cn-beijing/oss/aliyun_v4_request",
        "20250314/oss-cn-hangzhou/oss/aliyun_v4_request",
        "20250314/cn-hangzhou/s3/aliyun_v4_request",
        "20250313/cn-hangzhou/oss/aliyun_v4_request",
    ],
)
def test_another_scope_is_refused(scope: str) -> None:
    refused = refusal(with_headers(V4_A, authorization=v4("0" * 64, scope=scope)["authorization"]))
    assert (refused.status, refused.code) == (400, "InvalidArgument")


@pytest.mark.parametrize("authorization", ["", "Basic abc", "OSS nothing", "OSS4-HMAC-SHA256 Credential=a/b"])
def test_an_authorization_that_is_none_is_refused(authorization: str) -> None:
    assert refusal(with_headers(V4_A, authorization=authorization)).code == "InvalidArgument"


def test_only_an_unsigned_payload_is_accepted() -> None:
    refused = refusal(with_headers(V4_A, x_oss_content_sha256="e3b0c442"))
    assert (refused.code, refused.extras["ArgumentValue"]) == ("InvalidArgument", "e3b0c442")


@pytest.mark.parametrize("index", [1, 4, 6, 8])
def test_a_token_belongs_to_its_key(index: int) -> None:
    credentials, asked = VECTORS[index]
    assert refusal(asked, replace(credentials, security_token="another")).code == "InvalidSecurityToken"
    assert refusal(asked, PLAIN).code == "InvalidSecurityToken"
    assert refusal(asked, replace(credentials, expires_at=NOW)).code == "SecurityTokenExpired"
    assert check(asked, replace(credentials, expires_at=NOW + 1)).security_token == TOKEN


def test_a_key_that_has_a_token_is_unknown_without_it() -> None:
    assert refusal(V4_A, STS).code == "InvalidAccessKeyId"


def test_version_1_can_be_switched_off() -> None:
    assert refusal(V1_A, v1=False).ec == "0002-00000080"
    assert refusal(VECTORS[8][1], STS, v1=False).ec == "0002-00000080"
    assert check(V4_A, v1=False) is PLAIN


V4_P, V1_P = VECTORS[4][1], VECTORS[8][1]


def test_a_presigned_url_is_good_until_it_expires() -> None:
    for asked in (V4_P, V1_P):
        assert check(asked, STS, now=NOW + 600) is STS
        assert refusal(asked, STS, now=NOW + 601).message == "Request has expired."
    assert refusal(V4_P, STS, now=NOW - 901).code == "RequestTimeTooSkewed"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x_oss_expires", "0"),
        ("x_oss_expires", "604801"),
        ("x_oss_expires", "soon"),
        ("x_oss_credential", "only-an-id"),
        ("x_oss_signature", ""),
        ("x_oss_signature_version", "OSS5"),
    ],
)
def test_a_presigned_url_with_nonsense_in_it_is_refused(name: str, value: str) -> None:
    assert refusal(with_query(V4_P, **{name: value}), STS).code == "InvalidArgument"


def test_a_presigned_url_of_version_1_needs_a_number_as_its_end() -> None:
    assert refusal(with_query(V1_P, Expires="never"), STS).code == "InvalidArgument"


def test_a_request_that_is_not_signed_is_nobodys() -> None:
    asked = call("GET", "k")
    assert not is_signed(asked)
    with pytest.raises(Refused, match="AccessDenied"):
        authenticate(asked, Keyring(PLAIN), Rules("cn-hangzhou", ("v1", "v4")), NOW)


def test_keys_come_and_go() -> None:
    keyring = Keyring(PLAIN)
    keyring.remove(KEY_ID)
    keyring.remove("never there")
    assert keyring.all() == []
    keyring.add(STS)
    assert keyring.find(KEY_ID, TOKEN, NOW) is STS


# --- requests with a common head

RULES = Rules("cn-hangzhou", ("v1", "v4"))


def alike(signature: str, common: CommonHead | None = None) -> Call:
    return replace(
        V4_A, headers={**V4_A.headers, "authorization": v4(signature, "range")["authorization"]}, common=common
    )


def test_a_repeated_head_is_judged_as_if_it_were_the_first() -> None:
    common = CommonHead(V4_A.headers, 0, chunked=False, keep_alive=True, expect_continue=False)
    good, wrong = replace(V4_A, common=common), alike("0" * 64, common)
    keyring = Keyring(PLAIN)
    for _ in range(3):
        assert authenticate(good, keyring, RULES, NOW) == PLAIN
        for call in (wrong, replace(good, key="other"), replace(good, query=[("acl", "")])):
            with pytest.raises(Refused) as alone:
                authenticate(replace(call, common=None), Keyring(PLAIN), RULES, NOW)
            with pytest.raises(Refused) as repeated:
                authenticate(call, keyring, RULES, NOW)
            assert (repeated.value.code, repeated.value.extras) == (alone.value.code, alone.value.extras)
    with pytest.raises(Refused, match="RequestTimeTooSkewed"):
        authenticate(good, keyring, RULES, NOW + 1000)
    with pytest.raises(Refused, match="InvalidArgument"):
        authenticate(good, keyring, Rules("cn-other", ("v1", "v4")), NOW)
    keyring.add(replace(PLAIN, access_key_secret="another"))
    with pytest.raises(Refused, match="SignatureDoesNotMatch"):
        authenticate(good, keyring, RULES, NOW)
    keyring.add(replace(PLAIN, expires_at=NOW + 10))
    assert authenticate(good, keyring, RULES, NOW)
    with pytest.raises(Refused, match="SecurityTokenExpired"):
        authenticate(good, keyring, RULES, NOW + 20)
    keyring.remove(KEY_ID)
    with pytest.raises(Refused, match="InvalidAccessKeyId"):
        authenticate(good, keyring, RULES, NOW)


def test_the_proofs_of_repeated_heads_are_limited() -> None:
    keyring = Keyring(PLAIN)
    for _ in range(Keyring.MAX_PROOFS + 1):
        common = CommonHead(V4_A.headers, 0, chunked=False, keep_alive=True, expect_continue=False)
        authenticate(replace(V4_A, common=common), keyring, RULES, NOW)
    assert len(keyring.proofs) == 1
