"""Which answers come from OSS and belong to the operation that was asked for. Pure.

A login page, a proxy or a cache can answer anything with 200. So an operation accepts the statuses that OSS documents
for it and no others, and every answer must carry OSS's request id. An answer to an upload must also carry the CRC-64
of what was stored: only a server that has read all of it can know that.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..errors import OssProtocolError
from .heads import ResponseHead, parse_crc64

# Every answer of OSS has a request id.
REQUEST_ID = "x-oss-request-id"
NOT_OSS = "something on the way that is not OSS (a proxy, a cache, a login page)"

_OK, _NO_CONTENT = frozenset({200}), frozenset({204})

# GetObject is answered by 200 for a whole object and by 206 for a part. `GetAttempt` checks which of them is right.
GOOD_STATUSES: Mapping[str, frozenset[int]] = {
    "GetObject": frozenset({200, 206}),
    "HeadObject": _OK,
    "PutObject": _OK,
    "CopyObject": _OK,
    "DeleteObject": _NO_CONTENT,
    "DeleteMultipleObjects": _OK,
    "ListObjectsV2": _OK,
    "InitiateMultipartUpload": _OK,
    "UploadPart": _OK,
    "CompleteMultipartUpload": _OK,
    "AbortMultipartUpload": _NO_CONTENT,
    "ListParts": _OK,
    "ListMultipartUploads": _OK,
}
# From these refusals callers conclude what is stored.
_STATUSES_ABOUT_OBJECTS = frozenset({404, 409, 412, 416})


def why_not(operation: str, head: ResponseHead) -> str:
    """Return why a 2xx answer can't be OSS's answer to this operation."""
    if REQUEST_ID not in head.headers:
        return f"{NOT_OSS} answered {head.status}: the answer has no {REQUEST_ID}"
    wanted = " or ".join(map(str, sorted(GOOD_STATUSES[operation])))
    return f"answered {head.status}, where OSS answers {wanted}"


def is_hearsay(status: int, request_id: str) -> bool:
    """Say whether a refusal is about an object but not from OSS: a proxy's 404 does not mean that it is missing."""
    return status in _STATUSES_ABOUT_OBJECTS and not request_id


def stored_crc64(head: ResponseHead) -> int:
    """Return the CRC-64 of what an upload stored; `OssProtocolError` if the answer has none."""
    crc = parse_crc64(head.get("x-oss-hash-crc64ecma"))
    if crc is None:
        raise OssProtocolError(
            f"answered {head.status} without x-oss-hash-crc64ecma: nothing shows that the data was stored"
        )
    return crc
