"""OSS's errors: each code has a status, an EC number and a message."""

from __future__ import annotations

from typing import NamedTuple


class _Kind(NamedTuple):
    status: int
    ec: str
    message: str


_KINDS = {
    "NotModified": _Kind(304, "0015-00000305", "The object has not been modified since then."),
    "BadRequest": _Kind(400, "0001-00000001", "The request is not understood."),
    "EntityTooLarge": _Kind(400, "0017-00000701", "Your proposed upload exceeds the maximum allowed size."),
    "EntityTooSmall": _Kind(400, "0042-00000213", "Your proposed upload smaller than the minimum allowed size."),
    "InvalidArgument": _Kind(400, "0017-00000504", "An argument is invalid."),
    "InvalidBucketName": _Kind(400, "0015-00000001", "The specified bucket is not valid."),
    "InvalidDigest": _Kind(400, "0016-00000004", "The Content-MD5 you specified was invalid."),
    "InvalidEncryptionAlgorithmError": _Kind(400, "0016-00000206", "The encryption algorithm specified is not valid."),
    "FieldItemTooLong": _Kind(400, "0016-00000106", "Your name of form field is too long."),
    "IncorrectNumberOfFilesInPOSTRequest": _Kind(
        400, "0006-00000105", "POST requires exactly one file upload per request."
    ),
    "InvalidPolicyDocument": _Kind(400, "0006-00000201", "Invalid policy document, please check."),
    "MalformedPOSTRequest": _Kind(
        400, "0006-00000101", "The body of your POST request is not well-formed multipart/form-data."
    ),
    "RequestIsNotMultiPartContent": _Kind(
        400, "0006-00000001", "Bucket POST must be of the enclosure-type multipart/form-data."
    ),
    "InvalidTag": _Kind(400, "0010-00000201", "The tag is not valid."),
    "InvalidTargetType": _Kind(400, "0026-00000011", "The symbolic's target file type is invalid."),
    "NotSymlink": _Kind(400, "0043-00000101", "The object is not symlink."),
    "OperationNotSupported": _Kind(400, "0016-00000702", "The operation is not supported for this resource."),
    "InvalidObjectName": _Kind(400, "0016-00000005", "The specified object is not valid."),
    "InvalidPart": _Kind(
        400,
        "0042-00000005",
        "One or more of the specified parts could not be found or the specified entity tag might not have matched "
        "the part's entity tag.",
    ),
    "InvalidPartOrder": _Kind(400, "0042-00000004", "The list of parts was not in ascending order."),
    "MalformedXML": _Kind(
        400,
        "0016-00000701",
        "The XML you provided was not well-formed or did not validate against our published schema.",
    ),
    "MissingArgument": _Kind(400, "0016-00000606", "A required argument is missing."),
    "RequestTimeout": _Kind(
        400,
        "0005-00000001",
        "Your socket connection to the server was not read from or written to within the timeout period. "
        "Idle connections will be closed.",
    ),
    "AccessDenied": _Kind(403, "0003-00000001", "You have no right to access this object because of bucket acl."),
    "InvalidAccessKeyId": _Kind(
        403, "0002-00000902", "The OSS Access Key Id you provided does not exist in our records."
    ),
    "InvalidObjectState": _Kind(403, "0021-00000001", "The operation is not valid for the object's state."),
    "InvalidSecurityToken": _Kind(403, "0002-00000006", "The security token you provided is invalid."),
    "RequestTimeTooSkewed": _Kind(
        403, "0002-00000504", "The difference between the request time and the current time is too large."
    ),
    "SecurityTokenExpired": _Kind(403, "0002-00000007", "The security token you provided has expired."),
    "SignatureDoesNotMatch": _Kind(
        403,
        "0002-00000001",
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
    ),
    "NoSuchBucket": _Kind(404, "0015-00000101", "The specified bucket does not exist."),
    "NoSuchKey": _Kind(404, "0026-00000001", "The specified key does not exist."),
    "NoSuchUpload": _Kind(
        404,
        "0042-00000002",
        "The specified upload does not exist. The upload ID may be invalid, "
        "or the upload may have been aborted or completed.",
    ),
    "SymlinkTargetNotExist": _Kind(404, "0026-00000012", "The symlink target object does not exist."),
    "MethodNotAllowed": _Kind(405, "0017-00000001", "The specified method is not allowed against this resource."),
    "BucketAlreadyExists": _Kind(409, "0015-00000104", "The requested bucket name is not available."),
    "BucketNotEmpty": _Kind(409, "0015-00000301", "The bucket has objects. Please delete them first."),
    "FileAlreadyExists": _Kind(
        409, "0026-00000002", "The object you specified already exists and can not be overwritten."
    ),
    "ObjectNotAppendable": _Kind(409, "0026-00000007", "The object is not appendable"),
    "PositionNotEqualToLength": _Kind(409, "0026-00000016", "Position is not equal to file length"),
    "RestoreAlreadyInProgress": _Kind(409, "0016-00000701", "The restore operation is in progress."),
    "MissingContentLength": _Kind(411, "0017-00000902", "You must provide the Content-Length HTTP header."),
    "PreconditionFailed": _Kind(412, "0026-00000009", "At least one of the pre-conditions you specified did not hold."),
    "InvalidRange": _Kind(416, "0026-00000101", "The requested range cannot be satisfied"),
    "QpsLimitExceeded": _Kind(429, "0026-00000020", "Too many requests. Please slow down."),
    "InternalError": _Kind(500, "0006-00000001", "We encountered an internal error. Please try again."),
    "NotImplemented": _Kind(501, "0017-00000002", "This emulator does not have the requested operation."),
    "ServiceUnavailable": _Kind(503, "0026-00000028", "Please reduce your request rate."),
}

CODES = frozenset(_KINDS)
# Additions to OSS's messages, for those who see them as a Python error.
_HINTS = {"InvalidBucketName": ": 3 to 63 lower-case letters, digits and hyphens, no hyphen first or last"}
# The extras that name the bucket or object of a refusal.
_NAMES = ("BucketName", "ObjectName", "Key")


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
        named = [extras[name] for name in _NAMES if name in extras] if extras else []
        about = f" ({'/'.join(named)})" if named else ""
        super().__init__(f"{code}: {message or kind.message}{about}{_HINTS.get(code, '')}")
        self.code = code
        self.status = status or kind.status
        self.message = message or kind.message
        self.ec = ec or kind.ec
        self.headers = headers or {}
        self.extras = extras or {}


def invalid_argument(name: str, value: str, message: str, *, ec: str = "") -> Refused:
    """Return the refusal of an argument, which it names as OSS does."""
    return Refused("InvalidArgument", message, ec=ec, extras={"ArgumentName": name, "ArgumentValue": value})


def not_implemented(name: str, message: str) -> Refused:
    """Return the refusal of a missing feature; `name` is the header or parameter that asks for it."""
    return Refused("NotImplemented", message, extras={"ArgumentName": name} if name else None)
