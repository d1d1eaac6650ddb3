"""OSS signatures, version 4 and version 1: text in, text out; the time is an argument.

Both versions sign a request in its decoded form. So there is one spelling of a key or query in the signature, however
it is spelled on the wire. This library sends that same spelling: `encode_key` and `encode_query`.

The client signs with `V4Signer` and `V1Signer`; a server that verifies signatures builds the same texts from the
functions beside them, and reads a client's header with `parse_authorization`. `V4Signer` is on the client's hot path:
it keeps all that changes only once a second or less.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from time import gmtime, strftime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from ..redaction import Secret, SecretBytes
from .heads import http_date
from .values import Pairs, Request

if TYPE_CHECKING:
    from ..credentials import Credentials

ALGORITHM_V4 = "OSS4-HMAC-SHA256"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
TERMINATOR_V4 = "aliyun_v4_request"
MAX_PRESIGN_SECONDS = 604_800

is_plain_key = re.compile(r"[A-Za-z0-9\-_.~/]*").fullmatch
"""Say whether a key is its own encoding (`encode_key`)."""
_PLAIN_WORD = re.compile(r"[A-Za-z0-9\-_.~]*").fullmatch
ALWAYS_SIGNED = frozenset({"content-type", "content-md5"})

# Query parameters that are part of a version 1 signature, and the only ones.
SIGNED_PARAMETERS_V1 = frozenset(
    """
    accessPoint accessPointPolicy acl append asyncFetch bucketArchiveDirectRead bucketInfo callback callback-var
    cloudboxes cname comp continuation-token cors delete encryption endTime group httpsConfig inventory inventoryId
    lifecycle link live location logging metaQuery objectInfo objectMeta partNumber policy position publicAccessBlock
    qos qosInfo qosRequester redundancyTransition referer regionList replication replicationLocation replicationProgress
    requestPayment requesterQosInfo resourceGroup resourcePool resourcePoolBuckets resourcePoolInfo
    response-cache-control response-content-disposition response-content-encoding response-content-language
    response-content-type response-expires restore security-token sequential startTime stat status style styleName
    symlink tagging transferAcceleration uploadId uploads versionId versioning versions vod website worm wormExtend
    wormId x-oss-ac-forward-allow x-oss-ac-source-ip x-oss-ac-subnet-mask x-oss-ac-vpc-id x-oss-access-point-name
    x-oss-async-process x-oss-process x-oss-redundancy-transition-taskid x-oss-request-payer
    x-oss-target-redundancy-type x-oss-traffic-limit x-oss-write-get-object-response
    """.split()
)


def encode_key(key: str) -> str:
    """Return `key` percent-encoded as OSS signs it and as it stands in a URL: `/` and unreserved characters kept."""
    return key if is_plain_key(key) else quote(key, safe="/")


def encode_query(query: Iterable[tuple[str, str]]) -> str:
    """Return the canonical query, which is also what is sent: encoded, sorted, `k` alone where the value is empty."""
    pairs = sorted([(_encode_word(name), _encode_word(value)) for name, value in query])
    return "&".join([f"{name}={value}" if value else name for name, value in pairs])


def _encode_word(text: str) -> str:
    return text if _PLAIN_WORD(text) else quote(text, safe="")


def oss_date(epoch_seconds: int) -> str:
    """Return the time as `x-oss-date` has it: `20250314T150926Z`."""
    return strftime("%Y%m%dT%H%M%SZ", gmtime(epoch_seconds))


# --- version 4


def canonical_request_v4(method: str, bucket: str, key: str, query: Sequence[tuple[str, str]], tail: str) -> str:
    """Return the text whose SHA-256 version 4 signs; `key` and `query` are decoded, `tail` is from `canonical_tail`."""
    return f"{canonical_lines_v4(method, bucket, key, query)}{tail}"


def canonical_lines_v4(method: str, bucket: str, key: str, query: Sequence[tuple[str, str]]) -> str:
    """Return the lines of the canonical request before its tail: method, path and query."""
    return f"{method}\n{canonical_uri_v4(bucket, key)}\n{encode_query(query) if query else ''}\n"


def canonical_tail(headers: Mapping[str, str], additional: Collection[str]) -> Secret:
    """Return the canonical request from its header block on.

    Names in `headers` are lower-case. `additional` names headers that are signed beyond `x-oss-*`, `content-type` and
    `content-md5`, as `additional_names` gives them.
    """
    signed = sorted((name, value.strip(" \t")) for name, value in headers.items() if is_signed_v4(name, additional))
    block = Secret("".join([f"{name}:{value}\n" for name, value in signed]))
    return Secret(f"{block}\n{';'.join(additional)}\n{UNSIGNED_PAYLOAD}")


def canonical_uri_v4(bucket: str, key: str) -> str:
    """Return the path that is signed: always `/bucket/key`, wherever the bucket's name travels; `/` for the service."""
    return f"/{bucket}/{encode_key(key)}" if bucket else "/"


