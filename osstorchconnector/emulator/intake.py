"""Takes a request's body while it arrives and checks it; bodies that may be large go to disk, not into memory."""

from __future__ import annotations

import base64
import hashlib
from typing import Protocol

from ..protocol.checksum import crc64
from .blobs import BlobFolder, BlobWriter
from .exchange import Received
from .refusals import Refused

MAX_DOCUMENT_BYTES = 8 * 1024 * 1024


class Digest:
    """Size, CRC-64 and optionally MD5 of bytes, computed while they arrive."""

    __slots__ = ("_md5", "crc64", "size")

    def __init__(self, *, with_md5: bool) -> None:
        self._md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None
        self.crc64 = 0
        self.size = 0

    def update(self, data: memoryview) -> None:
        self.size += len(data)
        self.crc64 = crc64(data, self.crc64)
        if self._md5 is not None:
            self._md5.update(data)

    @property
    def md5(self) -> bytes | None:
        return self._md5.digest() if self._md5 is not None else None

    @property
    def etag(self) -> str:
        """The ETag of these bytes in upper hex: their MD5, or CRC and size if the MD5 is not computed."""
        md5 = self.md5
        return md5.hex().upper() if md5 is not None else f"{self.crc64:016X}{self.size:016X}"


class Intake(Protocol):
    """Takes a body block by block; `finish` or `abandon` ends it."""

    def write(self, data: memoryview) -> None: ...

    def finish(self) -> Received: ...

    def abandon(self) -> None: ...


class Drain:
    """Takes a body and ignores it."""

    def write(self, data: memoryview) -> None:
        """Do nothing."""

    def finish(self) -> Received:
        return _NOTHING_RECEIVED

    def abandon(self) -> None:
        """Do nothing: this holds no resources."""


_NOTHING_RECEIVED = Received()
NOTHING = Drain()


class DocumentIntake:
    """Takes an XML document into memory; refuses a document that is too large."""

    def __init__(self, content_md5: str | None) -> None:
        self._content_md5 = content_md5
        self._data = bytearray()

    def write(self, data: memoryview) -> None:
        if len(self._data) + len(data) > MAX_DOCUMENT_BYTES:
            raise Refused("EntityTooLarge", f"A document of more than {MAX_DOCUMENT_BYTES} bytes.")
        self._data += data

    def finish(self) -> Received:
        data = bytes(self._data)
        if self._content_md5 is not None:
            check_digest(self._content_md5, _md5(data))
        return Received(len(data), data)

    def abandon(self) -> None:
        self._data.clear()


class BlobIntake:
    """Takes an object's bytes into a blob; with `blobs` None it only checks them."""

    def __init__(self, blobs: BlobFolder | None, *, with_md5: bool, content_md5: str | None, limit_bytes: int) -> None:
        self._writer: BlobWriter | None = blobs.create() if blobs is not None else None
        self._content_md5 = content_md5
        self._digest = Digest(with_md5=with_md5 or content_md5 is not None)
        self._limit_bytes = limit_bytes

    def write(self, data: memoryview) -> None:
        self._digest.update(data)
        if self._digest.size > self._limit_bytes:
            raise Refused("EntityTooLarge")
        if self._writer is not None:
            self._writer.write(data)

    def finish(self) -> Received:
        digest = self._digest
        if self._content_md5 is not None and digest.md5 is not None:
            try:
                check_digest(self._content_md5, digest.md5)
            except Refused:
                self.abandon()
                raise
        content = self._writer.finish() if self._writer is not None else ()
        return Received(digest.size, b"", content, digest.crc64, digest.md5, digest.etag)

    def abandon(self) -> None:
        if self._writer is not None:
            self._writer.discard()


def check_digest(content_md5: str, md5: bytes) -> None:
    """Refuse a body whose MD5 differs from `Content-MD5` (base64)."""
    try:
        expected = base64.b64decode(content_md5, validate=True)
    except ValueError as error:
        raise Refused("InvalidDigest", "The Content-MD5 you specified is invalid.") from error
    if expected != md5:
        raise Refused("InvalidDigest")


def _md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).digest()
