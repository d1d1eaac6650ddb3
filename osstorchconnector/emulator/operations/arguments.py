"""Reading the arguments that several operations share; a wrong one is refused as OSS refuses it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from time import gmtime, strftime

from ...client.signing import http_date
from ..documents import Encode, url_encoded
from ..exchange import Call
from ..refusals import Refused, invalid_argument

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


def object_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a write that are kept with the object and sent back with it."""
    kept = {shown: headers[name] for name, shown in _KEPT_HEADERS.items() if headers.get(name)}
    kept.update({name: value for name, value in headers.items() if name.startswith("x-oss-meta-")})
    kept.setdefault("Content-Type", DEFAULT_TYPE)
    return kept


def storage_class(headers: Mapping[str, str], default: str = "Standard") -> str:
    value = headers.get("x-oss-storage-class", default)
    if value not in STORAGE_CLASSES:
        raise invalid_argument("x-oss-storage-class", value, "No such storage class.")
    return value


def forbids_overwrite(headers: Mapping[str, str]) -> bool:
    value = headers.get("x-oss-forbid-overwrite", "false").lower()
    if value not in ("true", "false"):
        raise invalid_argument("x-oss-forbid-overwrite", value, "Must be true or false.")
    return value == "true"


def whole_number(call: Call, name: str, *, default: int, least: int, most: int) -> int:
    """Return a query parameter that must be a number within limits; absent or empty is the default."""
    text = call.parameter(name)
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 20 and least <= int(text) <= most):
        raise invalid_argument(name, text, f"Argument {name} must be an integer between {least} and {most}.")
    return int(text)


def listing_encoding(call: Call) -> tuple[str | None, Encode]:
    """Return the `EncodingType` a call asks for and the function that goes with it."""
    wanted = call.parameter("encoding-type")
    if not wanted:
        return None, str
    if wanted != "url":
        raise invalid_argument("encoding-type", wanted, "Invalid Encoding Method specified in Request.")
    return wanted, url_encoded


http_time = lru_cache(maxsize=4096)(http_date)


@lru_cache(maxsize=4096)
def iso_time(epoch_seconds: int) -> str:
    """Return a time as XML documents have it: `2025-03-14T15:09:26.000Z`."""
    return strftime("%Y-%m-%dT%H:%M:%S.000Z", gmtime(epoch_seconds))


def missing(name: str) -> Refused:
    return Refused("MissingArgument", f"The {name} is required.", extras={"ArgumentName": name})
