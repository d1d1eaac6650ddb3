"""PostObject: a form that a browser sends, allowed by a signed policy, stored as PutObject stores it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from calendar import timegm
from collections.abc import Mapping
from dataclasses import replace
from time import strptime
from typing import Any
from urllib.parse import urlencode

from ...protocol import signing
from ..auth import Keyring, Rules, check_begun, check_scope, check_version, claim_of, epoch_of, is_same
from ..documents import document, fields, url_encoded
from ..exchange import Call, Reply, xml_reply
from ..headers import refusal_of, unwanted
from ..intake import Received
from ..refusals import Refused, invalid_argument, not_implemented
from ..routing import check_names
from ..service import Service
from .objects import put_object

_V4_FIELDS = ("x-oss-signature-version", "x-oss-credential", "x-oss-date")


def is_signed_form(fields: Mapping[str, str]) -> bool:
    return any(name in fields for name in ("policy", "ossaccesskeyid", "signature", "x-oss-signature"))


def check_form(fields: Mapping[str, str], bucket: str, size: int, keyring: Keyring, rules: Rules, now: float) -> None:
    """Refuse a form without the signature of a known key, or one that its policy does not allow.

    `fields` have lower-case names; `size` is the file's.
    """
    policy = fields.get("policy", "")
    if not policy:
        raise invalid_argument("policy", "", "The policy field is missing.", ec="0002-00000702")
    if "x-oss-signature-version" in fields:
        _check_v4(fields, policy, keyring, rules, now)
    else:
        _check_v1(fields, policy, keyring, rules, now)
    document = _parsed(policy)
    if now >= _moment(document):
        raise _not_allowed("Policy expired.", "")
    named: set[str] = set()
    for condition in document["conditions"]:
        named.add(_check_condition(condition, {**fields, "bucket": bucket}, size))
    if "x-oss-signature-version" in fields:
        extra = [name for name in _V4_FIELDS if name not in named]
        if extra:
            raise _not_allowed(f"Extra input fields: {extra[0]}", "0006-00000228")


def _check_v1(fields: Mapping[str, str], policy: str, keyring: Keyring, rules: Rules, now: float) -> None:
    check_version("v1", rules)
    for name in ("ossaccesskeyid", "signature"):
        if not fields.get(name):
            raise invalid_argument(name, "", f"The field {name} is missing.")
    identity = keyring.find(fields["ossaccesskeyid"], fields.get("x-oss-security-token", ""), now)
    expected = signing.signature_v1(identity.access_key_secret, policy)
    if not is_same(fields["signature"], expected):
        raise Refused("SignatureDoesNotMatch", extras={"OSSAccessKeyId": identity.access_key_id})


def _check_v4(fields: Mapping[str, str], policy: str, keyring: Keyring, rules: Rules, now: float) -> None:
    check_version("v4", rules)
    if fields["x-oss-signature-version"] != signing.ALGORITHM_V4:
        raise invalid_argument(
            "x-oss-signature-version", fields["x-oss-signature-version"], "Unknown signature version."
        )
    claim = claim_of(fields.get("x-oss-credential", ""), fields.get("x-oss-signature", ""))
    timestamp = fields.get("x-oss-date", "")
    identity = keyring.find(claim.access_key_id, fields.get("x-oss-security-token", ""), now)
    check_begun(epoch_of(timestamp), now)
    check_scope(claim, timestamp, rules)
    key = signing.derive_key_v4(identity.access_key_secret, claim.day, claim.region, claim.product)
    expected = hmac.new(key, policy.encode(), hashlib.sha256).hexdigest()
    if not is_same(claim.signature, expected):
        raise Refused("SignatureDoesNotMatch", extras={"OSSAccessKeyId": identity.access_key_id})


def _parsed(policy: str) -> dict[str, Any]:
    """Return the document of a policy, which is JSON in base64 with an expiration and a list of conditions."""
    try:
        document = json.loads(base64.b64decode(policy, validate=True).decode())
    except (ValueError, RecursionError) as error:  # the second for brackets within brackets by the thousand
        raise Refused("InvalidPolicyDocument") from error
    if not (isinstance(document, dict) and isinstance(document.get("conditions"), list)):
        raise Refused("InvalidPolicyDocument")
    return document


def _moment(document: Mapping[str, Any]) -> int:
    """Return when a policy expires: `2014-12-01T12:00:00.000Z`, the fraction left to the writer."""
    text = str(document.get("expiration", "")).partition(".")[0].removesuffix("Z")
    try:
        return timegm(strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except ValueError as error:
        raise Refused("InvalidPolicyDocument", "Invalid policy document: no valid expiration.") from error


def _check_condition(condition: Any, fields: Mapping[str, str], size: int) -> str:
    """Refuse a form that a condition does not allow; return the field that the condition is about."""
    if isinstance(condition, dict) and len(condition) == 1:
        ((name, value),) = condition.items()
        condition = ["eq", f"${name}", value]
    if not (isinstance(condition, list) and len(condition) == 3):
        raise Refused("InvalidPolicyDocument", ec="0006-00000216")
    mode, subject, wanted = condition
    if mode == "content-length-range":
        _check_size(subject, wanted, size)
        return ""
    name = str(subject).removeprefix("$").lower()
    if not _holds(mode, fields.get(name, ""), wanted):
        shown = json.dumps([mode, f"${str(subject).removeprefix('$')}", wanted])
        raise _not_allowed(f"Policy Condition failed: {shown}", "0006-00000227")
    return name


def _holds(mode: object, value: str, wanted: Any) -> bool:
    if mode in ("in", "not-in") and isinstance(wanted, list):
        return (value in [str(item) for item in wanted]) is (mode == "in")
    if mode == "eq":
        return value == str(wanted)
    if mode == "starts-with":
        return value.startswith(str(wanted))
    raise Refused("InvalidPolicyDocument", ec="0006-00000216")


def _check_size(least: Any, most: Any, size: int) -> None:
    try:
        least, most = int(least), int(most)
    except (TypeError, ValueError, OverflowError) as error:  # the last for Infinity
        raise Refused("InvalidPolicyDocument") from error
    if size < least:
        raise Refused("EntityTooSmall")
    if size > most:
        raise Refused("EntityTooLarge")


def _not_allowed(what: str, ec: str) -> Refused:
    return Refused("AccessDenied", f"Invalid according to Policy: {what}", ec=ec)


# Fields that are no headers of the object.
_OF_FORM = frozenset(
    """
    key policy file filename bucket submit ossaccesskeyid signature success_action_redirect success_action_status
    x-oss-signature-version x-oss-credential x-oss-signature
    """.split()
)
_MISSING = frozenset({"callback", "callback-var", "x-oss-callback", "x-oss-callback-var"})


def post_object(service: Service, call: Call, received: Received) -> Reply:
    form = received.fields
    if not form.get("key"):
        raise invalid_argument("key", "", "The field key is missing.")
    _check_right(service, call, received)
    missing = next((name for name in form if name in _MISSING), "")
    if missing:
        raise not_implemented(missing, f"This emulator does not have callbacks, which the field {missing} asks for.")
    _check_lines(form)
    key = form["key"].replace("${filename}", form["filename"])
    headers = {name: value for name, value in form.items() if name not in _OF_FORM and value}
    if "x-oss-content-type" in headers:
        headers["content-type"] = headers.pop("x-oss-content-type")
    put = replace(call, operation="PutObject", key=key, headers={**headers, "host": call.headers.get("host", "")})
    check_names(put)
    if name := unwanted("PutObject", "PUT", tuple(put.headers)):
        raise refusal_of("PutObject", name)
    stored = put_object(service, put, received)
    return _answer(put, form, stored, service.location(put, url_encoded(key)))


def _check_lines(form: Mapping[str, str]) -> None:
    """Refuse values that would be two lines: these fields become headers, of the object or of this answer."""
    for name, value in form.items():
        is_header = name not in _OF_FORM or name == "success_action_redirect"
        if is_header and any(character in value for character in "\r\n\0"):
            raise invalid_argument(name, "", "Not a header's value.")


def _check_right(service: Service, call: Call, received: Received) -> None:
    bucket = service.bucket(call.bucket)
    if not is_signed_form(received.fields) and bucket.acl == "public-read-write":
        return
    if not is_signed_form(received.fields):
        raise Refused("AccessDenied", "Anonymous access is forbidden for this operation.")
    versions = ("v1", "v4") if service.policy.accept_v1 else ("v4",)
    rules = Rules(service.policy.region, versions)
    check_form(received.fields, call.bucket, received.size, service.keyring, rules, service.now())


def _answer(put: Call, form: Mapping[str, str], stored: Reply, location: str) -> Reply:
    """Return what the form wants as its answer: a redirect, a document (201), or nothing (200 or 204)."""
    if redirect := form.get("success_action_redirect"):
        query = urlencode({"bucket": put.bucket, "key": put.key, "etag": stored.headers["ETag"]})
        return Reply(303, {**stored.headers, "Location": f"{redirect}{'&' if '?' in redirect else '?'}{query}"})
    status = form.get("success_action_status", "204")
    if status != "201":
        return Reply(200 if status == "200" else 204, stored.headers)
    told = {"Bucket": put.bucket, "Location": location, "Key": put.key, "ETag": stored.headers["ETag"]}
    reply = xml_reply(document("PostResponse", fields(told)))
    return Reply(201, {**stored.headers, **reply.headers}, reply.body)


OPERATIONS = {"PostObject": post_object}
