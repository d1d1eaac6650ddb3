"""Names of objects: `oss://bucket/key`, or `/bucket/key`, the form of the C++ connector."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, cast

from .errors import OssUriError
from .leftovers import refuse_leftovers
from .redaction import shortened

refuse_leftovers()

SCHEME = "oss://"
MAX_KEY_BYTES = 1023
# How much of a URI an error shows.
MAX_SHOWN_LETTERS = 200
# What a local path may begin with (`OssClient("")`). A client of OSS refuses it if it can't be a bucket's name.
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


class OssUri(NamedTuple):
    """A bucket and a key, or a bucket and a prefix of keys. `key` may be empty.

    `str(uri)` is `oss://bucket/key`.
    """

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"oss://{self.bucket}/{self.key}"

    @property
    def shown(self) -> str:
        """The URI for errors and logs: printable, and a very long one without its middle."""
        return shortened(str(self), MAX_SHOWN_LETTERS)

    @property
    def path(self) -> str:
        """The form `/bucket/key`, the same as `DataObject.key`."""
        return f"/{self.bucket}/{self.key}"


class MemberUri(OssUri):
    """A member of a tar: `bucket` is the tar's, `key` is the member's name in it, "" if that is not known yet.

    `start` and `stop` are where it lies in the tar, from its first header to the next member's, in bytes. With
    `is_sample` it is several members, side by side, that share this beginning of their names.
    `str(uri)` is `oss://bucket/name.tar!/member`.
    """

    __slots__ = ()

    def __new__(cls, bucket: str, key: str, tar_key: str, start: int, stop: int, is_sample: bool = False) -> MemberUri:
        return tuple.__new__(cls, (bucket, key, tar_key, start, stop, is_sample))

    def __getnewargs__(self) -> Any:
        return tuple(self)

    def __str__(self) -> str:
        return f"{self.tar}!/{self.key}" if self.key else f"{self.tar}!/@{self.start}"

    def __repr__(self) -> str:
        return f"MemberUri{tuple(self)!r}"

    @property
    def tar(self) -> OssUri:
        """The tar."""
        return OssUri(self.bucket, self._field(2))

    @property
    def start(self) -> int:
        """The position of the member's first header in the tar."""
        return cast("int", self._field(3))

    @property
    def stop(self) -> int:
        """The position behind the member, and behind what follows it that is no member."""
        return cast("int", self._field(4))

    @property
    def is_sample(self) -> bool:
        """Whether this is several members that are one sample."""
        return cast("bool", self._field(5))

    @property
    def path(self) -> str:
        """The member's name, the same as `DataObject.key`."""
        return self.key

    def named(self, name: str) -> MemberUri:
        """Return the member with its name."""
        return MemberUri(self.bucket, name, self.tar.key, self.start, self.stop)

    def _field(self, number: int) -> Any:
        return tuple.__getitem__(self, number)


def parse_uri(text: str) -> OssUri:
    """Return bucket and key of `oss://bucket/key`, `/bucket/key` or a bucket alone.

    The key is not decoded: `%20` in a URI is three characters of the key. Raises `OssUriError` for any other text, and
    for a bucket or key that OSS does not allow. Only a path may begin with a name that no bucket has: it may be one of
    a local file.
    """
    if not isinstance(text, str):
        raise OssUriError(f"not an OSS URI: {text!r} is a {type(text).__name__}, not a string")
    if text.startswith(SCHEME):
        bucket, _, key = text[len(SCHEME) :].partition("/")
    elif text.startswith("/"):
        bucket, _, key = text[1:].partition("/")
        if _FOLDER.fullmatch(bucket):
            return OssUri(bucket, checked_key(key, text))
    else:
        raise OssUriError(f"not an OSS URI: {text!r} (write oss://bucket/key or /bucket/key)")
    return OssUri(checked_bucket(bucket, text), checked_key(key, text))


def parse_object_uri(text: str) -> OssUri:
    """Do the same as `parse_uri`, but also raise `OssUriError` for an empty key."""
    uri = parse_uri(text)
    if not uri.key:
        raise OssUriError(f"no object named in {text!r}: the key is empty (write oss://bucket/key)")
    return uri


def object_paths(texts: Iterable[str]) -> Iterator[str]:
    """Yield `bucket/key` of each text, as `parse_object_uri` reads it.

    A list may be long, and most of it names one bucket. So a text that begins as the one before, with a bucket that was
    found to be valid, and goes on with a plain key is not taken apart: that takes a fifth of the time (measured).
    """
    start = ""
    for text in texts:
        if start and isinstance(text, str) and text.startswith(start):
            key = text[len(start) :]
            if key.isascii() and 0 < len(key) <= MAX_KEY_BYTES and key[0] not in "/\\":
                yield text[len(SCHEME) :]
                continue
        uri = parse_object_uri(text)
        start = f"{SCHEME}{uri.bucket}/" if text.startswith(SCHEME) else ""  # a path may name a folder
        yield f"{uri.bucket}/{uri.key}"


def uri_of(uri: OssUri | str) -> OssUri:
    """Return a URI that may be a text; see `parse_uri`."""
    return parse_uri(uri) if isinstance(uri, str) else uri


def object_of(uri: OssUri | str) -> OssUri:
    """Return the URI of an object, which may be a text; see `parse_object_uri`."""
    return parse_object_uri(uri) if isinstance(uri, str) else uri


def checked_bucket(bucket: str, where: str) -> str:
    """Return `bucket`. Raise `OssUriError`, which names `where`, if it is not a valid bucket name."""
    if _BUCKET.fullmatch(bucket):
        return bucket
    if "@" in bucket:
        raise OssUriError(f"no user or password belongs into a URI: '...@{bucket.rpartition('@')[2]}'")
    raise OssUriError(
        f"no valid bucket name in {where!r}: {bucket!r} (3 to 63 of a-z, 0-9 and '-', a letter or digit at both ends)"
    )


def checked_key(key: str, where: str) -> str:
    """Return `key`. Raise `OssUriError`, which names `where`, if OSS does not allow it."""
    try:
        length_bytes = len(key.encode())
    except UnicodeEncodeError as error:
        raise OssUriError(f"the key in {where!r} is not valid Unicode: {error.reason}") from None
    if length_bytes > MAX_KEY_BYTES:
        raise OssUriError(f"the key in {where!r} has {length_bytes} bytes; OSS allows {MAX_KEY_BYTES}")
    if key.startswith(("/", "\\")):
        raise OssUriError(f"the key in {where!r} starts with {key[0]!r}, which OSS does not allow")
    return key
