"""One operation over all its attempts: what to ask, where the answer's body goes, what is believed of it. Pure.

`GetAttempt` checks that an answer is the part of the object that was asked for, hands out memory for just that,
keeps what a broken attempt brought, and asks for the rest only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from ..errors import OssIntegrityError, OssObjectChangedError, OssProtocolError, OssUsageError
from ..protocol import requests
from ..protocol.answers import REQUEST_ID, stored_crc64, why_not
from ..protocol.checksum import CHECKSUM_BLOCK_BYTES, Sum, crc64
from ..protocol.heads import ResponseHead, bare_etag, content_range, object_stat
from ..protocol.values import Buffer, ByteSpan, Download, ObjectStat, Request
from ..redaction import MAX_NAME_LETTERS, SecretBuffer, printable
from ..uri import OssUri
from .memory import CopiedMemory, FreshMemory, Memory, blocks, fill, fresh_memory, part
from .transport.base import BodySink

R = TypeVar("R")

MAX_DOCUMENT_BYTES = 64 * 1024 * 1024
MAX_REFUSAL_BYTES = 1024 * 1024


class PendingOperation(BodySink, Protocol):
    """What the sender needs to know of an operation: where answers land, and what to do next."""

    wants_early_look: bool
    """True if a good answer is first to be shown to `look_early`."""

    @property
    def refusal(self) -> bytearray:
        """The body of the last answer, if that was an error."""

    @property
    def is_resumed(self) -> bool:
        """True if the next request asks only for what is still missing."""

    def request(self) -> Request:
        """The request to send now."""

    def finish(self, head: ResponseHead) -> None:
        """Take a good answer; raises `OssIntegrityError` or `OssProtocolError` if it is not."""

    async def look_early(self) -> None:
        """Do what can be done before the answer is taken."""

    def keep(self, received_bytes: int) -> None:
        """The last answer broke off when this much of its body was in place."""

    def discard(self) -> None:
        """What has come so far is wrong: begin again."""


class _CopyingSink:
    """Takes a body that came whole as it takes any other."""

    fills_in_place = False
    moved_bytes = 0
    is_resumed = False
    wants_early_look = False

    async def look_early(self) -> None:
        """Nothing can be done early."""

    def buffer_for(self, head: ResponseHead) -> memoryview:
        raise NotImplementedError

    def accept_whole(self, head: ResponseHead, body: memoryview) -> None:
        self.buffer_for(head._replace(content_length=len(body)))[:] = body

    def progressed(self, received_bytes: int) -> None:
        """Nothing is done before all is there."""


class DocumentAttempt(_CopyingSink, Generic[R]):
    """A request whose answer is a document (or nothing): gathered whole, within a limit, then parsed."""

    def __init__(self, request: Request, parse: Callable[[ResponseHead, bytearray], R]) -> None:
        self._request = request
        self._parse = parse
        self._document = SecretBuffer()
        self.sent = 0
        self.result: R

    @property
    def refusal(self) -> bytearray:
        return self._document

    def request(self) -> Request:
        self.sent += 1
        return self._request

    def accept_whole(self, head: ResponseHead, body: memoryview) -> None:
        if head.content_length is None and not body:  # a document proves by its last tag that it is whole
            raise OssProtocolError(
                f"answered {head.status} without a length, and nothing came: it may have been cut off"
            )
        super().accept_whole(head, body)

    def buffer_for(self, head: ResponseHead) -> memoryview:
        length = head.content_length or 0
        if length > MAX_DOCUMENT_BYTES:
            raise OssProtocolError(f"an answer of {length} bytes where at most {MAX_DOCUMENT_BYTES} make sense")
        self.moved_bytes = max(self.moved_bytes, length)
        self._document = SecretBuffer(length)
        return memoryview(self._document)

    def finish(self, head: ResponseHead) -> None:
        self.result = self._parse(head, self._document)

    def keep(self, received_bytes: int) -> None:
        """Nothing is kept: a document is short."""

    def discard(self) -> None:
        self._document = SecretBuffer()


class GetAttempt:
    """The object's bytes in `span` (all if None), into the caller's memory or into a new `bytes`.

    A span may reach past the object's end: what exists is delivered. `checksum` is shown the bytes as they come.
    """

    def __init__(
        self, uri: OssUri, span: ByteSpan | None, into: Memory | None, if_match: str, *, checksum: Sum | None = None
    ) -> None:
        if span is not None and not 0 <= span.start < span.stop:
            raise OssUsageError(
                f"GetObject {uri.shown}: a span has a byte at least, not from {span.start} to {span.stop}"
            )
        if into is not None and (span is None or len(into) != span.size):
            raise ValueError("`into` needs a span, and as many bytes as the span has")
        self.fills_in_place = into is not None
        self.moved_bytes = 0 if span is None else span.size
        self._uri = uri
        self._wanted = span
        self._start = 0 if span is None else span.start
        self._pinned_etag = self._etag = bare_etag(if_match)
        self._stat: ObjectStat | None = None
        self._expected = -1  # bytes that exist in the span; known with the first good answer
        self._received = 0
        self._is_data = False  # of the answer under way: bytes of the object come, not a refusal
        self._checksum, self._crc, self._summed = checksum, 0, 0
        self._into = into
        self._view: Memory | None = into
        self._store: FreshMemory | CopiedMemory | None = None
        self._body = b""
        self._refusal = SecretBuffer()
        self.on_head: Callable[[], None] | None = None  # told of the first byte of an object, by hedged reads
        self.result: Download

    wants_early_look = False

    @property
    def refusal(self) -> bytearray:
        return self._refusal

    @property
    def _name(self) -> str:
        return self._uri.shown

    @property
    def is_resumed(self) -> bool:
        return self._received > 0

    def request(self) -> Request:
        span = self._wanted
        self._is_data = False
        if self._received:
            span = ByteSpan(self._start + self._received, self._start + self._expected)
        return requests.get_object(self._uri.bucket, self._uri.key, span=span, if_match=self._etag)

    def buffer_for(self, head: ResponseHead) -> Memory:
        length = head.content_length or 0
        if head.status not in (200, 206):
            return self._place_refusal(length)
        self._accept(head, length)
        view = self._view if self._view is not None else self._allocate(length)
        self._is_data = True
        return part(view, self._received, self._received + length)

    def progressed(self, received_bytes: int) -> None:
        if self._is_data and self._received + received_bytes - self._summed >= CHECKSUM_BLOCK_BYTES:
            self._sum_up_to(self._received + received_bytes)

    def accept_whole(self, head: ResponseHead, body: memoryview) -> None:
        if head.content_length is None:
            head = _ended_by_the_connection(head, len(body))
        if self._view is None and head.status in (200, 206):
            self._accept(head, len(body))
            self._body = bytes(body)
            self._is_data = True
        else:
            fill(self.buffer_for(head), 0, body)

    async def look_early(self) -> None:
        """Nothing can be done early."""

    def keep(self, received_bytes: int) -> None:
        if self._is_data:
            self._received += received_bytes
        if not self._received:
            self.discard()  # nothing came, so the next answer need not agree with this one

    def discard(self) -> None:
        self._received, self._expected = 0, -1
        self._stat, self._etag = None, self._pinned_etag
        self._view, self._store, self._body = self._into, None, b""
        self._is_data, self._crc, self._summed = False, 0, 0
        if self._checksum is not None:
            self._checksum.clear()

    def finish(self, head: ResponseHead) -> None:
        """Check what has come and make the `Download` of it."""
        stat, size = self._stat, self._expected
        if stat is None or not self._is_data:
            raise OssProtocolError(f"status {head.status} for a GET")
        self._received = size
        if self._view is not None:
            self._sum_up_to(size)
        crc = self._crc if self._view is not None else crc64(self._body)
        if self._start == 0 and size == stat.size and stat.crc64 not in (None, crc):
            raise OssIntegrityError(
                f"GetObject {self._name}: the {stat.size} bytes received have CRC-64 {crc}, OSS says {stat.crc64}"
            )
        if self._store is not None:
            self._view = None
            self._body = self._store.getvalue()
        self.result = Download(stat, ByteSpan(self._start, self._start + size), self._body, crc)

    def _sum_up_to(self, stop: int) -> None:
        """Sum what has come and was not summed, in blocks that stay in the processor's cache for the second sum."""
        assert self._view is not None
        for block in blocks(self._view, self._summed, stop, CHECKSUM_BLOCK_BYTES):
            self._crc = crc64(block, self._crc)
            if self._checksum is not None:
                self._checksum.add(block)
        self._summed = stop

    def _accept(self, head: ResponseHead, length: int) -> None:
        """Believe a good answer, or raise what is wrong with it."""
        if REQUEST_ID not in head.headers:
            raise OssProtocolError(why_not("GetObject", head))
        stat = object_stat(head)
        if self.on_head is not None:
            self.on_head()
        if head.status == 206:
            self._check_part(head, length)
        elif self._received or (self._wanted is not None and (self._start or length > self._wanted.size)):
            raise OssProtocolError(f"the range was ignored: 200 with {length} bytes")
        if not stat.etag:
            raise OssProtocolError(f"answered {head.status} without an ETag: can't tell of which object the bytes are")
        if self._etag and stat.etag != self._etag:
            raise OssObjectChangedError(
                f"GetObject {self._name}: the object was replaced while it was read "
                f"(ETag {printable(self._etag, MAX_NAME_LETTERS)}, now {printable(stat.etag, MAX_NAME_LETTERS)})"
            )
        if self._received:
            self._check_same(stat)
        if self._expected < 0:
            self._expected, self._stat, self._etag = length, stat, stat.etag
            if length > self.moved_bytes:
                self.moved_bytes = length

    def _check_same(self, stat: ObjectStat) -> None:
        """Compare the answer with the rest of a body with what the first answer said of the object."""
        first = self._stat
        assert first is not None
        if stat.size != first.size or (None not in (stat.crc64, first.crc64) and stat.crc64 != first.crc64):
            self.discard()
            raise OssProtocolError(
                f"two answers disagree about the object with ETag {stat.etag}: {first.size} bytes with CRC-64 "
                f"{first.crc64}, then {stat.size} bytes with CRC-64 {stat.crc64}"
            )

    def _check_part(self, head: ResponseHead, length: int) -> None:
        part = content_range(head)
        if part is None or (self._wanted is None and not self._received):
            raise OssProtocolError("206 with a missing or unasked-for Content-Range")
        first, last, total = part
        start = self._start + self._received
        stop = self._start + self._expected
        if self._expected < 0:
            assert self._wanted is not None
            stop = min(self._wanted.stop, total)  # a span may reach past the end
        if (first, last + 1, last + 1 - first) != (start, stop, length):
            self.discard()  # when resuming, the first answer may have lied: nothing of it is kept
            raise OssProtocolError(
                f"asked for bytes {start} to {stop}, got {head.get('content-range')[:80]!r} of {length}"
            )

    def _allocate(self, length: int) -> Memory:
        try:
            self._store = fresh_memory(length)
        except (MemoryError, OverflowError):
            raise OssProtocolError(f"an object of {length} bytes does not fit into memory") from None
        self._view = self._store.getbuffer()
        return self._view

    def _place_refusal(self, length: int) -> memoryview:
        if length > MAX_REFUSAL_BYTES:
            raise OssProtocolError(f"an error message of {length} bytes")
        self._refusal = SecretBuffer(length)
        return memoryview(self._refusal)