def additional_names(names: Iterable[str]) -> list[str]:
    """Return those of `names` that a signature lists as additional: lower-case, sorted, none that is signed anyway."""
    return sorted({lower for name in names if not is_signed_v4(lower := name.strip().lower()) and lower})


def is_signed_v4(name: str, additional: Collection[str] = ()) -> bool:
    """Say whether a header (lower-case name) is part of a version 4 signature."""
    return name[:6] == "x-oss-" or name in ALWAYS_SIGNED or name in additional


def string_to_sign_v4(canonical: str, *, timestamp: str, scope: str) -> str:
    """Return the text that is signed; `scope` is `day/region/product/aliyun_v4_request`."""
    return f"{ALGORITHM_V4}\n{timestamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"


def scope_v4(day: str, region: str, product: str = "oss") -> str:
    """Return the scope of a version 4 signature: one day, region and product."""
    return f"{day}/{region}/{product}/{TERMINATOR_V4}"


def derive_key_v4(secret: str, day: str, region: str, product: str = "oss") -> SecretBytes:
    """Return the key that signs for one day (`20250314`), region and product."""
    key = SecretBytes(b"aliyun_v4" + secret.encode())
    for step in (day, region, product, TERMINATOR_V4):
        key = SecretBytes(hmac.digest(key, step.encode(), "sha256"))
    return key


class Moment:
    """What all version 4 signatures of the same second have in common."""

    __slots__ = ("credential", "date", "epoch_seconds", "inner", "outer", "tails")

    def __init__(self, epoch_seconds: int, date: str, credential: str, scope: str, key: SecretBytes) -> None:
        self.epoch_seconds, self.date, self.credential = epoch_seconds, date, credential
        # The two hashes of HMAC after their first block: to copy them costs half of what starting again does.
        padded = SecretBytes(key.ljust(64, b"\0"))
        self.inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
        self.inner.update(f"{ALGORITHM_V4}\n{date}\n{scope}\n".encode())
        self.outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))
        self.tails: dict[Pairs, SecretBytes] = {}  # encoded; they contain the security token

    def signature(self, lines: str, tail: bytes = b"") -> str:
        """Return the signature of the canonical request `lines` + `tail` in lower-case hex; `tail` is in UTF-8."""
        canonical, inner, outer = hashlib.sha256(lines.encode() + tail), self.inner.copy(), self.outer.copy()
        inner.update(canonical.hexdigest().encode())
        outer.update(inner.digest())
        return outer.hexdigest()


