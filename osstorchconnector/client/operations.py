"""One coroutine per OSS operation, bound to one event loop; the synchronous client is a face of these.

Every method retries what may be retried, within the configured attempts and time, and checks the CRC-64 that OSS
gives. All raise `OssError`s: `OssNotFoundError`, `OssPermissionError`, `OssTimeoutError`, `OssConnectionError`,
`OssIntegrityError` and the others of `errors.py`, each naming operation, object and OSS's answer.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from ..errors import (
    OssConflictError,
    OssError,
    OssIntegrityError,
    OssNotFoundError,
    OssProtocolError,
    OssServiceError,
    OssUsageError,
)
from ..protocol import requests, xml
from ..protocol.answers import PageOrder, follow, stored_crc64
from ..protocol.checksum import Sum, combine_crc64
from ..protocol.heads import ResponseHead, bare_etag, object_stat, parse_crc64, parse_http_date
from ..protocol.values import (
    ByteSpan,
    Download,
    ListedBucket,
    ListedUpload,
    ListPage,
    ObjectStat,
    Request,
    StoredObject,
    UploadedPart,
)
from ..uri import OssUri, checked_bucket
from .attempts import DocumentAttempt, GetAttempt, UploadAttempt
from .layers import Get, HedgedReads, Lateness
from .memory import Memory
from .paging import Ahead, PageAttempt, PageTimes
from .sender import Sender, Session

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike

R = TypeVar("R")


class Reads:
    """Reads of object data, without any layer."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def get(
        self,
        uri: OssUri,
        span: ByteSpan | None = None,
        *,
        into: Memory | None = None,
        if_match: str = "",
        checksum: Sum | None = None,
        on_first_byte: Callable[[], None] | None = None,
    ) -> Download:
        """Read one object or a span of it, without any layer. `Get` explains the arguments."""
        attempt = GetAttempt(uri, span, into, if_match, checksum=checksum)
        attempt.on_head = on_first_byte
        try:
            await self._sender.perform(attempt)
        except OssServiceError as error:
            # "standard" ranges refuse any range of an empty object
            if error.status == 416 and span is not None and span.start == 0:
                stat = await _head(self._sender, uri)
                if stat.size == 0:
                    return Download(stat, ByteSpan(0, 0), b"", 0)
            raise
        return attempt.result


