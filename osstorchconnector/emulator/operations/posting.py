"""PostObject: a form that a browser sends is read as it arrives, checked against its signed policy, and stored.

The form (`multipart/form-data`) has fields, which go into memory, and then one file, which goes where the bodies of
other uploads go. As OSS does, the server ignores what follows the file. The rest is done by PutObject.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from calendar import timegm
from collections.abc import Callable, Mapping
from dataclasses import replace
from time import strptime
from typing import Any
from urllib.parse import urlencode

from ...protocol import signing
from ..auth import Keyring, Rules, check_begun, check_scope, check_version, claim_of, epoch_of, is_same, rules_of
from ..documents import document, fields, url_encoded
from ..exchange import Call, Received, Reply, xml_reply
from ..intake import Intake
from ..interface import header_refusal, unwanted_header
from ..refusals import Refused, invalid_argument, not_implemented
from ..routing import check_names
from ..service import Service
from .objects import put_object

MAX_FIELD_BYTES = 4 * 1024
_MAX_HEAD_BYTES = 4 * 1024
_MAX_FIELDS = 100
_BOUNDARY = re.compile(r'multipart/form-data\s*;.*?\bboundary="?([!-~ ]{1,70}?)"?\s*(?:;.*)?', re.IGNORECASE).fullmatch
_PARAMETER = re.compile(r'\b(name|filename)="((?:[^"\\]|\\.)*)"', re.IGNORECASE)

OpenFile = Callable[[Mapping[str, str]], Intake]

# Fields of the form that do not become headers of the object.
_OF_FORM = frozenset(
    """
    key policy file filename bucket submit ossaccesskeyid signature success_action_redirect success_action_status
    x-oss-signature-version x-oss-credential x-oss-signature
    """.split()
)
_MISSING = frozenset({"callback", "callback-var", "x-oss-callback", "x-oss-callback-var"})
_V4_FIELDS = ("x-oss-signature-version", "x-oss-credential", "x-oss-date")


class FormIntake:
    """Takes a form; calls `open_file` for the file's intake when all fields before the file have arrived.

    The received fields have lower-case names; the field `filename` is the name of the file.
    """

    def __init__(self, content_type: str, open_file: OpenFile) -> None:
        match = _BOUNDARY(content_type.strip())
        if match is None:
            raise Refused("RequestIsNotMultiPartContent")
        self._delimiter = b"\r\n--" + match[1].encode()
        self._open_file = open_file
        self._buffer = bytearray(b"\r\n")  # the first boundary then looks like all others
        self._read: Callable[[], bool] = self._read_preamble
        self._fields: dict[str, str] = {}
        self._name, self._value = "", bytearray()
        self._file: Intake | None = None
        self._is_in_file = self._is_done = False

    def write(self, data: memoryview) -> None:
        if self._is_done:
            return
        self._buffer += data
        while not self._is_done and self._read():
            pass

    def finish(self) -> Received:
        if self._is_in_file or not (self._is_done or self._file):
            self.abandon()
            raise Refused("MalformedPOSTRequest")
        if self._file is None:
            raise Refused("IncorrectNumberOfFilesInPOSTRequest")
        return self._file.finish()._replace(fields=self._fields)

    def abandon(self) -> None:
        self._is_done = True
        self._buffer.clear()
        if self._file is not None:
            self._file.abandon()
            self._file = None

    def _read_preamble(self) -> bool:
        """Drop everything before the first boundary."""
        return self._pass_on(lambda _piece: None)

    def _read_body(self) -> bool:
        return self._pass_on(self._take_file if self._is_in_file else self._take_field)

    def _pass_on(self, take: Callable[[memoryview], None]) -> bool:
        """Pass on the bytes of this part; return whether its end was found."""
        end = self._buffer.find(self._delimiter)
        count = end if end >= 0 else max(len(self._buffer) - len(self._delimiter) + 1, 0)
        if count:
            with memoryview(self._buffer) as view, view[:count] as piece:
                take(piece)
        del self._buffer[: count + (len(self._delimiter) if end >= 0 else 0)]
        if end >= 0:
            self._end_part()
        return end >= 0

    def _take_file(self, piece: memoryview) -> None:
        assert self._file is not None
        self._file.write(piece)

    def _take_field(self, piece: memoryview) -> None:
        self._value += piece
        if len(self._value) > MAX_FIELD_BYTES:
            raise Refused("FieldItemTooLong", extras={"ArgumentName": self._name})

    def _end_part(self) -> None:
        if self._is_in_file:
            self._is_in_file, self._is_done = False, True
        elif self._name:
            try:
                self._fields[self._name] = self._value.decode()
            except UnicodeDecodeError as error:
                raise Refused("MalformedPOSTRequest") from error
            self._value.clear()
        if len(self._fields) > _MAX_FIELDS:
            raise Refused("MalformedPOSTRequest")
        self._read = self._read_boundary

    def _read_boundary(self) -> bool:
        """Read the two bytes after a boundary, which say whether it is the last."""
        if len(self._buffer) < 2:
            return False
        if self._buffer[:2] == b"--":
            self._is_done = True
        elif self._buffer[:2] != b"\r\n":
            raise Refused("MalformedPOSTRequest")
        self._read = self._read_head
        return True

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > _MAX_HEAD_BYTES:
                raise Refused("MalformedPOSTRequest")
            return False
        head = self._buffer[:end].decode(errors="replace")
        del self._buffer[: end + 4]
        self._begin_part(head)
        self._read = self._read_body
        return True

    def _begin_part(self, head: str) -> None:
        lines = dict(line.partition(":")[::2] for line in head.split("\r\n") if ":" in line)
        headers = {name.strip().lower(): value.strip() for name, value in lines.items()}
        named = {name.lower(): text for name, text in _PARAMETER.findall(headers.get("content-disposition", ""))}
        if not named.get("name"):
            raise Refused("MalformedPOSTRequest")
        self._name = named["name"].lower()
        if self._name == "file":
            self._fields.setdefault("content-type", headers.get("content-type", ""))
            self._fields["filename"] = named.get("filename", "").rpartition("/")[2].rpartition("\\")[2]
            self._is_in_file, self._file = True, self._open_file(self._fields)


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
    if name := unwanted_header("PutObject", "PUT", tuple(put.headers)):
        raise header_refusal("PutObject", name)
    stored = put_object(service, put, received)
    return _answer(put, form, stored, service.location(put, url_encoded(key)))


def _check_lines(form: Mapping[str, str]) -> None:
    """Refuse line breaks in fields that become headers, of the object or of this answer."""
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
    rules = rules_of(service.policy.region, service.policy.accept_v1)
    check_form(received.fields, call.bucket, received.size, service.keyring, rules, service.now())


def _answer(put: Call, form: Mapping[str, str], stored: Reply, location: str) -> Reply:
    """Return the answer that the form asks for: a redirect, a document (201), or nothing (200 or 204)."""
    if redirect := form.get("success_action_redirect"):
        query = urlencode({"bucket": put.bucket, "key": put.key, "etag": stored.headers["ETag"]})
        return Reply(303, {**stored.headers, "Location": f"{redirect}{'&' if '?' in redirect else '?'}{query}"})
    status = form.get("success_action_status", "204")
    if status != "201":
        return Reply(200 if status == "200" else 204, stored.headers)
    told = {"Bucket": put.bucket, "Location": location, "Key": put.key, "ETag": stored.headers["ETag"]}
    reply = xml_reply(document("PostResponse", fields(told)))
    return Reply(201, {**stored.headers, **reply.headers}, reply.body)


def is_signed_form(fields: Mapping[str, str]) -> bool:
    return any(name in fields for name in ("policy", "ossaccesskeyid", "signature", "x-oss-signature"))


def check_form(fields: Mapping[str, str], bucket: str, size: int, keyring: Keyring, rules: Rules, now: float) -> None:
    """Refuse a form without the signature of a known key, or that its policy does not allow.

    `fields` have lower-case names; `size` is that of the file, in bytes.
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
    """Return the document of a policy: JSON in base64, with an expiration and a list of conditions."""
    try:
        document = json.loads(base64.b64decode(policy, validate=True).decode())
    except (ValueError, RecursionError) as error:  # RecursionError: thousands of nested brackets
        raise Refused("InvalidPolicyDocument") from error
    if not (isinstance(document, dict) and isinstance(document.get("conditions"), list)):
        raise Refused("InvalidPolicyDocument")
    return document


def _moment(document: Mapping[str, Any]) -> int:
    """Return when a policy expires: `2014-12-01T12:00:00.000Z`, with any fraction of a second."""
    text = str(document.get("expiration", "")).partition(".")[0].removesuffix("Z")
    try:
        return timegm(strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except ValueError as error:
        raise Refused("InvalidPolicyDocument", "Invalid policy document: no valid expiration.") from error


def _check_condition(condition: Any, fields: Mapping[str, str], size: int) -> str:
    """Refuse a form that breaks this condition; return the field that the condition is about."""
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
    except (TypeError, ValueError, OverflowError) as error:  # OverflowError: Infinity
        raise Refused("InvalidPolicyDocument") from error
    if size < least:
        raise Refused("EntityTooSmall")
    if size > most:
        raise Refused("EntityTooLarge")


def _not_allowed(what: str, ec: str) -> Refused:
    return Refused("AccessDenied", f"Invalid according to Policy: {what}", ec=ec)


OPERATIONS = {"PostObject": post_object}
