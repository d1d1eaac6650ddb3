"""Whether an answer is OSS's answer to this very request.

A login page, a proxy or a cache can answer anything with 200. So an answer is believed only if it shows that it comes
from OSS and belongs to the request:

- its status is one that OSS documents for the operation, and it has OSS's request id;
- an answer to an upload has the CRC-64 of what was stored: only a server that has read all of it can know that;
- each page of a listing continues where the last one ended (`PageOrder`, `follow`), and holds only names that were
  asked for (`check_within`): a cache may repeat a page, or send one of another listing.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from itertools import pairwise
from typing import TypeVar

from ..errors import OssProtocolError
from .heads import ResponseHead, parse_crc64
from .values import ListPage

REQUEST_ID = "x-oss-request-id"
NOT_OSS = "something on the way that is not OSS (a proxy, a cache, a login page)"

_OK, _NO_CONTENT = frozenset({200}), frozenset({204})

# GetObject is answered by 200 for a whole object, by 206 for a span. The client checks which of them is right.
GOOD_STATUSES: Mapping[str, frozenset[int]] = {
    "GetObject": frozenset({200, 206}),
    "HeadObject": _OK,
    "PutObject": _OK,
    "AppendObject": _OK,
    "CopyObject": _OK,
    "DeleteObject": _NO_CONTENT,
    "DeleteMultipleObjects": _OK,
    "ListObjectsV2": _OK,
    "InitiateMultipartUpload": _OK,
    "UploadPart": _OK,
    "UploadPartCopy": _OK,
    "CompleteMultipartUpload": _OK,
    "AbortMultipartUpload": _NO_CONTENT,
    "ListParts": _OK,
    "ListMultipartUploads": _OK,
    "ListBuckets": _OK,
    "PutBucket": _OK,
}
# Callers conclude from these refusals which objects are stored.
_STATUSES_ABOUT_OBJECTS = frozenset({404, 409, 412, 416})


def why_not(operation: str, head: ResponseHead) -> str:
    """Return why a 2xx answer can't be OSS's answer to this operation: a text for an error."""
    if REQUEST_ID not in head.headers:
        return f"{NOT_OSS} answered {head.status}: the answer has no {REQUEST_ID}"
    wanted = " or ".join(map(str, sorted(GOOD_STATUSES[operation])))
    return f"answered {head.status}, where OSS answers {wanted}"


def is_hearsay(status: int, request_id: str) -> bool:
    """Say whether a refusal is about an object but not from OSS: a proxy's 404 is no proof that it is missing."""
    return status in _STATUSES_ABOUT_OBJECTS and not request_id


def stored_crc64(head: ResponseHead) -> int:
    """Return the CRC-64 of what an upload stored; `OssProtocolError` if the answer has none."""
    crc = parse_crc64(head.get("x-oss-hash-crc64ecma"))
    if crc is None:
        raise OssProtocolError(
            f"answered {head.status} without x-oss-hash-crc64ecma: nothing shows that the data was stored"
        )
    return crc


# --- pages of listings


Marker = TypeVar("Marker", int, str, tuple[str, str])


class PageOrder:
    """What one listing has shown so far: each further page must continue from there.

    OSS lists in UTF-8 byte order, which is the order of Python's strings. So a key, a page or a token that comes a
    second time is out of order. To follow it would list objects twice, or never end.
    """

    def __init__(self, start_after: str = "") -> None:
        self._last_key = start_after
        self._last_prefix = ""
        self._tokens: set[str] = set()  # those of the last page that was not empty, and of the empty pages after it

    def accept(self, page: ListPage) -> ListPage:
        """Return `page` if it continues where the last one ended; else raise `OssProtocolError` and change nothing."""
        keys = page.keys
        for names, last, what in ((keys, self._last_key, "key"), (page.prefixes, self._last_prefix, "common prefix")):
            _check_rising(names, last, what)
        token = page.next_token
        if token and token in self._tokens:
            raise OssProtocolError("the listing goes round in a circle: a page leads back to one before it")
        if keys or page.prefixes:
            self._tokens = set()
        self._tokens.add(token)
        if keys:
            self._last_key = keys[-1]
        if page.prefixes:
            self._last_prefix = page.prefixes[-1]
        return page


def check_within(page: ListPage, prefix: str, delimiter: str) -> None:
    """Raise `OssProtocolError` for a page with a name outside `prefix`, or with a key beyond a delimiter.

    The names must be in order (`PageOrder` checks that): so only the first and the last need to be compared with the
    prefix.
    """
    for names in (page.keys, page.prefixes):
        for name in (*names[:1], *names[-1:]):
            if not name.startswith(prefix):
                raise OssProtocolError(f"the listing of {prefix!r} has a name outside it: {name!r}")
    if not delimiter:
        if page.prefixes:
            raise OssProtocolError(f"the listing has a common prefix, {page.prefixes[0]!r}, and was not asked for any")
        return
    start = len(prefix)
    for key in page.keys:
        if key.find(delimiter, start) >= 0:
            raise OssProtocolError(f"the listing has the key {key!r} behind the delimiter {delimiter!r}")
    for folder in page.prefixes:
        if folder.find(delimiter, start) != len(folder) - len(delimiter):
            raise OssProtocolError(f"the listing has the common prefix {folder!r} by the delimiter {delimiter!r}")


def follow(marker: Marker, seen: set[Marker]) -> Marker:
    """Return the marker where a list of parts or of uploads continues; `OssProtocolError` if it was there before."""
    if marker in seen:
        raise OssProtocolError(f"the listing goes round in a circle: it is at {marker!r} again")
    seen.add(marker)
    return marker


def _check_rising(names: list[str], last: str, what: str) -> None:
    if not names or (last < names[0] and all(map(operator.lt, names, names[1:]))):
        return
    before, name = next(pair for pair in pairwise([last, *names]) if pair[1] <= pair[0])
    raise OssProtocolError(f"the listing goes backwards: the {what} {name!r} comes after {before!r}")