class Operations:
    """The operations of one client on one loop."""

    def __init__(self, session: Session) -> None:
        self._sender = Sender(session)
        reads = Reads(self._sender)
        self.get: Get = reads.get
        if session.config.hedge_reads:
            self.get = HedgedReads(reads.get, Lateness(only_long_tails=session.config.hedge_reads == "auto")).get

    async def aclose(self) -> None:
        """Drop the connections; operations still running fail."""
        await self._sender.aclose()

    def open_ahead(self, bucket: str, count: int) -> None:
        """Begin connections, until there are `count`, for requests for object data that will soon come."""
        self._sender.open_ahead(bucket, count)

    async def head(self, uri: OssUri) -> ObjectStat:
        """Return size, ETag and CRC-64 of an object."""
        return await _head(self._sender, uri)

    async def put(
        self,
        uri: OssUri,
        body: BytesLike | Iterable[BytesLike],
        *,
        forbid_overwrite: bool = False,
        crc64: int | None = None,
    ) -> StoredObject:
        """Store an object in one request; the old one, if any, stays until the new one is whole.

        `body` is bytes-like (an array too; one with gaps is copied), or several such, which are joined. A text or the
        name of a file is an `OssUsageError`.

        `crc64` is that of the body, if it is known already. An object that must not be there, and is after an answer
        was lost, is looked at: if it has the body's size and CRC-64 it is the one that was sent.
        """
        request = requests.put_object(uri.bucket, uri.key, body, forbid_overwrite=forbid_overwrite)
        upload = UploadAttempt(request, uri, crc64)
        try:
            await self._sender.perform(upload)
        except OssConflictError as error:
            if not forbid_overwrite or upload.sent == 1:
                raise
            return await self._object_as_expected(uri, upload.size, upload.crc, error)
        return StoredObject(bare_etag(upload.result.get("etag")), _crc64(upload.result))

    async def list_page(
        self,
        uri: OssUri,
        *,
        delimiter: str = "",
        start_after: str = "",
        token: str = "",
        max_keys: int = 1000,
        order: PageOrder | None = None,
        ahead: Ahead | None = None,
        times: PageTimes | None = None,
    ) -> ListPage:
        """Return one page of the objects whose keys begin with `uri.key`, in UTF-8 byte order.

        To follow a listing, pass the same `order` for each page: a page that does not follow the last is asked for
        again, and an `OssProtocolError` if it stays so. `ahead` is told early where the listing goes on, `times` how
        long the page took.
        """
        request = requests.list_objects(
            uri.bucket, uri.key, delimiter=delimiter, start_after=start_after, token=token, max_keys=max_keys
        )
        attempt = PageAttempt(request, order or PageOrder(start_after), ahead, times)
        await self._sender.perform(attempt)
        return attempt.result

    async def server_time(self, uri: OssUri) -> float:
        """Return OSS's clock: whole seconds since the epoch. Takes the right to list what begins as `uri` does."""
        request = requests.list_objects(uri.bucket, uri.key, max_keys=1)
        return await self._document(request, lambda head, _: _date(head))

    async def delete(self, uri: OssUri) -> None:
        """Delete an object; one that does not exist counts as deleted."""
        await self._document(requests.delete_object(uri.bucket, uri.key), _nothing)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> None:
        """Delete any number of objects, a thousand in a request; those that do not exist count as deleted."""
        if isinstance(keys, str):  # whose letters would be deleted
            raise OssUsageError(f"keys: several keys are wanted, not the one text {keys!r}")
        checked_bucket(bucket, bucket)
        in_xml = [key for key in keys if xml.carries_key(key)]
        for start in range(0, len(in_xml), requests.MAX_KEYS):
            batch = in_xml[start : start + requests.MAX_KEYS]
            parse = functools.partial(xml.parse_deleted, asked=batch)
            await self._document(requests.delete_objects(bucket, batch), _body(parse))
        for key in keys:
            if not xml.carries_key(key):  # XML 1.0 has no way to write most control characters
                await self.delete(OssUri(bucket, key))

    async def append(
        self, uri: OssUri, body: BytesLike | Iterable[BytesLike], *, position: int, crc64: int
    ) -> StoredObject:
        """Add bytes to an appendable object of `position` bytes, whose CRC-64 is `crc64`.

        Raises `OssConflictError` if the object has another length by now, or is not appendable.
        """
        request = requests.append_object(uri.bucket, uri.key, position, body)
        upload = UploadAttempt(request, uri)
        upload.crc = combine_crc64(crc64, upload.crc, upload.size)  # what OSS answers is that of the whole
        try:
            await self._sender.perform(upload)
        except OssConflictError as error:
            if upload.sent == 1:
                raise
            return await self._object_as_expected(uri, position + upload.size, upload.crc, error)
        return StoredObject(bare_etag(upload.result.get("etag")), upload.crc)

    async def copy(
        self, source: OssUri, target: OssUri, *, if_match: str = "", forbid_overwrite: bool = False
    ) -> StoredObject:
        """Copy an object within the service; with `if_match` only if the source still has that ETag."""
        request = requests.copy_object(
            source.bucket, source.key, target.bucket, target.key, if_match, forbid_overwrite=forbid_overwrite
        )
        attempt = DocumentAttempt(request, _body(xml.parse_copy))
        try:
            await self._sender.perform(attempt)
        except OssConflictError as error:
            if not forbid_overwrite or attempt.sent == 1:
                raise
            stat = await self.head(source)
            if stat.crc64 is None:
                raise
            return await self._object_as_expected(target, stat.size, stat.crc64, error)
        return StoredObject(attempt.result, None)

    async def create_upload(self, uri: OssUri) -> str:
        """Begin a multipart upload and return its id."""
        request = requests.create_upload(uri.bucket, uri.key)
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
        await self._document(request, _body(functools.partial(xml.parse_copy, root_name="CopyPartResult")))

    async def complete_upload(
        self, uri: OssUri, upload_id: str, parts: Sequence[UploadedPart], *, forbid_overwrite: bool = False
    ) -> StoredObject:
        """Publish the object made of `parts`.

        If answers were lost, it is not known whether the upload was completed. Then the object is looked at: if it is
        the one that these parts make, it was. Raises `OssIntegrityError` if OSS's CRC-64 of the whole is not that of
        the parts.
        """
        whole_crc, size = _whole(parts)
        request = requests.complete_upload(uri.bucket, uri.key, upload_id, parts, forbid_overwrite=forbid_overwrite)
        attempt = DocumentAttempt(
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

    async def _object_as_expected(self, uri: OssUri, size: int, crc: int, error: OssError) -> StoredObject:
        """Return the object at `uri` if it has this size and CRC-64; else raise `error`."""
        try:
            stat = await self.head(uri)
        except OssError:
            raise error from None
        if (stat.size, stat.crc64) != (size, crc):
            raise error
        return StoredObject(stat.etag, stat.crc64)

    async def abort_upload(self, uri: OssUri, upload_id: str) -> None:
        """Give up a multipart upload and its parts; one that does not exist counts as aborted."""
        try:
            await self._document(requests.abort_upload(uri.bucket, uri.key, upload_id), _nothing)
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
            page = await self._document(request, _body(parse))
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

    async def create_bucket(self, bucket: str, *, storage_class: str = "", redundancy: str = "") -> None:
        """Create a bucket in the endpoint's region; one that the account has already stays as it is."""
        checked_bucket(bucket, bucket)
        await self._document(requests.put_bucket(bucket, storage_class, redundancy), _nothing)

    async def list_buckets(self) -> list[ListedBucket]:
        """Return the buckets of the account, by name. The credentials must allow ListBuckets."""
        found: list[ListedBucket] = []
        marker, seen = "", set[str]()
        while True:
            parse = functools.partial(xml.parse_buckets, marker=marker)
            page = await self._document(requests.list_buckets(marker=marker), _body(parse))
            found += page.buckets
            if not page.next_marker:
                return found
            marker = follow(page.next_marker, seen)

    async def signed_url(self, uri: OssUri, *, method: str = "GET", seconds: int) -> str:
        """Return a URL that lets anybody send one method to an object for a while; no request is sent."""
        request = Request("GetObject", method, uri.bucket, uri.key)
        return await self._sender.signed_url(request, seconds)

    async def _document(self, request: Request, parse: Callable[[ResponseHead, bytearray], R]) -> R:
        return await _document(self._sender, request, parse)


async def _document(sender: Sender, request: Request, parse: Callable[[ResponseHead, bytearray], R]) -> R:
    attempt = DocumentAttempt(request, parse)
    await sender.perform(attempt)
    return attempt.result


async def _head(sender: Sender, uri: OssUri) -> ObjectStat:
    return await _document(sender, requests.head_object(uri.bucket, uri.key), lambda head, _: object_stat(head))


def _body(parse: Callable[[bytearray], R]) -> Callable[[ResponseHead, bytearray], R]:
    return lambda head, body: parse(body)


def _crc64(head: ResponseHead) -> int | None:
    return parse_crc64(head.get("x-oss-hash-crc64ecma"))


def _date(head: ResponseHead) -> float:
    date = parse_http_date(head.get("date"))
    if date is None:
        raise OssProtocolError(f"the answer does not tell OSS's time: its Date is {head.get('date')[:40]!r}")
    return date


def _nothing(head: ResponseHead, body: bytearray) -> None:
    return None


def _may_be_done(error: OssError, sent: int) -> bool:
    """Say whether one of the `sent` requests may have completed the upload, although the last ended in `error`."""
    if isinstance(error, OssServiceError) and error.status < 500:
        is_gone = error.status == 404 and error.code in ("", "NoSuchUpload")
        return sent > 1 and (is_gone or error.code == "FileAlreadyExists")  # the object may be the one that was sent
    return True


def _whole(parts: Sequence[UploadedPart]) -> tuple[int, int]:
    """Return CRC-64 and size of the object that `parts` make."""
    crc = size = 0
    for part in parts:
        crc, size = combine_crc64(crc, part.crc64, part.size), size + part.size
    return crc, size
