"""What OSS demands of a request and moto does not, and how OSS reads a range. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import datetime
from email.utils import parsedate_to_datetime

from .messages import OssRequest, Refusal

MAX_KEY_BYTES = 1023
MAX_PAGE = 1000
MAX_PART_NUMBER = 10000
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def check_names(request: OssRequest) -> None:
    """Refuse names that OSS does not allow."""
    if request.bucket and not _BUCKET.fullmatch(request.bucket):
        raise Refusal(400, "InvalidBucketName", "The specified bucket is not valid.", BucketName=request.bucket)
    try:
        length_bytes = len(request.key.encode())
    except UnicodeEncodeError:
        raise Refusal(400, "InvalidObjectName", "The specified object is not valid: no UTF-8.") from None
    if length_bytes > MAX_KEY_BYTES or request.key.startswith(("/", "\\")):
        raise Refusal(400, "InvalidObjectName", "The specified object is not valid.", ObjectName=request.key)


def check_body(request: OssRequest) -> None:
    """Refuse a body of unknown length and one that is not the one its Content-MD5 tells of."""
    if not request.has_length:
        raise Refusal(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
    expected = request.headers.get("content-md5", "")
    if expected and expected != content_md5(request.body):
        raise Refusal(400, "InvalidDigest", "The Content-MD5 you specified is not valid.")


def content_md5(body: bytes) -> str:
    return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()


def page_size(request: OssRequest, name: str, default: int) -> int:
    """Return a page's length: 1 to 1000."""
    return number(request, name, default, low=1, high=MAX_PAGE)


def number(request: OssRequest, name: str, default: int | None, *, low: int, high: int) -> int:
    """Return an integer parameter, or refuse it as 400 InvalidArgument."""
    text = request.query.get(name, "")
    if not text and default is not None:
        return default
    if not (text.isascii() and text.isdigit()) or not low <= int(text) <= high:
        raise Refusal(
            400,
            "InvalidArgument",
            f"Argument {name} must be an integer between {low} and {high}.",
            ArgumentName=name,
            ArgumentValue=text,
        )
    return int(text)


def forbids_overwrite(request: OssRequest) -> bool:
    text = request.headers.get("x-oss-forbid-overwrite", "false").lower()
    if text not in ("true", "false"):
        raise Refusal(400, "InvalidArgument", "x-oss-forbid-overwrite is neither true nor false")
    return text == "true"


def effective_range(header: str, size: int, *, is_standard: bool) -> str:
    """Return the `Range` to ask moto for, which reads ranges the standard way; "" for the whole object.

    Without `x-oss-range-behavior: standard` OSS takes a range literally or not at all: one that is not wholly
    inside the object gets the whole object.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return ""
    first, last = (int(text) if text else None for text in match.groups())
    if first is not None and last is not None and last < first:
        return ""
    if is_standard:
        return header.strip()
    is_inside = size > 0 and (
        (first is None and last is not None and 0 < last <= size)
        or (first is not None and first < size and (last is None or last < size))
    )
    return header.strip() if is_inside else ""


def check_copy_conditions(request: OssRequest, etag: str, last_modified: datetime) -> None:
    """Refuse a copy whose source is not as the request wants it; ETags are compared without case and quotes."""
    headers = request.headers
    bare = etag.strip('"').lower()
    if _bare(headers, "x-oss-copy-source-if-match", bare) != bare:
        raise Refusal(412, "PreconditionFailed", Condition="x-oss-copy-source-if-match")
    if _bare(headers, "x-oss-copy-source-if-none-match", "") == bare:
        raise Refusal(304, "NotModified")
    unmodified_since = headers.get("x-oss-copy-source-if-unmodified-since")
    if unmodified_since and last_modified > parsedate_to_datetime(unmodified_since):
        raise Refusal(412, "PreconditionFailed", Condition="x-oss-copy-source-if-unmodified-since")
    modified_since = headers.get("x-oss-copy-source-if-modified-since")
    if modified_since and last_modified <= parsedate_to_datetime(modified_since):
        raise Refusal(304, "NotModified")


def _bare(headers: dict[str, str], name: str, default: str) -> str:
    return headers.get(name, default).strip().strip('"').lower()
