"""Authentication: signatures V1 and V4, in headers or in the query, compared with those of the keys this server knows.

The server signs the request that it received with its own copy of the key, and compares. The clock is an argument. No
secret and no token reaches an answer or a log. The text that was signed does: OSS shows it too, to find the difference.
"""

from __future__ import annotations

import hmac
import re
from calendar import timegm
from collections.abc import Collection
from functools import lru_cache
from typing import NamedTuple

from ..credentials import Credentials
from ..protocol import signing
from ..protocol.heads import parse_http_date
from ..protocol.repeats import CommonHead
from ..protocol.signing import ParsedAuthorization
from .exchange import Call
from .refusals import Refused, invalid_argument

MAX_SKEW_SECONDS = 15 * 60
PUBLIC_READS = frozenset({"GetObject", "HeadObject", "GetObjectMeta", "ListObjects", "ListObjectsV2"})
PUBLIC_WRITES = frozenset(
    """
    PutObject AppendObject DeleteObject InitiateMultipartUpload UploadPart CompleteMultipartUpload
    AbortMultipartUpload ListParts
    """.split()
)

_V4_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z").fullmatch
_SIGNED = signing.ALWAYS_SIGNED
_SIGNATURE = re.compile(r"Signature=([0-9a-f]{64})")
_derive_key = lru_cache(maxsize=256)(signing.derive_key_v4)


@lru_cache(maxsize=256)
def _moment(secret: str, timestamp: str, region: str, product: str) -> signing.Moment:
    """Return the parts that all signatures of one identity and second share."""
    day = timestamp[:8]
    scope = signing.scope_v4(day, region, product)
    return signing.Moment(0, timestamp, "", scope, _derive_key(secret, day, region, product))


@lru_cache(maxsize=1024)
def _tail(signed: tuple[tuple[str, str], ...], additional: tuple[str, ...]) -> str:
    return signing.canonical_tail(dict(signed), signing.additional_names(additional))


class Rules(NamedTuple):
    """The region and versions that a signature must be made for."""

    region: str
    versions: Collection[str]


@lru_cache(maxsize=16)
def rules_of(region: str, accept_v1: bool) -> Rules:
    return Rules(region, ("v1", "v4") if accept_v1 else ("v4",))


class Proof(NamedTuple):
    """What all valid signatures of requests with a common head share: whose they are, their time, the text's end."""

    rules: Rules
    identity: Credentials
    epoch_seconds: int
    moment: signing.Moment
    tail: bytes


class Keyring:
    """The identities a server accepts, by access key id; they come and go at run time.

    `proofs` are those of the last common heads. They save time and decide nothing.
    """

    MAX_PROOFS = 256

    def __init__(self, *identities: Credentials) -> None:
        self._identities = {identity.access_key_id: identity for identity in identities}
        self.proofs: dict[CommonHead, Proof] = {}

    def add(self, identity: Credentials) -> None:
        self._identities[identity.access_key_id] = identity
        self.proofs.clear()

    def remove(self, access_key_id: str) -> None:
        self._identities.pop(access_key_id, None)
        self.proofs.clear()

    def remember(self, common: CommonHead, proof: Proof) -> None:
        if len(self.proofs) >= self.MAX_PROOFS:
            self.proofs.clear()
        self.proofs[common] = proof

    def all(self) -> list[Credentials]:
        return list(self._identities.values())

    def find(self, access_key_id: str, token: str, now: float) -> Credentials:
        """Return the identity. Refuse an unknown key, a wrong token, or an expired one."""
        identity = self._identities.get(access_key_id)
        if identity is None or (identity.security_token and not token):
            raise Refused("InvalidAccessKeyId", extras={"OSSAccessKeyId": access_key_id})
        if token and not hmac.compare_digest(identity.security_token.encode(), token.encode()):
            raise Refused("InvalidSecurityToken")
        if identity.expires_at is not None and now >= identity.expires_at:
            raise Refused("SecurityTokenExpired")
        return identity


def is_signed(call: Call) -> bool:
    """Whether the request has a signature of any kind."""
    return "authorization" in call.headers or any(
        name in ("OSSAccessKeyId", "x-oss-signature-version") for name, _ in call.query
    )


def authenticate(call: Call, keyring: Keyring, rules: Rules, now: float) -> Credentials:
    """Return the identity that signed the request. Refuse a request without a valid signature."""
    if "authorization" in call.headers:
        return _check_again(call, keyring, rules, now) or _check_header(call, keyring, rules, now)
    if call.has_parameter("x-oss-signature-version"):
        return _check_query_v4(call, keyring, rules, now)
    if call.has_parameter("OSSAccessKeyId"):
        return _check_query_v1(call, keyring, rules, now)
    raise Refused("AccessDenied", "Anonymous access is forbidden for this operation.")


