"""OSS signatures as the server checks them (V1 and V4, in the header or in the URL). Pure: time is an argument.

Written from the protocol alone, not from the package's signer, so that the two can contradict each other.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from urllib.parse import quote

from .messages import Account, OssRequest, Refusal

ALGORITHM_V4 = "OSS4-HMAC-SHA256"
PAYLOAD = "UNSIGNED-PAYLOAD"
MAX_SKEW_SECONDS = 15 * 60
MAX_PRESIGNED_SECONDS = 604800
SIGNED_SUBRESOURCES_V1 = frozenset(
    """
    acl append bucketInfo callback callback-var cname comp continuation-token cors delete encryption endTime
    lifecycle live location logging objectInfo objectMeta partNumber policy position qos referer replication
    response-cache-control response-content-disposition response-content-encoding response-content-language
    response-content-type response-expires restore security-token sequential startTime stat status style styleName
    symlink tagging transferAcceleration uploadId uploads versionId versioning versions vod website worm wormExtend
    wormId asyncFetch requestPayment x-oss-process x-oss-async-process x-oss-traffic-limit x-oss-request-payer
    """.split()
)


def check(request: OssRequest, accounts: Iterable[Account], region: str, now: float) -> None:
    """Raise a `Refusal` unless one of `accounts` has signed this request, for now and for this region."""
    known = {account.access_key_id: account for account in accounts}
    authorization = request.headers.get("authorization", "")
    if authorization.startswith(f"{ALGORITHM_V4} "):
        _check_v4_header(request, authorization, known, region, now)
    elif authorization.startswith("OSS "):
        _check_v1_header(request, authorization, known, now)
    elif authorization:
        raise Refusal(
            400, "InvalidArgument", "the Authorization header is not one of OSS", ArgumentName="Authorization"
        )
    elif "x-oss-signature" in request.query:
        _check_v4_query(request, known, region, now)
    elif "Signature" in request.query:
        _check_v1_query(request, known, now)
    else:
        raise Refusal(403, "AccessDenied", "anonymous access is forbidden")


def string_to_sign_v1(request: OssRequest, date: str) -> str:
    own = sorted((name, value.strip()) for name, value in request.headers.items() if name.startswith("x-oss-"))
    resource = f"/{request.bucket}/{request.key}" if request.bucket else "/"
    signed = sorted(
        (name, value)
        for name, value in request.query.items()
        if name in SIGNED_SUBRESOURCES_V1 or name.startswith("x-oss-ac-")
    )
    if signed:
        resource += "?" + "&".join(f"{name}={value}" if value else name for name, value in signed)
    md5, kind = request.headers.get("content-md5", ""), request.headers.get("content-type", "")
    return "\n".join([request.method, md5, kind, date, *(f"{name}:{value}" for name, value in own), resource])


def canonical_request_v4(request: OssRequest, additional: Iterable[str] = ()) -> str:
    extra = sorted({name.lower() for name in additional})
    signed = sorted(
        (name, value.strip())
        for name, value in request.headers.items()
        if name.startswith("x-oss-") or name in ("content-type", "content-md5") or name in extra
    )
    path = quote(f"/{request.bucket}/{request.key}" if request.bucket else "/", safe="/-_.~", errors="surrogateescape")
    query = sorted((_encoded(name), _encoded(value)) for name, value in request.query.items())
    return "\n".join(
        [
            request.method,
            path,
            "&".join(f"{name}={value}" if value else name for name, value in query),
            "".join(f"{name}:{value}\n" for name, value in signed),
            ";".join(extra),
            PAYLOAD,
        ]
    )


def signature_v1(secret: str, text: str) -> str:
    return base64.b64encode(hmac.new(secret.encode(), _bytes(text), hashlib.sha1).digest()).decode()


def signature_v4(secret: str, canonical: str, timestamp: str, region: str) -> str:
    scope = f"{timestamp[:8]}/{region}/oss/aliyun_v4_request"
    text = "\n".join([ALGORITHM_V4, timestamp, scope, hashlib.sha256(_bytes(canonical)).hexdigest()])
    key = f"aliyun_v4{secret}".encode()
    for step in scope.split("/"):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _check_v4_header(request: OssRequest, text: str, known: Mapping[str, Account], region: str, now: float) -> None:
    fields = dict(_field(part) for part in text.removeprefix(ALGORITHM_V4).split(","))
    if request.headers.get("x-oss-content-sha256") != PAYLOAD:
        raise Refusal(400, "InvalidArgument", f"x-oss-content-sha256 has to be {PAYLOAD}")
    timestamp = request.headers.get("x-oss-date") or _timestamp(request.headers.get("date", ""))
    _check_skew(_seconds(timestamp), now)
    account = _account_of_scope(fields.get("Credential", ""), timestamp, known, region)
    _check_token(account, request.headers.get("x-oss-security-token", ""))
    additional = [name for name in fields.get("AdditionalHeaders", "").split(";") if name]
    canonical = canonical_request_v4(request, additional)
    expected = signature_v4(account.access_key_secret, canonical, timestamp, region)
    _compare(expected, fields.get("Signature", ""), canonical, account)


def _check_v4_query(request: OssRequest, known: Mapping[str, Account], region: str, now: float) -> None:
    query = request.query
    timestamp = query.get("x-oss-date", "")
    lifetime = int(query.get("x-oss-expires", "0"))
    if query.get("x-oss-signature-version") != ALGORITHM_V4 or not 0 < lifetime <= MAX_PRESIGNED_SECONDS:
        raise Refusal(400, "AuthorizationQueryParametersError", "the presigned URL is malformed")
    if _seconds(timestamp) - MAX_SKEW_SECONDS > now or _seconds(timestamp) + lifetime < now:
        raise Refusal(403, "AccessDenied", "Request has expired.")
    account = _account_of_scope(query.get("x-oss-credential", ""), timestamp, known, region)
    _check_token(account, query.get("x-oss-security-token", ""))
    rest = {name: value for name, value in query.items() if name != "x-oss-signature"}
    unsigned = OssRequest(request.method, request.bucket, request.key, rest, request.headers)
    canonical = canonical_request_v4(unsigned, query.get("x-oss-additional-headers", "").split(";"))
    expected = signature_v4(account.access_key_secret, canonical, timestamp, region)
    _compare(expected, query["x-oss-signature"], canonical, account)


def _check_v1_header(request: OssRequest, text: str, known: Mapping[str, Account], now: float) -> None:
    identity, _, given = text.removeprefix("OSS ").partition(":")
    date = request.headers.get("x-oss-date") or request.headers.get("date", "")
    _check_skew(_seconds(_timestamp(date)), now)
    account = _account(identity, known)
    _check_token(account, request.headers.get("x-oss-security-token", ""))
    signed = string_to_sign_v1(request, date)
    _compare(signature_v1(account.access_key_secret, signed), given, signed, account)


def _check_v1_query(request: OssRequest, known: Mapping[str, Account], now: float) -> None:
    expires = request.query.get("Expires", "")
    if not expires.isdigit() or int(expires) < now:
        raise Refusal(403, "AccessDenied", "Request has expired.")
    account = _account(request.query.get("OSSAccessKeyId", ""), known)
    _check_token(account, request.query.get("security-token", ""))
    signed = string_to_sign_v1(request, expires)
    _compare(signature_v1(account.access_key_secret, signed), request.query["Signature"], signed, account)


def _account_of_scope(scope: str, timestamp: str, known: Mapping[str, Account], region: str) -> Account:
    identity, *rest = scope.split("/")
    account = _account(identity, known)
    if rest != [timestamp[:8], region, "oss", "aliyun_v4_request"]:
        raise Refusal(403, "SignatureDoesNotMatch", f"the credential's scope {scope!r} is not for {region} and today")
    return account


def _account(identity: str, known: Mapping[str, Account]) -> Account:
    if identity not in known:
        raise Refusal(
            403,
            "InvalidAccessKeyId",
            "The OSS Access Key Id you provided does not exist in our records.",
            OSSAccessKeyId=identity,
        )
    return known[identity]


def _check_token(account: Account, token: str) -> None:
    if account.security_token and not token:
        raise Refusal(403, "InvalidAccessKeyId", "The key belongs to a session and the request has no token.")
    if account.security_token != token:
        raise Refusal(403, "InvalidSecurityToken", "The security token you provided is invalid.")


def _check_skew(seconds: float, now: float) -> None:
    if abs(seconds - now) > MAX_SKEW_SECONDS:
        raise Refusal(
            403, "RequestTimeTooSkewed", "The difference between the request time and the server's is too large."
        )


def _compare(expected: str, given: str, signed: str, account: Account) -> None:
    if not hmac.compare_digest(expected.encode(), _bytes(given)):
        raise Refusal(
            403,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided.",
            OSSAccessKeyId=account.access_key_id,
            SignatureProvided=given,
            StringToSign=signed,
        )


def _field(text: str) -> tuple[str, str]:
    name, _, value = text.strip().partition("=")
    return name, value


def _timestamp(date: str) -> str:
    """Return a `Date` header's RFC 1123 time as V4 writes it, or what is there already in that form."""
    if date.endswith("Z"):
        return date
    try:
        return parsedate_to_datetime(date).astimezone(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    except (TypeError, ValueError):
        raise Refusal(403, "AccessDenied", "OSS authentication requires a valid Date.") from None


def _seconds(timestamp: str) -> float:
    try:
        return datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=timezone.utc).timestamp()
    except ValueError:
        raise Refusal(403, "AccessDenied", "OSS authentication requires a valid Date.") from None


def _encoded(text: str) -> str:
    return quote(text, safe="-_.~", errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
