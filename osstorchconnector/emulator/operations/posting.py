"""PostObject: a form that a browser sends, allowed by a signed policy, stored as PutObject stores it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlencode

from ..auth import Rules
from ..documents import document, fields, url_encoded
from ..exchange import Call, Reply, xml_reply
from ..headers import refusal_of, unwanted
from ..intake import Received
from ..postpolicy import check_form, is_signed_form
from ..refusals import Refused, invalid_argument, not_implemented
from ..routing import check_names
from ..service import Service
from .objects import put_object

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
