"""One connection of the data path, one exchange at a time: HTTP/1.1 straight onto the caller's memory.

An `asyncio.BufferedProtocol` hands the kernel the buffer to fill. While a head is awaited that is a buffer for all
connections of the loop, large enough that a small object comes with its head in one system call; once the head is
parsed it is the destination itself, so the rest of a large object is copied once, by the kernel. A body in chunks,
as OSS sends documents, is gathered first. Answers that end where the connection ends it refuses with `UnsizedBody`.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from ...errors import OssProtocolError
from ...protocol.chunked import ChunkedDecoder
from ...protocol.heads import ResponseHead, encode_head, parse_response_head
from ...protocol.values import Buffer
from ...redaction import SecretBuffer, SecretBytes
from ..memory import Memory, fill, room
from .base import (
    LEAST_PROGRESS_BYTES,
    MAX_UNSIZED_BODY_BYTES,
    SLOWEST_BYTES_PER_SECOND,
    BodySink,
    ExchangeFailed,
    FailureKind,
    UnsizedBody,
    WireRequest,
    check_not_early,
    unsent_bytes,
)

INCOMING_BYTES = 256 * 1024
# Where the body has a place of its own, no more of it than this comes with the head, to be copied.
HEAD_ONLY_BYTES = 4 * 1024
# No more of a large body at a time: what has come is summed while it is still in the processor's cache.
RECEIVE_BYTES = 256 * 1024
WRITE_SLICE_BYTES = 1024 * 1024
JOINED_REQUEST_BYTES = 16 * 1024


class Incoming:
    """Memory in which the kernel puts the beginnings of answers, and small ones whole."""

    __slots__ = ("data", "view")

    def __init__(self) -> None:
        self.data = SecretBuffer(INCOMING_BYTES)  # an error document echoes what was signed
        self.view = memoryview(self.data)


class _Chunks:
    """A body that comes in chunks."""

    def __init__(self) -> None:
        self.body = SecretBuffer()
        self._decoder = ChunkedDecoder()

    @property
    def rest(self) -> bytes:
        """What came behind the body."""
        return self._decoder.rest

    def take(self, data: memoryview) -> bool:
        """Take what has come; True if that was all. `OssProtocolError` if it is nonsense, or too much."""
        for piece in self._decoder.feed(data):
            self.body += piece
        if len(self.body) > MAX_UNSIZED_BODY_BYTES:
            raise OssProtocolError(f"an answer without a length, over {MAX_UNSIZED_BODY_BYTES} bytes")
        return self._decoder.is_done


class Connection(asyncio.BufferedProtocol):
    """One connection, one exchange at a time.

    `incoming` is for all connections of a loop: what comes is used at once, and memory that was used a moment ago is
    in the processor's cache. Only a head that did not come whole waits in memory of the connection's own.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, open_connections: set[Connection], incoming: Incoming) -> None:
        self._loop = loop
        self._open_connections = open_connections
        self._is_lost = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._shared = self._incoming = incoming
        self._filled = 0
        self._head: ResponseHead | None = None
        self._body: Memory | None = None
        self._received = 0
        self._chunks: _Chunks | None = None
        self._sink: BodySink | None = None
        self._incoming_limit = INCOMING_BYTES
        self._answer: asyncio.Future[ResponseHead] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._is_paused = False
        self._method = ""
        self._has_body = False
        self.address: tuple[Any, ...] = ()
        self._unwritten_bytes = 0  # of the request's body: asyncio has not been given them yet
        self.exchanges = 0
        self.is_usable = True
        self.idle_since = 0.0
        self.deadline = self.begun = 0.0
        self.quiet_since = 0.0
        self._touched = False
        self._unsent_bytes = self._seen_bytes = 0

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open_connections.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._body is not None:
            return room(self._body, self._received, self._received + RECEIVE_BYTES)
        filled = self._filled
        return self._incoming.view[filled : max(self._incoming_limit, filled + HEAD_ONLY_BYTES)]

    def buffer_updated(self, nbytes: int) -> None:
        if self._body is not None:
            self._received += nbytes
            assert self._sink is not None
            self._sink.progressed(self._received)
            if self._received == len(self._body):
                self._finish()
            return
        if self._answer is None:
            self.abort()  # bytes nobody asked for: this peer can't be trusted with the next request
            return
        try:
            if self._chunks is not None:
                self._read_chunks(self._incoming.view[:nbytes])
            else:
                self._filled += nbytes
                self._read_head()
        except Exception as error:
            self._fail(error)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_usable = False
        self._open_connections.discard(self)
        if not self._is_lost.done():
            self._is_lost.set_result(None)
        reason = f": {exc}" if exc else ""
        self._fail(self._failure("reset", f"the connection was closed before the whole answer was there{reason}"))
        self._resume()

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        self._touched = True
        self._resume()

    # the pool calls these

    def begin(self, wire: WireRequest, sink: BodySink, deadline: float, now: float) -> asyncio.Future[ResponseHead]:
        """Send a request (of one with a body, the head); the future is the answer, all of it.

        `now` may be a tick ago: how long the peer has been quiet is counted from the next one on.
        """
        assert self._transport is not None
        head = encode_head(wire.method, wire.target, wire.headers)
        self.exchanges += 1
        self.deadline, self.begun, self._touched = deadline, now, True
        self._sink, self._method, self._has_body = sink, wire.method, bool(wire.body)
        self._incoming_limit = HEAD_ONLY_BYTES if sink.fills_in_place else INCOMING_BYTES
        self._answer = answer = self._loop.create_future()
        self._unwritten_bytes = sum(map(_nbytes, wire.body)) if wire.body else 0
        if 0 < self._unwritten_bytes <= JOINED_REQUEST_BYTES:
            head = SecretBytes(b"".join((head, *wire.body)))
            self._unwritten_bytes = 0
        self._transport.write(head)
        return answer

    def end(self, answer: asyncio.Future[ResponseHead]) -> None:
        """Let go of what belongs to the exchange; a connection whose answer did not come whole is not used again."""
        self._answer = self._sink = self._body = self._head = self._chunks = None
        if not answer.done() or answer.cancelled() or answer.exception() is not None:
            self.abort()

    async def send_body(self, body: tuple[Buffer, ...], answer: asyncio.Future[ResponseHead]) -> None:
        """Write a body as fast as the peer takes it; stop early when it has already answered."""
        assert self._transport is not None
        if not self._unwritten_bytes:
            return
        for part in body:
            view = memoryview(part).cast("B")
            for start in range(0, len(view), WRITE_SLICE_BYTES):
                if self._is_paused:
                    self._writable = self._loop.create_future()
                    await self._writable
                if answer.done():
                    return
                piece = view[start : start + WRITE_SLICE_BYTES]
                self._unwritten_bytes -= len(piece)
                self._transport.write(piece)

    def check(self, now: float, read_seconds: float) -> None:
        """Fail the running exchange if it is late or has gone quiet.

        A reused connection may have died while it was idle: its silence may take half of the time at most.
        """
        if self._answer is None:
            return
        if self.exchanges > 1 and self._is_untouched():
            read_seconds = min(read_seconds, (self.deadline - self.begun) / 2)
        if self._has_moved():
            self.quiet_since = now
        if now >= self.deadline:
            self._fail(self._failure("timeout", "the operation's time was used up"))
        elif now - self.quiet_since >= read_seconds:
            self._fail(self._failure("timeout", f"hardly a byte for {read_seconds:g} s"))

    def abort(self) -> None:
        self.is_usable = False
        if self._transport is not None:
            self._transport.abort()

    async def aclose(self) -> None:
        """Abort, and wait until the socket is gone."""
        self.abort()
        await self._is_lost

    # the exchange's own steps

    def _read_head(self) -> None:
        parsed = parse_response_head(self._incoming.data, self._filled)
        if parsed is None:
            self._keep_what_came()
            return
        head, body_start = parsed
        self._head = head
        length = head.body_length(self._method)
        sink = self._sink
        assert sink is not None
        if length is None:
            self._begin_chunks(head, body_start)
            return
        if not length:
            head = head._replace(content_length=0)
        stop = body_start + length
        if stop <= self._filled:
            sink.accept_whole(head, self._incoming.view[body_start:stop])
            self._filled -= stop
            self._finish()
            return
        known_bytes = sink.moved_bytes
        body = sink.buffer_for(head)
        self.deadline += (sink.moved_bytes - known_bytes) / SLOWEST_BYTES_PER_SECOND
        if len(body) != length:
            raise OssProtocolError(f"a body of {length} bytes was placed into {len(body)}")
        here = self._filled - body_start
        fill(body, 0, self._incoming.view[body_start : self._filled])
        self._body, self._received, self._filled = body, here, 0
        self._incoming = self._shared

    def _begin_chunks(self, head: ResponseHead, body_start: int) -> None:
        if not head.chunked:
            raise UnsizedBody
        here = self._incoming.view[body_start : self._filled]
        self._chunks = _Chunks()
        self._filled, self._incoming, self._incoming_limit = 0, self._shared, INCOMING_BYTES
        self._read_chunks(here)

    def _read_chunks(self, data: memoryview) -> None:
        chunks, head, sink = self._chunks, self._head, self._sink
        assert chunks is not None
        assert head is not None
        assert sink is not None
        self.deadline += len(data) / SLOWEST_BYTES_PER_SECOND
        if chunks.take(data):
            sink.accept_whole(head._replace(content_length=len(chunks.body)), memoryview(chunks.body))
            self._filled = len(chunks.rest)
            self._finish()

    def _keep_what_came(self) -> None:
        if self._incoming is self._shared:
            self._incoming = Incoming()
            self._incoming.view[: self._filled] = self._shared.view[: self._filled]

    def _finish(self) -> None:
        head, answer = self._head, self._answer
        assert head is not None
        if self._has_body and (self._unwritten_bytes or self._unsent()):
            self.is_usable = False
            try:
                check_not_early(head)
            except OssProtocolError as error:
                self._fail(error)
                return
        if self._filled or not head.keep_alive:
            self.is_usable = False
        self._filled = 0
        self._incoming = self._shared
        self._head = self._body = self._chunks = None
        if answer is not None and not answer.done():
            answer.set_result(head)
        self._resume()

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self._resume()
        self.abort()

    def _failure(self, kind: FailureKind, text: str) -> ExchangeFailed:
        return ExchangeFailed(
            kind,
            text,
            received_bytes=self._received if self._body is not None else 0,
            reused=self.exchanges > 1 and self._is_untouched(),
            request_id=self._head.get("x-oss-request-id") if self._head is not None else "",
        )

    def _is_untouched(self) -> bool:
        """Say whether no byte of an answer has come."""
        return self._head is None and not self._filled

    def _has_moved(self) -> bool:
        unsent = self._unsent()
        seen = self._seen()
        # fewer bytes than last time: the head is through, and the body's are counted now
        moved = self._touched or unsent < self._unsent_bytes or not 0 <= seen - self._seen_bytes < LEAST_PROGRESS_BYTES
        if moved:
            self._touched, self._seen_bytes = False, seen
        self._unsent_bytes = unsent
        return moved

    def _seen(self) -> int:
        """Return how much has come of what comes now: a body, chunks of one, or a head."""
        if self._body is not None:
            return self._received
        return self._filled if self._chunks is None else len(self._chunks.body)

    def _unsent(self) -> int:
        return unsent_bytes(self._transport)

    def _resume(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None


def _nbytes(part: Buffer) -> int:
    return memoryview(part).nbytes