class UploadAttempt(_CopyingSink):
    """A request that sends bytes; the CRC-64 that OSS answers must be theirs, which is `crc` if that is known."""

    def __init__(self, request: Request, uri: OssUri, crc: int | None = None) -> None:
        self._request = request
        self._uri = uri
        self._answer = SecretBuffer()
        self.moved_bytes = self.size = sum(memoryview(part).nbytes for part in request.body)
        self.sent = 0
        self.crc = functools.reduce(_joined_crc, request.body, 0) if crc is None else crc
        self.result: ResponseHead

    @property
    def refusal(self) -> bytearray:
        return self._answer

    @property
    def _name(self) -> str:
        return self._uri.shown

    def request(self) -> Request:
        self.sent += 1
        return self._request

    def buffer_for(self, head: ResponseHead) -> memoryview:
        length = head.content_length or 0
        if length > MAX_REFUSAL_BYTES:
            raise OssProtocolError(f"an answer of {length} bytes to an upload")
        self._answer = SecretBuffer(length)
        return memoryview(self._answer)

    def finish(self, head: ResponseHead) -> None:
        stored = stored_crc64(head)
        if stored != self.crc:
            raise OssIntegrityError(
                f"{self._request.operation} {self._name}: {self.size} bytes with CRC-64 {self.crc} were sent, "
                f"OSS received CRC-64 {stored}"
            )
        self.result = head

    def keep(self, received_bytes: int) -> None:
        """Nothing is kept: an upload is sent again whole."""

    def discard(self) -> None:
        """Nothing to discard: the next attempt replaces what was stored."""


def _ended_by_the_connection(head: ResponseHead, received_bytes: int) -> ResponseHead:
    """Return the head with a length, for a body that only the end of the connection ended.

    Something else must show that it is whole: the CRC-64 of the object, or the length of the part.
    """
    if head.status == 200 and not head.get("x-oss-hash-crc64ecma"):
        raise OssProtocolError("answered 200 with neither a length nor a CRC-64: the body may have been cut off")
    return head._replace(content_length=received_bytes)


def _joined_crc(crc: int, part: Buffer) -> int:
    return crc64(part, crc)