class V4Signer:
    """Sign requests by version 4 for one set of credentials and one region; any number of threads may share it."""

    MAX_TAILS = 256

    def __init__(
        self, credentials: Credentials, region: str, product: str = "oss", additional: Collection[str] = ()
    ) -> None:
        self._credentials, self._region, self._product = credentials, region, product
        self._additional = tuple(additional_names(additional))
        self._listed = f", AdditionalHeaders={';'.join(self._additional)}" if self._additional else ""
        self._moment = self._begin(0)

    def sign(self, request: Request, epoch_seconds: int) -> list[tuple[str, str]]:
        """Return the headers that, added to those of `request`, sign it; none of them may be there already."""
        moment = self.moment(epoch_seconds)
        tail = self.tail(request, moment)
        lines = canonical_lines_v4(request.method, request.bucket, request.key, request.query)
        headers = [("x-oss-content-sha256", UNSIGNED_PAYLOAD), ("x-oss-date", moment.date)]
        if self._credentials.security_token:
            headers.append(("x-oss-security-token", self._credentials.security_token))
        signature = moment.signature(lines, tail)
        headers.append(("authorization", Secret(f"{moment.credential}, Signature={signature}{self._listed}")))
        return headers

    def moment(self, epoch_seconds: int) -> Moment:
        """Return what the signatures of this second have in common."""
        moment = self._moment
        if moment.epoch_seconds != epoch_seconds:
            moment = self._moment = self._begin(epoch_seconds)
        return moment

    def tail(self, request: Request, moment: Moment) -> SecretBytes:
        """Return the end of the canonical request, which depends only on the moment and the signed headers."""
        additional = self._additional
        signed: Pairs = ()
        if request.headers:
            signed = tuple([pair for pair in request.headers if is_signed_v4(pair[0].lower(), additional)])
        tail = moment.tails.get(signed)
        return self._remember_tail(moment, signed) if tail is None else tail

    def _begin(self, epoch_seconds: int) -> Moment:
        date = oss_date(epoch_seconds)
        day = date[:8]
        scope = scope_v4(day, self._region, self._product)
        key = derive_key_v4(self._credentials.access_key_secret, day, self._region, self._product)
        credential = f"{ALGORITHM_V4} Credential={self._credentials.access_key_id}/{scope}"
        return Moment(epoch_seconds, date, credential, scope, key)

    def _remember_tail(self, moment: Moment, signed: Pairs) -> SecretBytes:
        headers = {name.lower(): value for name, value in signed}
        headers["x-oss-content-sha256"], headers["x-oss-date"] = UNSIGNED_PAYLOAD, moment.date
        if self._credentials.security_token:
            headers["x-oss-security-token"] = self._credentials.security_token
        tail = SecretBytes(canonical_tail(headers, self._additional).encode())
        if len(moment.tails) < self.MAX_TAILS:
            moment.tails[signed] = tail
        return tail


# --- version 1


def string_to_sign_v1(
    method: str, bucket: str, key: str, query: Iterable[tuple[str, str]], headers: Mapping[str, str], date: str
) -> Secret:
    """Return the text that version 1 signs.

    `key` and `query` are decoded, names in `headers` lower-case; `date` is what stands in `x-oss-date`, else in
    `Date`, or the `Expires` of a presigned URL.
    """
    signed = sorted((name, value.strip(" \t")) for name, value in headers.items() if name[:6] == "x-oss-")
    block = Secret("".join([f"{name}:{value}\n" for name, value in signed]))
    parameters = sorted(pair for pair in query if pair[0] in SIGNED_PARAMETERS_V1)
    resource = f"/{bucket}/{key}" if bucket else "/"
    if parameters:
        resource += "?" + "&".join([f"{name}={value}" if value else name for name, value in parameters])
    lines = (method, headers.get("content-md5", ""), headers.get("content-type", ""), date, block + resource)
    return Secret("\n".join(lines))


def signature_v1(secret: str, text: str) -> Secret:
    """Return the signature of a string to sign, in base64."""
    return Secret(base64.b64encode(hmac.digest(secret.encode(), text.encode(), "sha1")).decode())


class NoSigner:
    """Signs nothing, for anonymous access: OSS answers requests about what is public."""

    def sign(self, request: Request, epoch_seconds: int) -> list[tuple[str, str]]:
        """Return no headers."""
        return []


