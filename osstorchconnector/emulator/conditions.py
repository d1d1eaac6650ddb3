"""Conditional requests and ranges, as OSS has them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..protocol.heads import parse_http_date
from .refusals import Refused

_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)


def check_conditions(headers: Mapping[str, str], etag: str, modified: int, prefix: str = "") -> None:
    """Refuse with 304 or 412 where the object is not what the headers ask for.

    ETags may be quoted or bare, in either case; `prefix` is that of a copy source's conditions.
    """
    wanted = headers.get(f"{prefix}if-match")
    if wanted is not None:
        if not _lists(wanted, etag):
            raise Refused("PreconditionFailed", extras={"Condition": "If-Match"})
    elif _is_modified_after(headers.get(f"{prefix}if-unmodified-since"), modified):
        raise Refused("PreconditionFailed", extras={"Condition": "If-Unmodified-Since"})
    unwanted = headers.get(f"{prefix}if-none-match")
    if unwanted is not None:
        if _lists(unwanted, etag):
            raise Refused("NotModified")
    elif _is_modified_after(headers.get(f"{prefix}if-modified-since"), modified) is False:
        raise Refused("NotModified")


def _lists(header: str, etag: str) -> bool:
    return header.strip() == "*" or etag in [item.strip().strip('"').upper() for item in header.split(",")]


def _is_modified_after(date: str | None, modified: int) -> bool | None:
    """Return whether the object is newer than `date`; None where that is no date, which OSS ignores."""
    moment = parse_http_date(date) if date is not None else None
    return None if moment is None else modified > moment


def resolve_range(header: str | None, size: int, *, is_standard: bool) -> tuple[int, int] | None:
    """Return start and stop of the part a `Range` asks for; None for the whole object.

    By default OSS ignores a range that does not lie within the object. With `x-oss-range-behavior: standard` its end
    is clipped, and a start beyond the object is refused with 416. Garbage and several ranges are ignored in both.
    """
    match = _RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[0] == "bytes=-":
        return None
    if not match[1]:
        suffix = int(match[2])
        start, last = size - suffix, size - 1
    else:
        start, last = int(match[1]), int(match[2]) if match[2] else max(size - 1, int(match[1]))
    if last < start and match[1]:
        return None
    if not is_standard:
        return (start, last + 1) if 0 <= start <= last < size else None
    start = max(start, 0)
    if start >= size:
        raise Refused("InvalidRange", headers={"Content-Range": f"bytes */{size}"})
    return start, min(last + 1, size)
