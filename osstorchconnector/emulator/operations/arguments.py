"""What several operations read from a request: headers to store, limits, conditions, ranges. Refuses wrong values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from time import gmtime, strftime

from ...protocol.heads import http_date, parse_http_date
from ..documents import Encode, url_encoded
from ..exchange import Call
from ..interface import CONDITIONS
from ..refusals import Refused, invalid_argument
from ..routing import MAX_KEY_BYTES

_KEPT_HEADERS = {
    "content-type": "Content-Type",
    "cache-control": "Cache-Control",
    "content-disposition": "Content-Disposition",
    "content-encoding": "Content-Encoding",
    "content-language": "Content-Language",
    "expires": "Expires",
}
STORAGE_CLASSES = ("Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive")
DEFAULT_TYPE = "application/octet-stream"
MAX_METADATA_BYTES = 8 * 1024
BUCKET_ACLS = ("private", "public-read", "public-read-write")
_METADATA_NAME = re.compile(r"x-oss-meta-[a-z0-9-]*").fullmatch
_ALGORITHMS = ("AES256", "KMS", "SM4")
TRAFFIC_LIMIT = "x-oss-traffic-limit"
DEFAULT_KMS_KEY = (
    "00000000-0000-4000-8000-000000000000"  # used where the request names no key; the live service does the same
)
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)
_ENCRYPTION = "x-oss-server-side-encryption"


def object_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a write that are stored with the object and returned with it."""
    kept = {shown: headers[name] for name, shown in _KEPT_HEADERS.items() if headers.get(name)}
    metadata = {name: value for name, value in headers.items() if name.startswith("x-oss-meta-")}
    if metadata:
        _check_metadata(metadata)
        kept.update(metadata)
    kept.setdefault("Content-Type", DEFAULT_TYPE)
    kept.update(encryption(headers))
    return kept


def _check_metadata(metadata: Mapping[str, str]) -> None:
    """Refuse metadata that is too large or has invalid names."""
    size = sum(len(name.encode()) + len(value.encode()) for name, value in metadata.items())
    wrong = next((name for name in metadata if not _METADATA_NAME(name)), "")
    if wrong or size > MAX_METADATA_BYTES:
        message = f"The user metadata has {size} bytes, 8 KB are allowed." if not wrong else "No name of user metadata."
        raise invalid_argument(wrong or "x-oss-meta-*", "", message, ec="0011-00000002")


def encryption(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of server-side encryption. They are stored and returned, but nothing is encrypted."""
    wanted = {name: value for name, value in headers.items() if name.startswith("x-oss-server-side-")}
    if not wanted:
        return wanted
    if wanted.get(_ENCRYPTION) not in _ALGORITHMS:
        raise Refused("InvalidEncryptionAlgorithmError", extras={"ArgumentName": _ENCRYPTION})
    if len(wanted) > 1 and wanted[_ENCRYPTION] != "KMS":
        name = next(name for name in wanted if name != _ENCRYPTION)
        raise invalid_argument(name, wanted[name], "Only x-oss-server-side-encryption: KMS goes with it.")
    if wanted.get("x-oss-server-side-data-encryption", "SM4") != "SM4":
        raise Refused("InvalidEncryptionAlgorithmError", extras={"ArgumentName": "x-oss-server-side-data-encryption"})
    if wanted[_ENCRYPTION] == "KMS":
        wanted.setdefault("x-oss-server-side-encryption-key-id", DEFAULT_KMS_KEY)
    return wanted


def encryption_of(kept: Mapping[str, str]) -> dict[str, str]:
    """Return the encryption headers among those stored with an object."""
    return {name: value for name, value in kept.items() if name.startswith("x-oss-server-side-")}


def traffic_limit(call: Call) -> int:
    """Return a request's own limit in bytes per second, 0 for none."""
    name = TRAFFIC_LIMIT
    text = call.headers.get(name, "")
    if call.query and call.has_parameter(name):
        if text:
            raise invalid_argument(name, text, "It stands in the headers and in the query.", ec="0004-00000501")
        text = call.parameter(name)
    elif name not in call.headers:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 20 and 245_760 <= int(text) <= 838_860_800):
        raise invalid_argument(name, text, "Must be 245760 to 838860800 bit/s.", ec="0004-00000502")
    return int(text) // 8


def storage_class(headers: Mapping[str, str], default: str = "Standard") -> str:
    value = headers.get("x-oss-storage-class", default)
    if value not in STORAGE_CLASSES:
        raise invalid_argument("x-oss-storage-class", value, "No such storage class.")
    return value


def forbids_overwrite(headers: Mapping[str, str]) -> bool:
    value = headers.get("x-oss-forbid-overwrite", "false").lower()
    if value not in ("true", "false"):
        raise invalid_argument("x-oss-forbid-overwrite", value, "Must be true or false.", ec="0017-00000279")
    return value == "true"


def whole_number(call: Call, name: str, *, default: int, least: int, most: int) -> int:
    """Return a query parameter that must be a number within limits, or `default` if it is missing or empty."""
    text = call.parameter(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise invalid_argument(name, text, f"Argument {name} must be an integer between {least} and {most}.")
    return int(text)


def short_name(call: Call, name: str, ec: str = "") -> str:
    """Return a query parameter that is a key or its beginning; refuse one that is too long."""
    text = call.parameter(name)
    if len(text.encode()) > MAX_KEY_BYTES:
        raise invalid_argument(name, text[:100], f"The length of {name} must be less than 1024.", ec=ec)
    return text


def listing_encoding(call: Call) -> tuple[str | None, Encode]:
    """Return the `EncodingType` that a call asks for, and the function that encodes."""
    wanted = call.parameter("encoding-type")
    if not wanted:
        return None, str
    if wanted != "url":
        raise invalid_argument("encoding-type", wanted, "Invalid Encoding Method specified in Request.")
    return wanted, url_encoded


http_time = lru_cache(maxsize=4096)(http_date)


@lru_cache(maxsize=4096)
def iso_time(epoch_seconds: int) -> str:
    """Return a time in the format of XML documents: `2025-03-14T15:09:26.000Z`."""
    return strftime("%Y-%m-%dT%H:%M:%S.000Z", gmtime(epoch_seconds))


def missing(name: str) -> Refused:
    return Refused("MissingArgument", f"The {name} is required.", extras={"ArgumentName": name})


def check_conditions(headers: Mapping[str, str], etag: str, modified: int, prefix: str = "") -> None:
    """Refuse with 304 or 412 an object that does not meet the conditions in the headers.

    ETags may be quoted or not, in upper or lower case. `prefix` is that of the headers for a copy's source.
    """
    if not prefix and CONDITIONS.isdisjoint(headers):
        return
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
    """Return whether the object is newer than `date`, or None for an invalid date, which OSS ignores."""
    moment = parse_http_date(date) if date is not None else None
    return None if moment is None else modified > moment


def resolve_range(header: str | None, size: int, *, is_standard: bool) -> tuple[int, int] | None:
    """Return start and stop of the span that a `Range` asks for, or None for the whole object.

    By default OSS ignores a range that is not within the object. With `x-oss-range-behavior: standard` it clips the
    end, and refuses a start after the object's end with 416. It always ignores invalid values and several ranges.
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
