"""What is said about a request that failed: operation, object, OSS's answer, attempts, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import OssError, OssServiceError, service_error
from ..protocol.answers import NOT_OSS
from ..protocol.endpoint import endpoint_in
from ..protocol.heads import ResponseHead
from ..protocol.values import Buffer, Request
from ..protocol.xml import parse_error
from ..redaction import MAX_NAME_LETTERS, Secret, printable, without

_MAX_MESSAGE = 300
_MAX_EC = 40
_WRONG_REGION_EC = "0002-00000226"
_VERSION_1_EC = "0002-00000080"
_HOST = re.compile(r"[A-Za-z0-9.-]{1,200}").fullmatch
_MAX_PLACE = 1200  # a bucket's name, and a key of 1,023 bytes

_ADVICE = {
    "NoSuchBucket": "check the bucket's name, and that the endpoint is the one of its region",
    "NoSuchKey": "check the key, upper and lower case included",
    "NoSuchUpload": "the multipart upload was completed, aborted or cleaned up",
    "AccessDenied": "check the permissions of these credentials, and that the endpoint is the bucket's",
    "InvalidAccessKeyId": "check the access key id in the credential file or provider",
    "SignatureDoesNotMatch": "check the access key secret, and region=",
    "SecurityTokenExpired": "renew the temporary credentials: the source was read again and still gave expired ones",
    "InvalidSecurityToken": "check the security token: it must belong to the access key",
    "RequestTimeTooSkewed": "set this machine's clock",
    "InvalidObjectState": "the object is archived: restore it first",
}


def subject(request: Request) -> str:
    """Return operation and object, or prefix, in one printable phrase: `GetObject oss://bucket/key`."""
    name = request.key or dict(request.query).get("prefix") or ""
    place = f"oss://{request.bucket}/{name}" if request.bucket else "the service"
    return f"{request.operation} {printable(place, _MAX_PLACE)}"


def circumstances(attempts: int, request_id: str, ec: str = "") -> str:
    """Return what OSS's support asks for first: `[request id 5C3D9175B6FC201293AD4890, EC 0003-00000001, 3 attempts]`.

    `ec` is OSS's number of the exact cause, which its documents are searched by.
    """
    facts = [f"request id {printable(request_id, MAX_NAME_LETTERS)}"] if request_id else []
    facts += [f"EC {printable(ec, _MAX_EC)}"] if ec else []
    return f"[{', '.join([*facts, '1 attempt' if attempts == 1 else f'{attempts} attempts'])}]"


def refusal_of(
    request: Request,
    sent_headers: Iterable[tuple[str, str]],
    head: ResponseHead,
    body: Buffer,
    attempts: int,
    region: str,
) -> OssServiceError:
    """Return the error for an answer that refuses a request which was sent with these headers."""
    fault = parse_error(body, head)
    # A proxy's error page may echo what it was sent.
    sent = [value for _, value in sent_headers if isinstance(value, Secret)]
    sent += [Secret(value.rpartition("Signature=")[2].rpartition(":")[2]) for value in sent]  # of version 4, and of 1
    return refusal(
        request,
        status=head.status,
        code=without(fault.code, sent),
        message=without(fault.message, sent),
        request_id=without(fault.request_id or head.get("x-oss-request-id"), sent),
        ec=without(fault.ec, sent),
        attempts=attempts,
        endpoint=fault.endpoint or endpoint_in(head.get("location"), request.bucket),
        region=region,
    )


def refusal(
    request: Request,
    *,
    status: int,
    code: str,
    message: str,
    request_id: str,
    ec: str,
    attempts: int,
    endpoint: str = "",
    region: str = "",
) -> OssServiceError:
    """Return the error for OSS's answer to `request`.

    `endpoint` is the one that OSS names as the bucket's, `region` the one that the request was signed for.
    """
    code, request_id = printable(code, MAX_NAME_LETTERS), printable(request_id, MAX_NAME_LETTERS)
    said = (str(status), code, f"({printable(message, _MAX_MESSAGE)})" if message else "")
    answer = " ".join(part for part in said if part)
    who = "OSS" if request_id else NOT_OSS
    text = f"{subject(request)}: {who} answered {answer} {circumstances(attempts, request_id, ec)}"
    advice = _advice(code, message, ec, endpoint, region)
    if advice:
        text += f"; {advice}"
    return service_error(text, status=status, code=code, request_id=request_id)


def _advice(code: str, message: str, ec: str, endpoint: str, region: str) -> str:
    if _HOST(endpoint):
        return f"the bucket is reached elsewhere: pass endpoint='https://{endpoint}' (or its internal one)"
    if ec == _WRONG_REGION_EC or "signing region" in message:
        return f"check region=: the request was signed for {region or 'none'}, which is not the endpoint's"
    if ec == _VERSION_1_EC:
        return "OSS takes no signatures of version 1 here: pass region='cn-...', the bucket's, for version 4"
    return _ADVICE.get(code, "")


def retried(error: OssError, *, next_attempt: int, delay_seconds: float, left_seconds: float, untold: int) -> str:
    """Return the log's line about a request that failed and is sent again."""
    line = f"{error}; sent again in {delay_seconds:.2g} s as attempt {next_attempt}, for {left_seconds:.0f} s at most"
    return f"{line} ({untold} more retries there since the last such line)" if untold else line


def with_reason(error: OssError, reason: str) -> OssError:
    """Return `error`, its text saying why nothing more was done."""
    error.args = (f"{error}; {reason}",)
    return error
