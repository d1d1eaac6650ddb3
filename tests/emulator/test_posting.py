"""PostObject: forms with a signed policy, as browsers send them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import math
import time
from typing import Any

import pytest
from emulator.driver import CREDENTIALS, Answer, Driver
from emulator.test_forms import encoded

from osstorchconnector.emulator.service import Policy, Service
from osstorchconnector.protocol.signing import derive_key_v4

SECRET = CREDENTIALS.access_key_secret
Fields = dict[str, str]
# Policies are made when tests are collected. On a slow machine they are sent much later.
DAY_SECONDS = 86_400


def refused(answer: Answer, status: int, code: str) -> bool:
    return (answer.status, answer.code) == (status, code)


def policy(*conditions: Any, lifetime_seconds: float = DAY_SECONDS) -> str:
    expiration = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() + lifetime_seconds))
    return base64.b64encode(json.dumps({"expiration": expiration, "conditions": conditions}).encode()).decode()


def signed_v1(*conditions: Any, lifetime_seconds: float = DAY_SECONDS, **fields: str) -> Fields:
    text = policy(*conditions, lifetime_seconds=lifetime_seconds)
    signature = base64.b64encode(hmac.new(SECRET.encode(), text.encode(), hashlib.sha1).digest()).decode()
    return {"key": "k", "policy": text, "OSSAccessKeyId": "key-id", "Signature": signature, **fields}


def signed_v4(*conditions: Any, region: str = "cn-test", begin: float | None = None, **fields: str) -> Fields:
    date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(begin))
    told = {
        "x-oss-signature-version": "OSS4-HMAC-SHA256",
        "x-oss-credential": f"key-id/{date[:8]}/{region}/oss/aliyun_v4_request",
        "x-oss-date": date,
    }
    text = policy(*({name: value} for name, value in told.items()), *conditions)
    key = derive_key_v4(SECRET, date[:8], region)
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return {"key": "k", **told, "policy": text, "x-oss-signature": signature, **fields}


SIGN = {"v1": signed_v1, "v4": signed_v4}


def post(send: Driver, fields: Fields, data: bytes = b"from a form", *, bucket: str = "photos") -> Answer:
    body = encoded([*((name, value.encode()) for name, value in fields.items()), ("file", data)])
    headers = [("content-type", "multipart/form-data; boundary=--xyz")]
    return send("POST", bucket, body=body, headers=headers, is_signed=False)


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_a_form_with_a_signed_policy_is_stored(send: Driver, version: str) -> None:
    fields = SIGN[version]({"bucket": "photos"}, ["eq", "$key", "dir/é"], key="dir/é")
    fields |= {"x-oss-meta-a": "b", "x-oss-object-acl": "public-read", "Content-Disposition": "inline"}
    answer = post(send, fields)
    assert (answer.status, answer.body) == (204, b"")
    stored = send("GET", "photos", "dir/é", is_signed=False)
    assert stored.body == b"from a form"
    assert stored.headers["etag"] == answer.headers["etag"]
    assert stored.headers["content-type"] == "text/plain"
    assert stored.headers["x-oss-meta-a"] == "b"
    assert stored.headers["content-disposition"] == "inline"


def test_the_key_may_have_the_files_name(send: Driver) -> None:
    post(send, signed_v1(key="up/${filename}"))
    assert send("GET", "photos", "up/a.txt").status == 200


@pytest.mark.parametrize(("wanted", "status"), [("200", 200), ("204", 204), ("201", 201), ("500", 204)])
def test_the_form_chooses_its_answer(send: Driver, wanted: str, status: int) -> None:
    answer = post(send, signed_v1(success_action_status=wanted))
    assert answer.status == status
    if status == 201:
        assert answer.xml.tag == "PostResponse"
        assert [answer.texts(name) for name in ("Bucket", "Key")] == [["photos"], ["k"]]
        assert answer.texts("ETag") == [answer.headers["etag"]]


def test_a_form_may_lead_to_another_page(send: Driver) -> None:
    answer = post(send, signed_v1(success_action_redirect="http://example.com/done?a=b"))
    assert answer.status == 303
    assert answer.headers["location"].startswith("http://example.com/done?a=b&bucket=photos&key=k&etag=%22")


@pytest.mark.parametrize("version", ["v1", "v4"])
@pytest.mark.parametrize(
    "condition",
    [
        {"bucket": "other-one"},
        {"key": "other"},
        ["eq", "$key", "other"],
        ["starts-with", "$key", "up/"],
        ["in", "$content-type", ["image/png"]],
        ["not-in", "$key", ["k", "l"]],
        ["eq", "success_action_status", "200"],
    ],
)
def test_a_form_that_its_policy_does_not_allow_stores_nothing(send: Driver, version: str, condition: Any) -> None:
    answer = post(send, SIGN[version](condition))
    assert refused(answer, 403, "AccessDenied")
    assert answer.texts("Message")[0].startswith("Invalid according to Policy: Policy Condition failed: [")
    assert send("GET", "photos", "k").status == 404


@pytest.mark.parametrize(
    "condition",
    [
        {"bucket": "photos"},
        ["starts-with", "$key", ""],
        ["in", "$key", ["j", "k"]],
        ["not-in", "$content-type", ["image/png"]],
        ["content-length-range", 11, 11],
        ["content-length-range", "0", "1000"],
    ],
)
def test_a_form_that_its_policy_allows_is_stored(send: Driver, condition: Any) -> None:
    assert post(send, signed_v1(condition)).status == 204


@pytest.mark.parametrize(("least", "most", "code"), [(12, 20, "EntityTooSmall"), (0, 10, "EntityTooLarge")])
def test_a_policy_limits_the_size(send: Driver, least: int, most: int, code: str) -> None:
    assert refused(post(send, signed_v1(["content-length-range", least, most])), 400, code)
    assert send("GET", "photos", "k").status == 404


@pytest.mark.parametrize("version", ["v1", "v4"])
def test_a_wrong_signature_stores_nothing(send: Driver, version: str) -> None:
    name = "Signature" if version == "v1" else "x-oss-signature"
    fields = SIGN[version]()
    assert refused(post(send, {**fields, name: "0" * len(fields[name])}), 403, "SignatureDoesNotMatch")
    assert refused(post(send, {**fields, "policy": policy({"key": "k"})}), 403, "SignatureDoesNotMatch")
    assert send("GET", "photos", "k").status == 404


def test_who_is_nobody_stores_nothing(send: Driver) -> None:
    assert refused(post(send, {"key": "k"}), 403, "AccessDenied")
    assert refused(post(send, signed_v1(OSSAccessKeyId="nobody")), 403, "InvalidAccessKeyId")
    assert refused(post(send, {**signed_v1(), "policy": ""}), 400, "InvalidArgument")
    assert refused(post(send, signed_v1(), bucket="nowhere"), 404, "NoSuchBucket")


def test_everybody_posts_to_a_bucket_that_everybody_may_write(send: Driver) -> None:
    send("PUT", "photos", query=[("acl", "")], headers=[("x-oss-acl", "public-read-write")])
    assert post(send, {"key": "k"}).status == 204
    assert refused(post(send, signed_v1(lifetime_seconds=-1)), 403, "AccessDenied")


def test_a_policy_that_has_expired_allows_nothing(send: Driver) -> None:
    answer = post(send, signed_v1(lifetime_seconds=-1))
    assert refused(answer, 403, "AccessDenied")
    assert answer.texts("Message") == ["Invalid according to Policy: Policy expired."]


@pytest.mark.parametrize(
    "text",
    [
        "not base64!",
        base64.b64encode(b"no json").decode(),
        base64.b64encode(b"[]").decode(),
        base64.b64encode(b'{"expiration": "tomorrow", "conditions": []}').decode(),
        policy(["$key"]),
        policy(["like", "$key", "k"]),
        policy(["content-length-range", "a", "b"]),
        policy(1),
        policy(["content-length-range", 0, math.inf]),
        base64.b64encode(b"[" * 3000).decode(),
    ],
    # A policy holds the time, and names of tests must be the same in all processes that collect them.
    ids=[
        "no base64",
        "no JSON",
        "no object",
        "no time",
        "too short",
        "too short a start",
        "no lengths",
        "no condition",
        "no end of lengths",
        "no end of brackets",
    ],
)
def test_a_policy_that_is_none_allows_nothing(send: Driver, text: str) -> None:
    signature = base64.b64encode(hmac.new(SECRET.encode(), text.encode(), hashlib.sha1).digest()).decode()
    answer = post(send, {**signed_v1(), "policy": text, "Signature": signature})
    assert refused(answer, 400, "InvalidPolicyDocument")


def test_a_form_of_version_4_is_for_its_region_and_time(send: Driver, service: Service) -> None:
    wrong = post(send, signed_v4(region="cn-other"))
    assert refused(wrong, 400, "InvalidArgument")
    assert wrong.texts("Message") == ["The signing region in credential is invalid."]
    assert refused(post(send, signed_v4(begin=time.time() + 3600)), 403, "RequestTimeTooSkewed")
    service.policy = Policy(accept_v1=False)
    assert refused(post(send, signed_v1()), 403, "AccessDenied")
    assert post(send, signed_v4()).status == 204


def test_the_policy_of_version_4_names_its_own_fields(send: Driver) -> None:
    fields = signed_v4()
    text = policy({"key": "k"})
    date = fields["x-oss-date"][:8]
    signature = hmac.new(derive_key_v4(SECRET, date, "cn-test"), text.encode(), hashlib.sha256).hexdigest()
    answer = post(send, {**fields, "policy": text, "x-oss-signature": signature})
    assert answer.texts("Message") == ["Invalid according to Policy: Extra input fields: x-oss-signature-version"]


@pytest.mark.parametrize(
    ("field", "status"),
    [
        (("callback", "e30="), 501),
        (("x-oss-no-such", "1"), 501),
        (("x-oss-object-acl", "mine"), 400),
        (("x-oss-storage-class", "Warm"), 400),
        (("key", "/k"), 400),
        (("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg=="), 400),
        (("x-oss-meta-a", "x" * 4000), 204),
    ],
)
def test_a_form_is_held_to_what_a_put_is_held_to(send: Driver, field: tuple[str, str], status: int) -> None:
    assert post(send, {**signed_v1(), field[0]: field[1]}).status == status


def test_a_form_spares_an_object_when_told(send: Driver) -> None:
    send("PUT", "photos", "k", body=b"what was there")
    assert refused(post(send, {**signed_v1(), "x-oss-forbid-overwrite": "true"}), 409, "FileAlreadyExists")
    assert send("GET", "photos", "k").body == b"what was there"


def test_a_post_without_a_form_is_told_so(send: Driver) -> None:
    assert refused(send("POST", "photos", body=b"x"), 400, "RequestIsNotMultiPartContent")


@pytest.mark.parametrize("name", ["x-oss-meta-a", "Content-Type", "Cache-Control", "success_action_redirect"])
@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\nb", "a\0b"])
def test_a_field_that_would_be_two_lines_of_a_head_is_refused_and_leaves_the_object(
    send: Driver, name: str, value: str
) -> None:
    send("PUT", "photos", "k", body=b"before")
    assert refused(post(send, signed_v1(**{name: value})), 400, "InvalidArgument")
    assert send("GET", "photos", "k").body == b"before"
