"""What STS is sent and what is taken from its answers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from urllib.parse import parse_qsl, quote

import pytest

from osstorchconnector.credentials import Credentials, Role
from osstorchconnector.credentials.sts import assume_role, assume_role_with_oidc, sts_credentials
from osstorchconnector.errors import OssCredentialsError
from osstorchconnector.redaction import Secret, SecretBytes

ARN = "acs:ram::1234567890123456:role/training"
KEY = Credentials(access_key_id="LTAI", access_key_secret="CANARY-SECRET")
SESSION = Credentials(access_key_id="STS.1", access_key_secret="CANARY-SECRET", security_token="CANARY+TOKEN/=")
MOMENT = 1722611045.9


def fields(text: str | bytes) -> dict[str, str]:
    return dict(parse_qsl(text.decode() if isinstance(text, bytes) else text, strict_parsing=True))


@pytest.mark.parametrize("credentials", [KEY, SESSION])
def test_a_role_is_assumed_with_a_signed_request(credentials: Credentials) -> None:
    role = Role(arn=ARN, session_name="a b", external_id="x/y", policy='{"Version": "1"}')
    request = assume_role(role, credentials, nonce="n-1", epoch_seconds=MOMENT)
    query, form = fields(request.query), fields(request.body)
    signature = query.pop("Signature")
    assert query == {
        "Action": "AssumeRole",
        "Format": "JSON",
        "Version": "2015-04-01",
        "Timestamp": "2024-08-02T15:04:05Z",
        "SignatureNonce": "n-1",
        "AccessKeyId": credentials.access_key_id,
        "SignatureMethod": "HMAC-SHA1",
        "SignatureVersion": "1.0",
    }
    token = {"SecurityToken": credentials.security_token} if credentials.security_token else {}
    assert form == {
        "RoleArn": ARN,
        "RoleSessionName": "a b",
        "DurationSeconds": "3600",
        "ExternalId": "x/y",
        "Policy": '{"Version": "1"}',
        **token,
    }
    # The signature of an RPC API, spelled out: names in order, both sides percent-encoded, then all of it once more.
    pairs = "&".join(f"{quote(n, safe='~')}={quote(v, safe='~')}" for n, v in sorted({**query, **form}.items()))
    text = f"POST&%2F&{quote(pairs, safe='~')}"
    expected = base64.b64encode(hmac.new(b"CANARY-SECRET&", text.encode(), hashlib.sha1).digest()).decode()
    assert signature == expected


def test_a_token_of_an_oidc_provider_goes_unsigned_and_in_the_form() -> None:
    request = assume_role_with_oidc(
        Role(arn=ARN), "acs:ram::1:oidc-provider/ack", Secret("CANARY-TOKEN"), nonce="n", epoch_seconds=MOMENT
    )
    assert "CANARY" not in request.query
    assert "CANARY" not in repr(request.body)
    assert fields(request.query)["Action"] == "AssumeRoleWithOIDC"
    assert "Signature" not in fields(request.query)
    assert fields(request.body) == {
        "RoleArn": ARN,
        "RoleSessionName": "osstorchconnector",
        "DurationSeconds": "3600",
        "OIDCProviderArn": "acs:ram::1:oidc-provider/ack",
        "OIDCToken": "CANARY-TOKEN",
    }


@pytest.mark.parametrize(
    ("settings", "endpoint"),
    [
        ({}, "https://sts.aliyuncs.com/"),
        ({"sts_region": "cn-beijing"}, "https://sts.cn-beijing.aliyuncs.com/"),
        ({"sts_region": "cn-beijing", "vpc": True}, "https://sts-vpc.cn-beijing.aliyuncs.com/"),
        ({"sts_endpoint": "https://sts.example.com/"}, "https://sts.example.com/"),
    ],
)
def test_the_endpoint_follows_the_settings(settings: dict[str, object], endpoint: str) -> None:
    assert Role(arn=ARN, **settings).endpoint() == endpoint  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"arn": "training"}, "the ARN of a role is like acs:ram"),
        ({"arn": ARN, "session_seconds": 60}, "a session of a role takes 900 to 43200 seconds, not 60"),
        ({"arn": ARN, "session_seconds": 90000}, "not 90000"),
    ],
)
def test_a_wrong_role_is_refused_before_anything_is_sent(settings: dict[str, object], complaint: str) -> None:
    with pytest.raises(OssCredentialsError, match=complaint):
        Role(**settings)  # type: ignore[arg-type]


def test_credentials_are_read_from_an_answer() -> None:
    inner = {"AccessKeyId": "STS.1", "AccessKeySecret": "s", "SecurityToken": "t", "Expiration": "2024-08-02T15:04:05Z"}
    body = SecretBytes(json.dumps({"Credentials": inner, "RequestId": "R"}).encode())
    assert sts_credentials(200, body) == Credentials(
        access_key_id="STS.1", access_key_secret="s", security_token="t", expires_at=1722611045
    )


@pytest.mark.parametrize(
    ("status", "body", "complaint"),
    [
        (
            403,
            b'{"Code": "NoPermission", "RequestId": "R-1", "Message": "m"}',
            "answered NoPermission (HTTP status 403, request id R-1)",
        ),
        (500, b"<html>", "answered HTTP status 500"),
        (500, b"[]", "answered HTTP status 500"),
        (200, b"<html>", "gave an answer that is not valid JSON"),
        (200, b"[]", "gave an answer that is must hold a JSON object"),
        (200, b"{}", "gave an answer without Credentials"),
        (200, b'{"Credentials": {"AccessKeyId": "a"}}', "gave credentials whose AccessKeySecret is missing or empty"),
    ],
)
def test_any_other_answer_is_named_and_not_shown(status: int, body: bytes, complaint: str) -> None:
    outcome = sts_credentials(status, SecretBytes(body))
    assert isinstance(outcome, str)
    assert outcome.startswith(complaint)
