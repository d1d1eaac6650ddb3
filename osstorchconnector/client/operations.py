"""One coroutine per OSS operation, bound to one event loop; the synchronous client is a face of these.

Every method retries what may be retried, within the configured attempts and time, and checks the CRC-64 that OSS
gives. All raise `OssError`s: `OssNotFoundError`, `OssPermissionError`, `OssTimeoutError`, `OssConnectionError`,
`OssIntegrityError` and the others of `errors.py`, each naming operation, object and OSS's answer.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ..errors import OssConflictError, OssProtocolError, OssServiceError, OssUsageError
from ..protocol import requests, xml
from ..protocol.answers import PageOrder, follow
from ..protocol.attributes import PLAIN, Attributes
from ..protocol.checksum import Sum, combine_crc64
from ..protocol.heads import ResponseHead, bare_etag, parse_crc64, parse_http_date
from ..protocol.values import ByteSpan, Download, ListedBucket, ListPage, Request, StoredObject
from ..uri import OssUri, checked_bucket
from .attempts import GetAttempt, ParsedAttempt, UploadAttempt
from .layers import Get, HedgedReads, Lateness
from .memory import Memory
from .paging import Ahead, PageAttempt, PageTimes
from .sender import Sender, Session
from .uploads import UploadOperations, body_of, head_of, nothing

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike


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
                stat = await head_of(self._sender, uri)
                if stat.size == 0:
                    return Download(stat, ByteSpan(0, 0), b"", 0)
            raise
        return attempt.result


class Operations(UploadOperations):
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

    async def put(
        self,
        uri: OssUri,
        body: BytesLike | Iterable[BytesLike],
        *,
        forbid_overwrite: bool = False,
        crc64: int | None = None,
        attributes: Attributes = PLAIN,
    ) -> StoredObject:
        """Store an object in one request; the old one, if any, stays until the new one is whole.

        `body` is bytes-like (an array too; one with gaps is copied), or several such, which are joined. A text or the
        name of a file is an `OssUsageError`.

        `crc64` is that of the body, if it is known already. An object that must not be there, and is after an answer
        was lost, is looked at: if it has the body's size and CRC-64 it is the one that was sent.
        """
        request = requests.put_object(
            uri.bucket, uri.key, body, forbid_overwrite=forbid_overwrite, attributes=attributes
        )
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
        await self._document(requests.delete_object(uri.bucket, uri.key), nothing)

    async def delete_many(self, bucket: str, keys: Sequence[str]) -> None:
        """Delete any number of objects, a thousand in a request; those that do not exist count as deleted."""
        if isinstance(keys, str):  # whose letters would be deleted
            raise OssUsageError(f"keys: several keys are wanted, not the one text {keys!r}")
        checked_bucket(bucket, bucket)
        in_xml = [key for key in keys if xml.carries_key(key)]
        for start in range(0, len(in_xml), requests.MAX_KEYS):
            batch = in_xml[start : start + requests.MAX_KEYS]
            parse = functools.partial(xml.parse_deleted, asked=batch)
            await self._document(requests.delete_objects(bucket, batch), body_of(parse))
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
        attempt = ParsedAttempt(request, body_of(xml.parse_copy))
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

    async def create_bucket(self, bucket: str, *, storage_class: str = "", redundancy: str = "") -> None:
        """Create a bucket in the endpoint's region; one that the account has already stays as it is."""
        checked_bucket(bucket, bucket)
        await self._document(requests.put_bucket(bucket, storage_class, redundancy), nothing)

    async def list_buckets(self) -> list[ListedBucket]:
        """Return the buckets of the account, by name. The credentials must allow ListBuckets."""
        found: list[ListedBucket] = []
        marker, seen = "", set[str]()
        while True:
            parse = functools.partial(xml.parse_buckets, marker=marker)
            page = await self._document(requests.list_buckets(marker=marker), body_of(parse))
            found += page.buckets
            if not page.next_marker:
                return found
            marker = follow(page.next_marker, seen)

    async def signed_url(self, uri: OssUri, *, method: str = "GET", seconds: int) -> str:
        """Return a URL that lets anybody send one method to an object for a while; no request is sent."""
        request = Request("GetObject", method, uri.bucket, uri.key)
        return await self._sender.signed_url(request, seconds)


def _crc64(head: ResponseHead) -> int | None:
    return parse_crc64(head.get("x-oss-hash-crc64ecma"))


def _date(head: ResponseHead) -> float:
    date = parse_http_date(head.get("date"))
    if date is None:
        raise OssProtocolError(f"the answer does not tell OSS's time: its Date is {head.get('date')[:40]!r}")
    return date