def _check_again(call: Call, keyring: Keyring, rules: Rules, now: float) -> Credentials | None:
    """Return the identity of a request whose head is like an earlier one, `None` if `_check_header` must look at it."""
    common = call.common
    if common is None or (proof := keyring.proofs.get(common)) is None:
        return None
    proven_rules, identity, epoch_seconds, moment, tail = proof
    if proven_rules is not rules or abs(epoch_seconds - now) > MAX_SKEW_SECONDS:
        return None
    if identity.expires_at is not None and now >= identity.expires_at:
        return None
    expected = moment.signature(signing.canonical_lines_v4(call.method, call.bucket, call.key, call.query), tail)
    return identity if hmac.compare_digest(common.signature_of(call.headers), expected) else None


def _check_header(call: Call, keyring: Keyring, rules: Rules, now: float) -> Credentials:
    claim, signature = _parse_claim(call.headers["authorization"])
    check_version(claim.version, rules)
    identity = keyring.find(claim.access_key_id, call.headers.get("x-oss-security-token", ""), now)
    if claim.version == "v1":
        date = call.headers.get("x-oss-date") or call.headers.get("date", "")
        _check_skew(epoch_of(date), now)
        _compare_v1(call, identity, signature, date, call.query)
        return identity
    if call.headers.get("x-oss-content-sha256") != signing.UNSIGNED_PAYLOAD:
        raise invalid_argument(
            "x-oss-content-sha256", call.headers.get("x-oss-content-sha256", ""), "Only UNSIGNED-PAYLOAD is accepted."
        )
    timestamp = call.headers.get("x-oss-date", "")
    moment = epoch_of(timestamp or call.headers.get("date", ""))
    _check_skew(moment, now)
    timestamp = timestamp or signing.oss_date(moment)
    shared, tail = _compare_v4(call, claim, signature, identity, timestamp, call.query, rules)
    if call.common is not None:
        keyring.remember(call.common, Proof(rules, identity, moment, shared, tail.encode()))
    return identity


def _parse_claim(authorization: str) -> tuple[ParsedAuthorization, str]:
    """Return the claim of an `Authorization` header, which a client repeats all day, and its signature."""
    match = _SIGNATURE.search(authorization)
    if match is None:
        claim = _parse_cached(authorization)
        return claim, claim.signature
    return _parse_cached(f"{authorization[: match.start()]}Signature=0{authorization[match.end() :]}"), match[1]


@lru_cache(maxsize=256)
def _parse_cached(authorization: str) -> ParsedAuthorization:
    try:
        return signing.parse_authorization(authorization)
    except ValueError as error:
        raise invalid_argument("Authorization", "", f"Authorization header is invalid: {error}.") from error


def _check_query_v4(call: Call, keyring: Keyring, rules: Rules, now: float) -> Credentials:
    if call.parameter("x-oss-signature-version") != signing.ALGORITHM_V4:
        raise invalid_argument(
            "x-oss-signature-version", call.parameter("x-oss-signature-version"), "Unknown signature version."
        )
    claim = claim_of(
        call.parameter("x-oss-credential"),
        call.parameter("x-oss-signature"),
        call.parameter("x-oss-additional-headers"),
    )
    check_version("v4", rules)
    identity = keyring.find(claim.access_key_id, call.parameter("x-oss-security-token"), now)
    begin = epoch_of(call.parameter("x-oss-date"))
    lifetime_seconds = _whole_number(call, "x-oss-expires")
    if not 1 <= lifetime_seconds <= signing.MAX_PRESIGN_SECONDS:
        raise invalid_argument("x-oss-expires", str(lifetime_seconds), "Must be 1 to 604800 seconds.")
    check_begun(begin, now)
    if now > begin + lifetime_seconds:
        raise Refused("AccessDenied", "Request has expired.")
    signed = [pair for pair in call.query if pair[0] != "x-oss-signature"]
    _compare_v4(call, claim, claim.signature, identity, call.parameter("x-oss-date"), signed, rules)
    return identity


def _check_query_v1(call: Call, keyring: Keyring, rules: Rules, now: float) -> Credentials:
    check_version("v1", rules)
    identity = keyring.find(call.parameter("OSSAccessKeyId"), call.parameter("security-token"), now)
    if now > _whole_number(call, "Expires"):
        raise Refused("AccessDenied", "Request has expired.")
    _compare_v1(call, identity, call.parameter("Signature"), call.parameter("Expires"), call.query)
    return identity


