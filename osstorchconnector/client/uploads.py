"""What operations on one object and its uploads have in common, and the operations of multipart uploads."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from ..errors import OssError, OssIntegrityError, OssNotFoundError, OssServiceError
from ..protocol import requests, xml
from ..protocol.answers import follow, stored_crc64
from ..protocol.attributes import PLAIN, Attributes
from ..protocol.checksum import combine_crc64
from ..protocol.heads import ResponseHead, bare_etag, full_stat
from ..protocol.values import ByteSpan, ListedUpload, ObjectStat, Request, StoredObject, UploadedPart
from ..uri import OssUri
from .attempts import ParsedAttempt, UploadAttempt
from .sender import Sender

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike

R = TypeVar("R")


class UploadOperations:
    """The operations of multipart uploads, and what they need of others."""

    _sender: Sender

    async def head(self, uri: OssUri) -> ObjectStat:
        """Return size, ETag, CRC-64, types and metadata of an object."""
        return await head_of(self._sender, uri)

    async def create_upload(self, uri: OssUri, *, attributes: Attributes = PLAIN) -> str:
        """Begin a multipart upload of an object with these attributes, and return its id."""
        request = requests.create_upload(uri.bucket, uri.key, attributes)
        return await self._document(request, lambda _, body: xml.parse_upload_id(body, uri.key))

    async def upload_part(
        self,
        uri: OssUri,
        upload_id: str,
        number: int,
        body: BytesLike | Iterable[BytesLike],
        *,
        crc64: int | None = None,
    ) -> UploadedPart:
        """Send one part (1 to 10,000; 100 KB to 5 GB but for the last); `crc64` is its own, if it is known already."""
        request = requests.upload_part(uri.bucket, uri.key, upload_id, number, body)
        upload = UploadAttempt(request, uri, crc64)
        await self._sender.perform(upload)
        return UploadedPart(number, bare_etag(upload.result.get("etag")), upload.size, upload.crc)

    async def upload_part_copy(
        self, uri: OssUri, upload_id: str, number: int, source: OssUri, span: ByteSpan, *, if_match: str = ""
    ) -> None:
        """Make a part from a span of another object. `list_parts` tells the CRC-64 that it has."""
        request = requests.upload_part_copy(uri.bucket, uri.key, upload_id, number, source, span, if_match)
        await self._document(request, body_of(functools.partial(xml.parse_copy, root_name="CopyPartResult")))

    async def complete_upload(
        self, uri: OssUri, upload_id: str, parts: Sequence[UploadedPart], *, forbid_overwrite: bool = False
    ) -> StoredObject:
        """Publish the object made of `parts`.

        If answers were lost, it is not known whether the upload was completed. Then the object is looked at: if it is
        the one that these parts make, it was. Raises `OssIntegrityError` if OSS's CRC-64 of the whole is not that of
        the parts.
        """
        whole_crc, size = whole_of(parts)
        request = requests.complete_upload(uri.bucket, uri.key, upload_id, parts, forbid_overwrite=forbid_overwrite)
        attempt = ParsedAttempt(
            request, lambda head, body: StoredObject(xml.parse_complete(body, uri.key), stored_crc64(head))
        )
        try:
            await self._sender.perform(attempt)
            stored = attempt.result
            if stored.crc64 != whole_crc:
                raise OssIntegrityError(
                    f"CompleteMultipartUpload {uri.shown}: OSS stored CRC-64 {stored.crc64}, "
                    f"the parts sent make {whole_crc}"
                )
        except OssError as error:
            if not _may_be_done(error, attempt.sent):
                raise
            stored = await self._object_as_expected(uri, size, whole_crc, error)
            if not isinstance(error, OssNotFoundError):
                # The object may be an identical older one: abort so that no parts stay.
                with contextlib.suppress(OssError):
                    await self.abort_upload(uri, upload_id)
        return stored

    async def abort_upload(self, uri: OssUri, upload_id: str) -> None:
        """Give up a multipart upload and its parts; one that does not exist counts as aborted."""
        try:
            await self._document(requests.abort_upload(uri.bucket, uri.key, upload_id), nothing)
        except OssNotFoundError as error:
            if error.code not in ("", "NoSuchUpload"):
                raise

    async def list_parts(self, uri: OssUri, upload_id: str) -> list[UploadedPart]:
        """Return the parts that OSS holds of an upload."""
        found: list[UploadedPart] = []
        marker, seen = 0, set[int]()
        while True:
            request = requests.list_parts(uri.bucket, uri.key, upload_id, marker=marker)
            parse = functools.partial(xml.parse_parts, key=uri.key, upload_id=upload_id, marker=marker)
            page = await self._document(request, body_of(parse))
            found += page.parts
            if not page.next_marker:
                return found
            marker = follow(page.next_marker, seen)

    async def list_uploads(self, uri: OssUri) -> list[ListedUpload]:
        """Return the unfinished multipart uploads of keys that begin with `uri.key`."""
        found: list[ListedUpload] = []
        key_marker = id_marker = ""
        seen = set[tuple[str, str]]()
        while True:
            request = requests.list_uploads(uri.bucket, uri.key, key_marker=key_marker, upload_id_marker=id_marker)
            page = await self._document(request, lambda _, body: xml.parse_uploads(body, uri.key))
            found += page.uploads
            if not page.next_key_marker:
                return found
            key_marker, id_marker = follow((page.next_key_marker, page.next_upload_id_marker), seen)

    async def _object_as_expected(self, uri: OssUri, size: int, crc: int, error: OssError) -> StoredObject:
        """Return the object at `uri` if it has this size and CRC-64; else raise `error`."""
        try:
            stat = await self.head(uri)
        except OssError:
            raise error from None
        if (stat.size, stat.crc64) != (size, crc):
            raise error
        return StoredObject(stat.etag, stat.crc64)

    async def _document(self, request: Request, parse: Callable[[ResponseHead, bytearray], R]) -> R:
        return await document_of(self._sender, request, parse)


async def document_of(sender: Sender, request: Request, parse: Callable[[ResponseHead, bytearray], R]) -> R:
    attempt = ParsedAttempt(request, parse)
    await sender.perform(attempt)
    return attempt.result


async def head_of(sender: Sender, uri: OssUri) -> ObjectStat:
    return await document_of(sender, requests.head_object(uri.bucket, uri.key), lambda head, _: full_stat(head))


def body_of(parse: Callable[[bytearray], R]) -> Callable[[ResponseHead, bytearray], R]:
    return lambda head, body: parse(body)


def nothing(head: ResponseHead, body: bytearray) -> None:
    return None


def _may_be_done(error: OssError, sent: int) -> bool:
    """Say whether one of the `sent` requests may have completed the upload, although the last ended in `error`."""
    if isinstance(error, OssServiceError) and error.status < 500:
        is_gone = error.status == 404 and error.code in ("", "NoSuchUpload")
        return sent > 1 and (is_gone or error.code == "FileAlreadyExists")  # the object may be the one that was sent
    return True


def whole_of(parts: Sequence[UploadedPart]) -> tuple[int, int]:
    """Return CRC-64 and size of the object that `parts` make."""
    crc = size = 0
    for part in parts:
        crc, size = combine_crc64(crc, part.crc64, part.size), size + part.size
    return crc, size
