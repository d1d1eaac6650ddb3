"""One operation over all its requests: what to ask, where the body of an answer goes, what to believe of it.

A `PendingOperation` only decides, without I/O. The sender sends what `request` returns, and a transport hands it the
body of the answer (it is a `BodySink`). Then the sender calls `finish` for a good answer, `keep` for one that broke
off, `discard` if its bytes are wrong; and it may ask again.

A GET continues where a broken answer ended, so `GetAttempt` has a state:

    state       event                                               next state
    ----------  --------------------------------------------------  ----------
    UNASKED     request                                             ASKED
    ASKED       a good answer begins: buffer_for, accept_whole      RECEIVING
                request: the last one was refused                   ASKED
    RECEIVING   finish: all bytes are there, and OSS's CRC-64       COMPLETE
    all but     keep: the answer broke off                          UNASKED
    COMPLETE    discard: what has been received is wrong            UNASKED

What the first good answer says about the object is believed as long as bytes of it are kept. Later answers must agree
with it, and bring just the bytes that are missing.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Generic, Protocol, TypeVar

from ..errors import OssIntegrityError, OssObjectChangedError, OssProtocolError, OssUsageError
from ..protocol import requests
from ..protocol.answers import REQUEST_ID, stored_crc64, why_not
from ..protocol.checksum import CHECKSUM_BLOCK_BYTES, Sum, crc64
from ..protocol.heads import ResponseHead, bare_etag, content_range, object_stat
from ..protocol.values import ByteSpan, Download, ObjectStat, Request
from ..protocol.xml_tree import MAX_DOCUMENT_BYTES
from ..redaction import SecretBuffer, printable
from ..uri import OssUri
from .error_texts import PAGE
from .memory import Memory, SummedMemory, fill, fresh_memory, part
from .transport.base import BodySink, Transitions

R = TypeVar("R")

MAX_REFUSAL_BYTES = 1024 * 1024
READ_AGAIN = f"read it again from the beginning ({PAGE}#ossobjectchangederror)"

# Makes a named tuple without the Python call of its class: for every object.
_new = tuple.__new__


class PendingOperation(BodySink, Protocol):
    """What the sender needs to know of an operation: where answers go, and what to do next."""

    wants_early_look: bool
    """True if the sender must await `look_early` before it calls `finish`."""

    @property
    def refusal(self) -> bytearray:
        """The body of the last answer if that was a refusal."""

    @property
    def is_resumed(self) -> bool:
        """True if the next request asks only for the bytes that are missing."""

    def request(self) -> Request:
        """Return the request to send now."""

    def finish(self, head: ResponseHead) -> None:
        """Check a good answer, which is whole, and set `result`; raises `OssIntegrityError` or `OssProtocolError`."""

    async def look_early(self) -> None:
        """Do what can be done with a good answer before `finish`."""

    def keep(self, received_bytes: int) -> None:
        """The last answer broke off when `received_bytes` of its body had been received."""

    def discard(self) -> None:
        """Forget what has been received, because it is wrong: begin again."""


class _WholeAnswer:
    """What most operations have in common: only a whole answer is of use, and a broken one leaves nothing."""

    fills_in_place = False
    moved_bytes = 0
    wants_early_look = False

    @property
    def is_resumed(self) -> bool:
        return False

    async def look_early(self) -> None:
        """Do nothing."""

    def buffer_for(self, head: ResponseHead) -> Memory:
        raise NotImplementedError

    def accept_whole(self, head: ResponseHead, body: memoryview) -> None:
        fill(self.buffer_for(head._replace(content_length=len(body))), 0, body)

    def progressed(self, received_bytes: int) -> None:
        """Do nothing."""

    def keep(self, received_bytes: int) -> None:
        """Keep nothing."""

    def discard(self) -> None:
        """Do nothing: the next answer replaces this one."""


class DocumentAttempt(_WholeAnswer, Generic[R]):
    """A request that is answered by a document (or nothing), which is gathered whole, within a limit, and parsed."""

    def __init__(self, request: Request) -> None:
        self._request = request
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
        if head.content_length is None and not body:  # the last tag of a document shows that it is whole
            raise OssProtocolError(f"answered {head.status} without a length, and nothing came: it may be cut off")
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

    def discard(self) -> None:
        self._document = SecretBuffer()

    def _parse(self, head: ResponseHead, body: bytearray) -> R:
        raise NotImplementedError


class ParsedAttempt(DocumentAttempt[R]):
    """One whose document a function parses; not one of its own methods: that cycle would keep the document."""

    def __init__(self, request: Request, parse: Callable[[ResponseHead, bytearray], R]) -> None:
        super().__init__(request)
        self._function = parse

    def _parse(self, head: ResponseHead, body: bytearray) -> R:
        return self._function(head, body)


class GetState(IntEnum):
    """How far a GET is; see the table above."""

    UNASKED = 0
    ASKED = 1
    RECEIVING = 2
    COMPLETE = 3


UNASKED, ASKED, RECEIVING, COMPLETE = GetState

REQUESTED = Transitions({UNASKED: ASKED, ASKED: ASKED})
ANSWER_BEGUN = Transitions({ASKED: RECEIVING})
FINISHED = Transitions({RECEIVING: COMPLETE})
STOPPED = Transitions({UNASKED: UNASKED, ASKED: UNASKED, RECEIVING: UNASKED})


class GetAttempt(_WholeAnswer):
    """The object's bytes in `span` (all if None), into the caller's memory or into a new `bytes`.

    A span may reach past the object's end: what exists is delivered. `checksum` is given them as they arrive.
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
        self.moved_bytes = 0 if span is None else span.stop - span.start
        self.state = UNASKED
        self.on_head: Callable[[], None] | None = None  # called when a good answer begins, for hedged reads
        self.result: Download
        self.uri, self.span, self._into, self._checksum = uri, span, into, checksum
        self.pinned_etag = bare_etag(if_match) if if_match else ""
        # What the first good answer said: the object, and which bytes of the span exist.
        self._object: tuple[ObjectStat, ByteSpan] | None = None
        self._received = 0  # bytes of the span that earlier answers brought
        self._target = None if into is None else SummedMemory(into, checksum)
        self._body = b""  # a body that came whole
        self._refusal: SecretBuffer | None = None

    @property
    def refusal(self) -> bytearray:
        return SecretBuffer() if self._refusal is None else self._refusal

    @property
    def is_resumed(self) -> bool:
        return self._received > 0

    def request(self) -> Request:
        self.state = REQUESTED[self.state]
        span, etag = self.span, self.pinned_etag
        if self._object is not None:
            stat, existing = self._object
            span, etag = ByteSpan(existing.start + self._received, existing.stop), stat.etag
        return requests.get_object(self.uri.bucket, self.uri.key, span, etag)

    def buffer_for(self, head: ResponseHead) -> Memory:
        length = head.content_length or 0
        if head.status not in (200, 206):
            if length > MAX_REFUSAL_BYTES:
                raise OssProtocolError(f"an error message of {length} bytes")
            self._refusal = SecretBuffer(length)
            return memoryview(self._refusal)
        self._believe(head, length)
        if self._target is None:
            self._target = self._allocate(length)
        assert self._target.memory is not None
        return part(self._target.memory, self._received, self._received + length)

    def progressed(self, received_bytes: int) -> None:
        target = self._target
        if self.state is RECEIVING and target is not None:
            stop = self._received + received_bytes
            if stop - target.summed_bytes >= CHECKSUM_BLOCK_BYTES:
                target.sum_up_to(stop)

    def accept_whole(self, head: ResponseHead, body: memoryview) -> None:
        if head.content_length is None:
            head = _ended_by_the_connection(head, len(body))
        if self._target is None and head.status in (200, 206):
            self._believe(head, body.nbytes)
            self._body = bytes(body)
        else:
            fill(self.buffer_for(head), 0, body)

    def keep(self, received_bytes: int) -> None:
        if self.state is RECEIVING:
            self._received += received_bytes
        self.state = STOPPED[self.state]
        # Continue only behind bytes of the object that are in memory. If the checksum has seen more than these, or no
        # byte is missing, begin again; then the next answer need not agree with this one.
        known, target = self._object, self._target
        if not (known and target and max(target.summed_bytes, 1) <= self._received < known[1].size):
            self.discard()

    def discard(self) -> None:
        self.state = STOPPED[self.state]
        self._object, self._received, self._body = None, 0, b""
        self._target = None if self._into is None else SummedMemory(self._into, self._checksum)
        if self._checksum is not None:
            self._checksum.clear()

    def finish(self, head: ResponseHead) -> None:
        if self._object is None or self.state is not RECEIVING:
            raise OssProtocolError(f"status {head.status} for a GET")
        (stat, span), target = self._object, self._target
        if target is None:
            crc = crc64(self._body)
        else:
            target.sum_up_to(span.stop - span.start)
            crc = target.crc
        if not span.start and span.stop == stat.size and stat.crc64 not in (None, crc):
            raise OssIntegrityError(f"the {stat.size} bytes received have CRC-64 {crc}, OSS says {stat.crc64}")
        self.state = FINISHED[self.state]
        if target is not None:
            self._body = target.give_out()
        self.result = _new(Download, (stat, span, self._body, crc))

    def _believe(self, head: ResponseHead, length: int) -> None:
        """Believe the head of a good answer, or raise what is wrong with it."""
        if REQUEST_ID not in head.headers:
            raise OssProtocolError(why_not("GetObject", head))
        stated = None
        if head.status == 206:
            text = head.headers["content-range"] if "content-range" in head.headers else ""  # noqa: SIM401
            is_whole = length and text == f"bytes 0-{length - 1}/{length}"  # as small objects come: no need to parse it
            stated = (0, length - 1, length) if is_whole else content_range(head)
        stat = object_stat(head, stated)
        if self.on_head is not None:
            self.on_head()
        known, wanted = self._object, self.span
        if head.status == 206:
            if stated != (0, length - 1, length) or known is not None or wanted is None or wanted != (0, length):
                self._check_part(head, stated, length)
        elif known is not None or (wanted is not None and (wanted.start or length > wanted.stop)):
            raise OssProtocolError(f"the range was ignored: 200 with {length} bytes")
        if not stat.etag:
            raise OssProtocolError(f"answered {head.status} without an ETag: can't tell of which object the bytes are")
        etag = self.pinned_etag if known is None else known[0].etag
        if etag and stat.etag != etag:
            raise OssObjectChangedError(
                f"GetObject {self.uri.shown}: the object was replaced while it was read "
                f"(ETag {printable(etag, 40)}, now {printable(stat.etag, 40)}); {READ_AGAIN}"
            )
        if known is not None:
            self._check_same(known[0], stat)
        else:
            if wanted is None or wanted[1] - wanted[0] != length:
                start = 0 if wanted is None else wanted[0]
                wanted = ByteSpan(start, start + length)
            self._object = stat, wanted
            if length > self.moved_bytes:
                self.moved_bytes = length
        self.state = ANSWER_BEGUN[self.state]

    def _check_same(self, first: ObjectStat, stat: ObjectStat) -> None:
        """Compare what the answer with the rest of a body says about the object with what the first one said."""
        if stat.size != first.size or (None not in (stat.crc64, first.crc64) and stat.crc64 != first.crc64):
            self.discard()
            raise OssProtocolError(
                f"two answers disagree about the object with ETag {stat.etag}: {first.size} bytes with CRC-64 "
                f"{first.crc64}, then {stat.size} bytes with CRC-64 {stat.crc64}"
            )

    def _check_part(self, head: ResponseHead, stated: tuple[int, int, int] | None, length: int) -> None:
        """Check that a 206 brings just the bytes that were asked for; `stated` is what it says of them."""
        if stated is None or (self.span is None and self._object is None):
            raise OssProtocolError("206 with a missing or unasked-for Content-Range")
        first, last, total = stated
        if self._object is not None:
            start, stop = self._object[1].start + self._received, self._object[1].stop
        else:
            assert self.span is not None
            start, stop = self.span.start, min(self.span.stop, total)  # a span may reach past the end
        if (first, last + 1, last + 1 - first) != (start, stop, length):
            self.discard()  # when resuming, the first answer may have lied: nothing of it is kept
            raise OssProtocolError(
                f"asked for bytes {start} to {stop}, got {head.get('content-range')[:80]!r} of {length}"
            )

    def _allocate(self, length: int) -> SummedMemory:
        try:
            store = fresh_memory(length)
        except (MemoryError, OverflowError):
            raise OssProtocolError(f"an object of {length} bytes does not fit into memory") from None
        return SummedMemory(store.getbuffer(), self._checksum, store)