def _compare_v1(call: Call, identity: Credentials, provided: str, date: str, query: list[tuple[str, str]]) -> None:
    text = signing.string_to_sign_v1(call.method, call.bucket, call.key, query, call.headers, date)
    expected = signing.signature_v1(identity.access_key_secret, text)
    if not is_same(provided, expected):
        raise _mismatch(provided, identity, StringToSign=text)


def _compare_v4(
    call: Call,
    claim: ParsedAuthorization,
    provided: str,
    identity: Credentials,
    timestamp: str,
    query: list[tuple[str, str]],
    rules: Rules,
) -> tuple[signing.Moment, str]:
    """Refuse a wrong signature; return what others of this moment share with it, and the end of the signed text."""
    check_scope(claim, timestamp, rules, is_in_header="authorization" in call.headers)
    additional = claim.additional
    signed = tuple(
        [
            pair
            for pair in call.headers.items()
            if pair[0][:6] == "x-oss-" or pair[0] in _SIGNED or pair[0] in additional
        ]
    )
    tail = _tail(signed, additional)
    canonical = signing.canonical_request_v4(call.method, call.bucket, call.key, query, tail)
    moment = _moment(identity.access_key_secret, timestamp, claim.region, claim.product)
    if not is_same(provided, moment.signature(canonical)):
        text = signing.string_to_sign_v4(canonical, timestamp=timestamp, scope=claim.scope)
        raise _mismatch(provided, identity, StringToSign=text, CanonicalRequest=canonical)
    return moment, tail


def claim_of(credential: str, signature: str, additional: str = "") -> ParsedAuthorization:
    """Return the claim of a presigned URL or a form."""
    try:
        return signing.parsed_v4(credential, signature, additional)
    except ValueError as error:
        raise invalid_argument("x-oss-credential", credential, f"{error}.") from error


def check_scope(claim: ParsedAuthorization, timestamp: str, rules: Rules, *, is_in_header: bool = False) -> None:
    """Refuse a signature for another region, service or day."""
    if (claim.region, claim.product) != (rules.region, "oss"):
        message = "Invalid signing region in Authorization header."
        if not is_in_header:
            message = "The signing region in credential is invalid."
        raise Refused("InvalidArgument", message, ec="0002-00000226", extras={"Region": claim.region})
    if claim.day != timestamp[:8]:
        raise invalid_argument("Credential", claim.day, "The date of the credential is not that of the request.")


def check_begun(begin: int, now: float) -> None:
    """Refuse a signature with a time in the future."""
    if begin > now + MAX_SKEW_SECONDS:
        raise Refused("RequestTimeTooSkewed")


def is_same(provided: str, expected: str) -> bool:
    return hmac.compare_digest(provided.encode(), expected.encode())


def _mismatch(provided: str, identity: Credentials, **texts: str) -> Refused:
    token = identity.security_token
    shown = {name: text.replace(token, "***") if token else text for name, text in texts.items()}
    return Refused(
        "SignatureDoesNotMatch",
        extras={"OSSAccessKeyId": identity.access_key_id, "SignatureProvided": provided, **shown},
    )


def check_version(version: str, rules: Rules) -> None:
    if version not in rules.versions:
        raise Refused("AccessDenied", f"Signature {version.upper()} is not accepted here.", ec="0002-00000080")


def _check_skew(moment: int, now: float) -> None:
    if abs(moment - now) > MAX_SKEW_SECONDS:
        raise Refused(
            "RequestTimeTooSkewed",
            extras={
                "MaxAllowedSkewMilliseconds": str(MAX_SKEW_SECONDS * 1000),
                "RequestTime": signing.oss_date(moment),
                "ServerTime": signing.oss_date(int(now)),
            },
        )


@lru_cache(maxsize=1024)
def epoch_of(date: str) -> int:
    """Return the time of an `x-oss-date` of version 4 or of a `Date`."""
    moment = parse_http_date(date)
    if moment is None and _V4_DATE(date):
        numbers = [int(date[start:stop]) for start, stop in ((0, 4), (4, 6), (6, 8), (9, 11), (11, 13), (13, 15))]
        try:
            moment = timegm((numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5]))
        except ValueError:
            pass  # no such day
    if moment is None:
        message = "OSS authentication requires a valid Date or x-oss-date."
        raise Refused("AccessDenied", message, ec="0002-00000004")
    return int(moment)


def _whole_number(call: Call, name: str) -> int:
    try:
        return int(call.parameter(name))
    except ValueError as error:
        raise invalid_argument(name, call.parameter(name), "Not a number.") from error
