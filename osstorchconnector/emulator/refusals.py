"""The errors OSS answers with: a code stands for a status, a message and an EC number. Pure."""

from __future__ import annotations

from typing import NamedTuple


class _Kind(NamedTuple):
    status: int
    ec: str
    message: str


_KINDS = {
    "NotModified": _Kind(304, "0015-00000305", "The object has not been modified since then."),
    "BadRequest": _Kind(400, "0001-00000001", "The request is not understood."),
    "EntityTooLarge": _Kind(400, "0017-00000701", "The body is larger than allowed."),
    "EntityTooSmall": _Kind(400, "0042-00000213", "A part other than the last is smaller than 102400 bytes."),
    "InvalidArgument": _Kind(400, "0017-00000504", "An argument is invalid."),
    "InvalidBucketName": _Kind(400, "0015-00000001", "The specified bucket is not valid."),
    "InvalidDigest": _Kind(400, "0016-00000004", "The Content-MD5 you specified did not match what was received."),
    "InvalidObjectName": _Kind(400, "0016-00000005", "The specified object is not valid."),
    "InvalidPart": _Kind(400, "0042-00000005", "A listed part was not uploaded, or its ETag is another."),
    "InvalidPartOrder": _Kind(400, "0042-00000004", "The list of parts is not in ascending order."),
    "MalformedXML": _Kind(400, "0016-00000701", "The XML you provided was not well-formed or not what is expected."),
    "MissingArgument": _Kind(400, "0016-00000606", "A required argument is missing."),
    "RequestTimeout": _Kind(400, "0005-00000001", "The body did not arrive in time."),
    "AccessDenied": _Kind(403, "0003-00000001", "You have no right to access this object because of bucket acl."),
    "InvalidAccessKeyId": _Kind(403, "0002-00000902", "The OSS Access Key Id you provided does not exist."),
    "InvalidObjectState": _Kind(403, "0021-00000001", "The operation is not valid for the object's state."),
    "InvalidSecurityToken": _Kind(403, "0002-00000006", "The security token you provided is invalid."),
    "RequestTimeTooSkewed": _Kind(403, "0002-00000504", "The request's time differs too much from the server's."),
    "SecurityTokenExpired": _Kind(403, "0002-00000007", "The security token you provided has expired."),
    "SignatureDoesNotMatch": _Kind(
        403, "0002-00000001", "The signature we calculated does not match the provided one."
    ),
    "NoSuchBucket": _Kind(404, "0015-00000101", "The specified bucket does not exist."),
    "NoSuchKey": _Kind(404, "0026-00000001", "The specified key does not exist."),
    "NoSuchUpload": _Kind(404, "0042-00000002", "The upload was completed, aborted or never begun."),
    "MethodNotAllowed": _Kind(405, "0017-00000001", "The specified method is not allowed against this resource."),
    "BucketAlreadyExists": _Kind(409, "0015-00000104", "The requested bucket name is not available."),
    "BucketNotEmpty": _Kind(
        409, "0015-00000301", "The bucket has objects or unfinished uploads. Please delete them first."
    ),
    "FileAlreadyExists": _Kind(409, "0026-00000002", "The object exists, and the request forbids to overwrite it."),
    "ObjectNotAppendable": _Kind(409, "0026-00000007", "The object is not appendable."),
    "PositionNotEqualToLength": _Kind(409, "0026-00000016", "The position is not the object's length."),
    "MissingContentLength": _Kind(411, "0017-00000902", "You must provide the Content-Length HTTP header."),
    "PreconditionFailed": _Kind(412, "0026-00000009", "At least one of the preconditions did not hold."),
    "InvalidRange": _Kind(416, "0026-00000101", "The requested range cannot be satisfied."),
    "QpsLimitExceeded": _Kind(429, "0026-00000020", "Too many requests. Please slow down."),
    "InternalError": _Kind(500, "0006-00000001", "We encountered an internal error. Please try again."),
    "NotImplemented": _Kind(501, "0017-00000002", "This emulator does not have the requested operation."),
    "ServiceUnavailable": _Kind(503, "0026-00000028", "Please reduce your request rate."),
}

CODES = frozenset(_KINDS)


class Refused(Exception):
    """A request is answered with an OSS error instead of a result.

    `extras` become elements of the XML (BucketName, Key, ...); `headers` are added to the answer's head.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        status: int = 0,
        ec: str = "",
        headers: dict[str, str] | None = None,
        extras: dict[str, str] | None = None,
    ) -> None:
        kind = _KINDS.get(code, _KINDS["InternalError"])
        super().__init__(f"{code}: {message or kind.message}")
        self.code = code
        self.status = status or kind.status
        self.message = message or kind.message
        self.ec = ec or kind.ec
        self.headers = headers or {}
        self.extras = extras or {}


def invalid_argument(name: str, value: str, message: str) -> Refused:
    """Return the refusal of an argument, naming it as OSS does."""
    return Refused("InvalidArgument", message, extras={"ArgumentName": name, "ArgumentValue": value})


def not_implemented(name: str, message: str) -> Refused:
    """Return the refusal of what this server does not have, naming what asked for it."""
    return Refused("NotImplemented", message, extras={"ArgumentName": name} if name else None)