class UploadAttempt(_WholeAnswer):
    """A request that sends bytes. OSS must answer with their CRC-64; `crc` is that CRC-64 if the caller knows it."""

    def __init__(self, request: Request, uri: OssUri, crc: int | None = None) -> None:
        self._request = request
        self._uri = uri
        self._answer = SecretBuffer()
        self.moved_bytes = self.size = sum(memoryview(part).nbytes for part in request.body)
        self.sent = 0
        if crc is None:
            crc = 0
            for buffer in request.body:
                crc = crc64(buffer, crc)
        self.crc = crc
        self.result: ResponseHead

    @property
    def refusal(self) -> bytearray:
        return self._answer

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
            raise OssIntegrityError(f"{self.size} bytes with CRC-64 {self.crc} were sent, OSS received CRC-64 {stored}")
        self.result = head


def _ended_by_the_connection(head: ResponseHead, received_bytes: int) -> ResponseHead:
    """Return the head with a length, for a body that only the end of the connection ended.

    Something else must show that it is whole: the CRC-64 of the object, or the length of the part.
    """
    if head.status == 200 and not head.get("x-oss-hash-crc64ecma"):
        raise OssProtocolError("answered 200 with neither a length nor a CRC-64: the body may have been cut off")
    return head._replace(content_length=received_bytes)
