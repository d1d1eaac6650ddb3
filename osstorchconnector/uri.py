"""Names of objects: `oss://bucket/key`, or `/bucket/key` as the C++ connector writes them. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import OssUriError
from .redaction import printable

MAX_KEY_BYTES = 1023
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


class OssUri(NamedTuple):
    """A bucket and a key (or a key's beginning: `key` may be empty)."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"oss://{self.bucket}/{self.key}"

    @property
    def shown(self) -> str:
        """The URI as it may stand in an error or a log: a key may hold what forges a line or steers a terminal."""
        return printable(str(self), len(f"oss://{self.bucket}/") + MAX_KEY_BYTES)

    @property
    def path(self) -> str:
        """The form `/bucket/key`, which `DataObject.key` has."""
        return f"/{self.bucket}/{self.key}"


def parse_uri(text: str) -> OssUri:
    """Return bucket and key of `oss://bucket/key`, `/bucket/key` or a bucket alone.

    The key is taken as it stands, nothing is decoded: `%20` in a URI is three characters of the key.
    Raises `OssUriError` for anything else, and for a bucket or key that OSS does not allow.
    """
    if not isinstance(text, str):
        raise OssUriError(f"not an OSS URI: {text!r} is a {type(text).__name__}, not a string")
    if text.startswith("oss://"):
        rest = text[len("oss://") :]
    elif text.startswith("/"):
        rest = text[1:]
    else:
        raise OssUriError(f"not an OSS URI: {text!r} (write oss://bucket/key or /bucket/key)")
    bucket, _, key = rest.partition("/")
    return OssUri(checked_bucket(bucket, text), checked_key(key, text))


def parse_object_uri(text: str) -> OssUri:
    """As `parse_uri`, for a place that needs one object: an empty key is an `OssUriError` too."""
    uri = parse_uri(text)
    if not uri.key:
        raise OssUriError(f"no object named in {text!r}: the key is empty (write oss://bucket/key)")
    return uri


def checked_bucket(bucket: str, where: str) -> str:
    """Return the name of a bucket, or raise `OssUriError` naming `where` if it can't be one."""
    if _BUCKET.fullmatch(bucket):
        return bucket
    if "@" in bucket:
        raise OssUriError(f"no user or password belongs into a URI: '...@{bucket.rpartition('@')[2]}'")
    raise OssUriError(
        f"no valid bucket name in {where!r}: {bucket!r} (3 to 63 of a-z, 0-9 and '-', a letter or digit at both ends)"
    )


def checked_key(key: str, where: str) -> str:
    """Return `key`, or raise `OssUriError` naming `where` if OSS would refuse it."""
    try:
        length_bytes = len(key.encode())
    except UnicodeEncodeError as error:
        raise OssUriError(f"the key in {where!r} is not valid Unicode: {error.reason}") from None
    if length_bytes > MAX_KEY_BYTES:
        raise OssUriError(f"the key in {where!r} has {length_bytes} bytes; OSS allows {MAX_KEY_BYTES}")
    if key.startswith(("/", "\\")):
        raise OssUriError(f"the key in {where!r} starts with {key[0]!r}, which OSS does not allow")
    return key