class V1Signer:
    """Sign requests by version 1, which OSS still accepts from old accounts, and which needs no region."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def sign(self, request: Request, epoch_seconds: int) -> list[tuple[str, str]]:
        """Return the headers that, added to those of `request`, sign it; none of them may be there already."""
        credentials = self._credentials
        added = [("date", http_date(epoch_seconds))]
        if credentials.security_token:
            added.append(("x-oss-security-token", credentials.security_token))
        headers = {name.lower(): value for name, value in (*request.headers, *added)}
        date = headers.get("x-oss-date") or headers["date"]
        text = string_to_sign_v1(request.method, request.bucket, request.key, request.query, headers, date)
        signature = signature_v1(credentials.access_key_secret, text)
        added.append(("authorization", Secret(f"OSS {credentials.access_key_id}:{signature}")))
        return added


# --- presigned URLs


def presigned_query(
    credentials: Credentials, request: Request, version: str, region: str, epoch_seconds: int, lifetime_seconds: int
) -> Pairs:
    """Return the query that signs a request without headers; version 4 allows up to `MAX_PRESIGN_SECONDS`."""
    if version == "v1":
        expires, token = str(epoch_seconds + lifetime_seconds), credentials.security_token
        query = (*request.query, *((("security-token", token),) if token else ()))
        text = string_to_sign_v1(request.method, request.bucket, request.key, query, {}, expires)
        signature = signature_v1(credentials.access_key_secret, text)
        return (*query, ("OSSAccessKeyId", credentials.access_key_id), ("Expires", expires), ("Signature", signature))
    date = oss_date(epoch_seconds)
    day, scope = date[:8], scope_v4(date[:8], region)
    query = (
        *request.query,
        ("x-oss-signature-version", ALGORITHM_V4),
        ("x-oss-credential", f"{credentials.access_key_id}/{scope}"),
        ("x-oss-date", date),
        ("x-oss-expires", str(lifetime_seconds)),
    )
    if credentials.security_token:
        query += (("x-oss-security-token", credentials.security_token),)
    tail = canonical_tail({}, ())
    canonical = Secret(canonical_request_v4(request.method, request.bucket, request.key, query, tail))
    key = derive_key_v4(credentials.access_key_secret, day, region)
    signed = string_to_sign_v4(canonical, timestamp=date, scope=scope)
    return (*query, ("x-oss-signature", hmac.digest(key, signed.encode(), "sha256").hex()))


# --- for a server that verifies signatures


class ParsedAuthorization(NamedTuple):
    """The fields of an `Authorization` header, not yet verified; those of the scope are empty in version 1."""

    version: str
    access_key_id: str
    signature: str
    day: str = ""
    region: str = ""
    product: str = ""
    additional: tuple[str, ...] = ()

    @property
    def scope(self) -> str:
        return scope_v4(self.day, self.region, self.product)


def parse_authorization(text: str) -> ParsedAuthorization:
    """Return the parts of an `Authorization` of version 1 or 4; raise `ValueError` for anything else.

    The fields of version 4 may come in any order, with blanks around them or not: the SDKs differ.
    """
    scheme, _, rest = text.strip().partition(" ")
    if scheme == "OSS":
        access_key_id, _, signature = rest.strip().rpartition(":")
        if not access_key_id or not signature:
            raise ValueError("version 1 Authorization without key id or signature")
        return ParsedAuthorization("v1", access_key_id, signature)
    if scheme != ALGORITHM_V4:
        raise ValueError(f"unknown signature algorithm {scheme[:40]!r}")
    fields = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in rest.split(","))}
    return parsed_v4(fields.get("Credential", ""), fields.get("Signature", ""), fields.get("AdditionalHeaders", ""))


def parsed_v4(credential: str, signature: str, additional: str = "") -> ParsedAuthorization:
    """Return the same from the three values of version 4, which a presigned URL has in its query."""
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or parts[4] != TERMINATOR_V4 or not all(parts):
        raise ValueError(f"malformed credential: not id/day/region/product/{TERMINATOR_V4}")
    if not signature:
        raise ValueError("version 4 Authorization without a signature")
    access_key_id, day, region, product = parts[:4]
    names = tuple(name.strip().lower() for name in additional.split(";") if name.strip())
    return ParsedAuthorization("v4", access_key_id, signature, day, region, product, names)
