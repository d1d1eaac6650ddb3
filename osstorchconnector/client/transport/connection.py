"""One connection of the data path: HTTP/1.1 answers go straight into the caller's memory.

`Connection` is an `asyncio.BufferedProtocol`: it gives the kernel the buffer to fill. While a head is awaited that is a
buffer that all connections of the loop share, large enough for a small object to arrive with its head in one system
call. Once the head is parsed it is the target itself, so the rest of a large object is copied once, by the kernel. A
body in chunks, as OSS sends documents, is gathered first. An answer that ends with the connection is `UnsizedBody`.

A connection carries one exchange at a time, from `begin` to `end`. Its state tells what the next bytes are:

    state            event                                      next state
    ---------------  -----------------------------------------  ---------------
    CONNECTING       the socket is connected                    IDLE
    IDLE             begin: the request is sent                 AWAITING_HEAD
    AWAITING_HEAD    a head and its whole body                  ANSWERED
                     a head, the length of its body is known    READING_BODY
                     a head, its body comes in chunks           READING_CHUNKS
    READING_BODY     the last byte of the body                  ANSWERED
    READING_CHUNKS   the last chunk                             ANSWERED
    ANSWERED         end                                        IDLE
    every state      see below                                  LOST

LOST is final: the connection is never used again. That is so after any failure, timeout or abort, when the connection
is closed, when bytes arrive that nobody asked for (in IDLE and ANSWERED), and when an answer is whole but allows no
further request: it says so, or it was sent before the request's body was read. Only in READING_BODY do bytes go into
the caller's memory. The request's body, if any, is written (`send_body`) while the head is awaited.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum
from typing import Any, cast

from ...errors import OssProtocolError
from ...protocol.chunked import ChunkedDecoder
from ...protocol.heads import ResponseHead, encode_head, parse_response_head
from ...redaction import SecretBuffer, SecretBytes
from ..memory import Memory, fill, room
from .base import (
    MAX_UNSIZED_BODY_BYTES,
    SLOWEST_BYTES_PER_SECOND,
    BodySink,
    ExchangeFailed,
    FailureKind,
    PeerActivity,
    Transitions,
    UnsizedBody,
    WireRequest,
    check_not_early,
    unsent_bytes,
)
from .outliers import TIMED_EVERY, FirstBytes

INCOMING_BYTES = 256 * 1024
# If a body has its own target, receive at most this much of it together with the head, since that must be copied.
HEAD_ONLY_BYTES = 4 * 1024
# Receive a large body in steps of at most this: the checksum then finds each step in the processor's cache.
RECEIVE_BYTES = 256 * 1024
WRITE_SLICE_BYTES = 1024 * 1024
JOINED_REQUEST_BYTES = 16 * 1024


class ConnectionState(IntEnum):
    """What the next bytes on a connection are; see the table above."""

    CONNECTING = 0
    IDLE = 1
    AWAITING_HEAD = 2
    READING_BODY = 3
    READING_CHUNKS = 4
    ANSWERED = 5
    LOST = 6


CONNECTING, IDLE, AWAITING_HEAD, READING_BODY, READING_CHUNKS, ANSWERED, LOST = ConnectionState


CONNECTED = Transitions({CONNECTING: IDLE})
BEGUN = Transitions({IDLE: AWAITING_HEAD})
BODY_BEGUN = Transitions({AWAITING_HEAD: READING_BODY})
CHUNKS_BEGUN = Transitions({AWAITING_HEAD: READING_CHUNKS})
WHOLE = Transitions({AWAITING_HEAD: ANSWERED, READING_BODY: ANSWERED, READING_CHUNKS: ANSWERED})
ENDED = Transitions({ANSWERED: IDLE})


class Incoming:
    """Memory that receives the beginnings of answers, and small answers whole."""

    __slots__ = ("data", "view")

    def __init__(self) -> None:
        self.data = SecretBuffer(INCOMING_BYTES)  # an error document echoes what was signed
        self.view = memoryview(self.data)


class _Exchange:
    """One request and its answer, from `begin` to `end`."""

    __slots__ = (
        *("answer", "begun", "body", "deadline", "decoder", "gathered", "head"),
        *("activity", "received", "sink", "unwritten_bytes", "wire"),
    )
    body: Memory  # set in READING_BODY: the caller's memory, of which `received` bytes are filled
    decoder: ChunkedDecoder  # set in READING_CHUNKS
    gathered: SecretBuffer  # set in READING_CHUNKS: the decoded body so far

    def __init__(
        self, wire: WireRequest, sink: BodySink, answer: asyncio.Future[ResponseHead], deadline: float, begun: float
    ) -> None:
        self.wire, self.sink, self.answer, self.deadline, self.begun = wire, sink, answer, deadline, begun
        self.unwritten_bytes = 0  # of the request's body: not given to asyncio yet
        self.received = 0
        self.head: ResponseHead | None = None
        self.activity: PeerActivity | None = None  # set at the first tick; most exchanges end before it


class Connection(asyncio.BufferedProtocol):
    """One connection, one exchange at a time.

    `incoming` is shared by all connections of a loop: its bytes are used before any other connection reads, and memory
    that was used a moment ago is in the processor's cache. Only the beginning of a head waits in memory of its own.
    """

    __slots__ = (
        *("_exchange", "_filled", "_incoming", "_is_lost", "_is_paused", "_loop", "_open_connections", "_shared"),
        *("_transport", "_writable", "address", "exchanges", "first_bytes", "idle_since", "is_probed", "is_used"),
        *("state",),
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, open_connections: set[Connection], incoming: Incoming, times: FirstBytes
    ) -> None:
        self._loop = loop
        self._open_connections = open_connections
        self._is_lost = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._shared = self._incoming = incoming
        self._filled = 0  # number of bytes in `_incoming`: of a head, and maybe of the data after it
        self._exchange: _Exchange | None = None
        self._writable: asyncio.Future[None] | None = None
        self._is_paused = False
        self.state = CONNECTING
        self.address: tuple[Any, ...] = ()
        self.is_probed = False  # the kernel notices when an idle peer has gone
        self.is_used = False  # it has been idle, or carried an exchange: the peer may have closed it since
        self.exchanges, self.idle_since = 0, 0.0
        self.first_bytes = times

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open_connections.add(self)
        if self.state is LOST:  # given up while it was being connected
            self._transport.abort()
        else:
            self.state = CONNECTED[self.state]

    def get_buffer(self, sizehint: int) -> memoryview:
        exchange, filled = self._exchange, self._filled
        if exchange is None:
            return self._incoming.view
        if self.state is READING_BODY:
            return room(exchange.body, exchange.received, exchange.received + RECEIVE_BYTES)
        if exchange.sink.fills_in_place and self.state is AWAITING_HEAD:
            return self._incoming.view[filled : filled + HEAD_ONLY_BYTES]
        return self._incoming.view[filled:] if filled else self._incoming.view

    def buffer_updated(self, nbytes: int) -> None:
        state, exchange = self.state, self._exchange
        try:
            if exchange is None or state is ANSWERED or state is LOST:
                self.abort()  # nobody asked for these bytes, so this peer's next answer can't be trusted either
            elif state is AWAITING_HEAD:
                self._filled += nbytes
                self._read_head(exchange)
            elif state is READING_BODY:
                self._read_body(exchange, nbytes)
            else:
                self._read_chunks(exchange, self._incoming.view[:nbytes])
        except Exception as error:
            self._fail(error)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_connections.discard(self)
        if not self._is_lost.done():
            self._is_lost.set_result(None)
        if self._exchange is None:
            self.abort()
        else:
            text = f"the connection was closed before the whole answer was there{f': {exc}' if exc else ''}"
            self._fail(self._failure(self._exchange, "reset", text))

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._exchange is not None and self._exchange.activity is not None:
            self._exchange.activity.touched = True
        self._wake_writer()

    # the pool calls these

    def begin(self, wire: WireRequest, sink: BodySink, deadline: float, now: float) -> asyncio.Future[ResponseHead]:
        """Send a request (without its body, if that is large: `send_body`); the future is done after the whole answer.

        `now` may be a tick ago: the time in which the peer is quiet is counted from the next tick on.
        """
        transport = self._transport
        assert transport is not None
        head = encode_head(wire.method, wire.target, wire.headers)
        self.state = BEGUN[self.state]
        self.exchanges += 1
        if not self.exchanges % TIMED_EVERY and wire.operation == "GetObject":
            self.first_bytes.begin()
        answer: asyncio.Future[ResponseHead] = self._loop.create_future()
        self._exchange = exchange = _Exchange(wire, sink, answer, deadline, now)
        if wire.body:
            body_bytes = wire.body_bytes
            if body_bytes <= JOINED_REQUEST_BYTES:
                head = SecretBytes(b"".join((head, *wire.body)))
            else:
                exchange.unwritten_bytes = body_bytes
        transport.write(head)
        return answer

    async def send_body(self) -> None:
        """Write the request's body as fast as the peer takes it; stop early if the peer has already answered."""
        exchange, transport = self._exchange, self._transport
        assert exchange is not None
        assert transport is not None
        if not exchange.unwritten_bytes:
            return
        for buffer in exchange.wire.body:
            view = memoryview(buffer).cast("B")
            for start in range(0, len(view), WRITE_SLICE_BYTES):
                if self._is_paused:
                    self._writable = self._loop.create_future()
                    await self._writable
                if exchange.answer.done():
                    return
                block = view[start : start + WRITE_SLICE_BYTES]
                exchange.unwritten_bytes -= len(block)
                transport.write(block)

    def end(self) -> bool:
        """End the exchange and return whether the connection may carry another one: its answer came whole."""
        exchange, self._exchange = self._exchange, None  # it refers to the caller's memory
        if self.state is ANSWERED:
            self.state = ENDED[self.state]
            self.is_used = True
            return True
        if exchange is not None:
            if not exchange.answer.cancel() and not exchange.answer.cancelled():
                exchange.answer.exception()  # asyncio would log an error that nobody has looked at
            del exchange.answer  # breaks the cycle exception -> traceback -> frame -> exchange -> future -> exception
        self.abort()
        return False

    def check(self, now: float, read_seconds: float) -> None:
        """Fail the exchange if it is late or the peer has been quiet for `read_seconds`.

        A reused connection may have died while it was idle: it may be silent for half of the operation's time at most.
        """
        exchange = self._exchange
        if exchange is None or exchange.answer.done():
            return
        if self._may_have_died_idle(exchange):
            read_seconds = min(read_seconds, (exchange.deadline - exchange.begun) / 2)
        unsent, seen, activity = unsent_bytes(self._transport), self._seen_bytes(exchange), exchange.activity
        if activity is None:
            activity = exchange.activity = PeerActivity(now, unsent, seen)
        else:
            activity.look(now, unsent, seen)
        if now >= exchange.deadline:
            self._fail(self._failure(exchange, "timeout", "the operation's time was used up"))
        elif now - activity.quiet_since >= read_seconds:
            self._fail(self._failure(exchange, "timeout", f"hardly a byte for {read_seconds:g} s"))

    def abort(self) -> None:
        """Close the connection at once. An exchange fails when asyncio reports the loss (`connection_lost`)."""
        self.state = LOST
        if self._transport is not None:
            self._transport.abort()
        self._wake_writer()

    async def aclose(self) -> None:
        """Abort, and wait until the socket is gone."""
        self.abort()
        await self._is_lost

    # the steps of an exchange

    def _read_head(self, exchange: _Exchange) -> None:
        parsed = parse_response_head(self._incoming.data, self._filled)
        if parsed is None:
            if self._incoming is self._shared:  # where other connections receive before the rest of this head arrives
                self._incoming = Incoming()
                self._incoming.view[: self._filled] = self._shared.view[: self._filled]
            return
        head, body_start = parsed
        exchange.head = head
        if self.first_bytes.is_begun:
            self.first_bytes.end()
        length = head.body_length(exchange.wire.method)
        if length is None:
            self._begin_chunks(exchange, head, self._incoming.view[body_start : self._filled])
            return
        if not length:
            head = head._replace(content_length=0)
        stop = body_start + length
        if stop > self._filled:
            self._begin_body(exchange, head, length, self._incoming.view[body_start : self._filled])
            return
        exchange.sink.accept_whole(head, self._incoming.view[body_start:stop])
        self._finish(exchange, head, self._filled - stop)

    def _begin_body(self, exchange: _Exchange, head: ResponseHead, length: int, beginning: memoryview) -> None:
        sink = exchange.sink
        known_bytes = sink.moved_bytes
        body = sink.buffer_for(head)
        exchange.deadline += (sink.moved_bytes - known_bytes) / SLOWEST_BYTES_PER_SECOND
        if len(body) != length:
            raise OssProtocolError(f"a body of {length} bytes was given memory of {len(body)}")
        fill(body, 0, beginning)
        exchange.body, exchange.received = body, len(beginning)
        self._filled, self._incoming = 0, self._shared
        self.state = BODY_BEGUN[self.state]

    def _read_body(self, exchange: _Exchange, nbytes: int) -> None:
        exchange.received += nbytes
        exchange.sink.progressed(exchange.received)
        if exchange.received == len(exchange.body):
            assert exchange.head is not None
            self._finish(exchange, exchange.head, 0)

    def _begin_chunks(self, exchange: _Exchange, head: ResponseHead, beginning: memoryview) -> None:
        if not head.chunked:
            raise UnsizedBody
        exchange.decoder, exchange.gathered = ChunkedDecoder(), SecretBuffer()
        self._filled, self._incoming = 0, self._shared
        self.state = CHUNKS_BEGUN[self.state]
        self._read_chunks(exchange, beginning)

    def _read_chunks(self, exchange: _Exchange, data: memoryview) -> None:
        decoder, gathered = exchange.decoder, exchange.gathered
        exchange.deadline += len(data) / SLOWEST_BYTES_PER_SECOND
        for view in decoder.feed(data):
            gathered += view
        if len(gathered) > MAX_UNSIZED_BODY_BYTES:
            raise OssProtocolError(f"an answer without a length, over {MAX_UNSIZED_BODY_BYTES} bytes")
        if decoder.is_done:
            assert exchange.head is not None
            head = exchange.head._replace(content_length=len(gathered))
            exchange.sink.accept_whole(head, memoryview(gathered))
            self._finish(exchange, exchange.head, len(decoder.rest))

    def _finish(self, exchange: _Exchange, head: ResponseHead, excess_bytes: int) -> None:
        """The answer is whole, and `excess_bytes` more have arrived that nobody asked for."""
        is_last = excess_bytes or not head.keep_alive
        if exchange.wire.body:
            self._wake_writer()
            if exchange.unwritten_bytes or unsent_bytes(self._transport):
                check_not_early(head)
                is_last = True
        self._filled, self._incoming = 0, self._shared
        self.state = LOST if is_last else WHOLE[self.state]
        if exchange.answer.done():
            self.abort()  # the caller has given up
        else:
            exchange.answer.set_result(head)

    def _fail(self, error: Exception) -> None:
        if self._exchange is not None and not self._exchange.answer.done():
            self._exchange.answer.set_exception(error)
        self._filled = 0
        self.abort()

    def _failure(self, exchange: _Exchange, kind: FailureKind, text: str) -> ExchangeFailed:
        request_id = "" if exchange.head is None else exchange.head.get("x-oss-request-id")
        reused = self._may_have_died_idle(exchange)
        return ExchangeFailed(kind, text, received_bytes=exchange.received, reused=reused, request_id=request_id)

    def _may_have_died_idle(self, exchange: _Exchange) -> bool:
        """Say whether this connection has been idle before and no byte of the answer has arrived."""
        return self.is_used and exchange.head is None and not self._filled

    def _seen_bytes(self, exchange: _Exchange) -> int:
        """Return how many bytes have arrived of what is arriving: the body, the body in chunks, or the head."""
        if self.state is READING_CHUNKS:
            return len(exchange.gathered)
        return exchange.received if self.state is READING_BODY else self._filled

    def _wake_writer(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None
