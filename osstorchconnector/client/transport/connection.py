"""One connection: HTTP/1.1 answers go straight into the caller's memory.

`Connection` is an `asyncio.BufferedProtocol`: it gives the kernel the buffer to fill. While a head is awaited that is a
buffer that all connections of the loop share, large enough for a small object to arrive with its head in one system
call. Once the head is parsed it is the target itself, so the rest of a large object is copied once, by the kernel. A
body in chunks, as OSS sends documents, is gathered first. An answer that ends with the connection is `UnsizedBody`.

A connection carries one exchange at a time, from `begin` to `end`; `states` has the table of its states.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator
from typing import Any, cast

from ...errors import OssProtocolError
from ...protocol.chunked import ChunkedDecoder
from ...protocol.heads import ResponseHead, encode_head, parse_response_head
from ...protocol.values import Buffer
from ...redaction import SecretBuffer, SecretBytes
from ..memory import fill, room
from .base import (
    MAX_UNSIZED_BODY_BYTES,
    SLOWEST_BYTES_PER_SECOND,
    BodySink,
    ExchangeFailed,
    FailureKind,
    PeerActivity,
    UnsizedBody,
    WireRequest,
    check_not_early,
    unsent_bytes,
)
from .outliers import TIMED_EVERY, FirstBytes
from .states import (
    ANSWERED,
    AWAITING_HEAD,
    BEGUN,
    BODY_BEGUN,
    CHUNKS_BEGUN,
    CONNECTED,
    CONNECTING,
    ENDED,
    LOST,
    READING_BODY,
    READING_CHUNKS,
    WHOLE,
    Incoming,
    WireExchange,
)

# If a body has its own target, receive at most this much of it together with the head, since that must be copied.
HEAD_ONLY_BYTES = 4 * 1024
# Receive a large body in steps of at most this: the checksum then finds each step in the processor's cache.
RECEIVE_BYTES = 256 * 1024
WRITE_SLICE_BYTES, MOST_SLICES = 1024 * 1024, 256
JOINED_REQUEST_BYTES = 16 * 1024


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
        self._exchange: WireExchange | None = None
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

    @property
    def is_busy(self) -> bool:
        """True from `begin` to `end`."""
        return self._exchange is not None

    def begin(self, wire: WireRequest, sink: BodySink, deadline: float, now: float) -> asyncio.Future[ResponseHead]:
        """Send a request (without its body, if that is large: `send_body`); the future is done after the whole answer.

        `now` may be a tick ago: the time in which the peer is quiet is counted from the next tick on.
        """
        head = encode_head(wire.method, wire.target, wire.headers)
        body_bytes = wire.body_bytes if wire.body else 0
        is_joined = body_bytes <= JOINED_REQUEST_BYTES
        first = SecretBytes(b"".join((head, *wire.body))) if is_joined else head
        is_read = wire.operation == "GetObject"
        answer = self.begin_with(first, wire.method, sink, deadline, now, is_read=is_read)
        assert self._exchange is not None
        self._exchange.sending, self._exchange.unwritten_bytes = wire.body, 0 if is_joined else body_bytes
        return answer

    def begin_with(
        self, head: SecretBytes, method: str, sink: BodySink, deadline: float, now: float, *, is_read: bool
    ) -> asyncio.Future[ResponseHead]:
        """Do the same for a request whose head is encoded, without its body."""
        transport = self._transport
        assert transport is not None
        self.state = BEGUN[self.state]
        self.exchanges += 1
        if is_read and not self.exchanges % TIMED_EVERY:
            self.first_bytes.begin()
        answer: asyncio.Future[ResponseHead] = self._loop.create_future()
        self._exchange = exchange = WireExchange()
        exchange.method, exchange.sink, exchange.answer, exchange.deadline = method, sink, answer, deadline
        exchange.begun, exchange.head, exchange.activity, exchange.received = now, None, None, 0
        exchange.sending, exchange.unwritten_bytes = (), 0
        transport.write(head)
        return answer

    async def send_body(self) -> None:
        """Write the request's body as fast as the peer takes it; stop early if the peer has already answered."""
        exchange, transport = self._exchange, self._transport
        assert exchange is not None
        assert transport is not None
        if not exchange.unwritten_bytes:
            return
        for slices in _slices(exchange.sending):
            if self._is_paused:
                self._writable = self._loop.create_future()
                await self._writable
            if exchange.answer.done():
                return
            exchange.unwritten_bytes -= sum(map(len, slices))
            if len(slices) == 1:
                transport.write(slices[0])
            else:
                transport.writelines(slices)  # in one system call, if the event loop is uvloop

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

    def check(self, now: float, read_seconds: float) -> float:
        """Fail the exchange if it is late or the peer has been quiet for `read_seconds`; return for how long it has.

        An exchange that is failed now counts as infinitely quiet.

        A reused connection may have died while it was idle: it may be silent for half of the operation's time at most.
        """
        exchange = self._exchange
        if exchange is None or exchange.answer.done():
            return 0.0
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
        return math.inf if exchange.answer.done() else now - activity.quiet_since

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

    def _read_head(self, exchange: WireExchange) -> None:
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
        is_part = head.status == 206 and exchange.method == "GET"  # without a call: so come the objects of a dataset
        length = head.content_length if is_part else head.body_length(exchange.method)
        if length is None:
            self._begin_chunks(exchange, head, self._incoming.view[body_start : self._filled])
            return
        stop = body_start + length
        if stop > self._filled:
            self._begin_body(exchange, head, length, self._incoming.view[body_start : self._filled])
            return
        # The head of an answer to HEAD tells the length of an object, which does not follow.
        of_body = head if length else head._replace(content_length=0)
        exchange.sink.accept_whole(of_body, self._incoming.view[body_start:stop])
        self._finish(exchange, head, self._filled - stop)

    def _begin_body(self, exchange: WireExchange, head: ResponseHead, length: int, beginning: memoryview) -> None:
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

    def _read_body(self, exchange: WireExchange, nbytes: int) -> None:
        exchange.received += nbytes
        exchange.sink.progressed(exchange.received)
        if exchange.received == len(exchange.body):
            assert exchange.head is not None
            self._finish(exchange, exchange.head, 0)

    def _begin_chunks(self, exchange: WireExchange, head: ResponseHead, beginning: memoryview) -> None:
        if not head.chunked:
            raise UnsizedBody
        exchange.decoder, exchange.gathered = ChunkedDecoder(), SecretBuffer()
        self._filled, self._incoming = 0, self._shared
        self.state = CHUNKS_BEGUN[self.state]
        self._read_chunks(exchange, beginning)

    def _read_chunks(self, exchange: WireExchange, data: memoryview) -> None:
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

    def _finish(self, exchange: WireExchange, head: ResponseHead, excess_bytes: int) -> None:
        """The answer is whole, and `excess_bytes` more have arrived that nobody asked for."""
        is_last = excess_bytes or not head.keep_alive
        if exchange.sending:
            self._wake_writer()
            if exchange.unwritten_bytes or unsent_bytes(self._transport):
                check_not_early(head)
                is_last = True
        self._filled, self._incoming = 0, self._shared
        self.state = LOST if is_last else WHOLE[self.state]
        try:
            exchange.answer.set_result(head)
        except asyncio.InvalidStateError:
            self.abort()  # the caller has given up

    def _fail(self, error: Exception) -> None:
        if self._exchange is not None and not self._exchange.answer.done():
            self._exchange.answer.set_exception(error)
        self._filled = 0
        self.abort()

    def _failure(self, exchange: WireExchange, kind: FailureKind, text: str) -> ExchangeFailed:
        request_id = "" if exchange.head is None else exchange.head.get("x-oss-request-id")
        reused = self._may_have_died_idle(exchange)
        return ExchangeFailed(kind, text, received_bytes=exchange.received, reused=reused, request_id=request_id)

    def _may_have_died_idle(self, exchange: WireExchange) -> bool:
        """Say whether this connection has been idle before and no byte of the answer has arrived."""
        return self.is_used and exchange.head is None and not self._filled

    def _seen_bytes(self, exchange: WireExchange) -> int:
        """Return how many bytes have arrived of what is arriving: the body, the body in chunks, or the head."""
        if self.state is READING_CHUNKS:
            return len(exchange.gathered)
        return exchange.received if self.state is READING_BODY else self._filled

    def _wake_writer(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None


def _slices(body: Iterable[Buffer]) -> Iterator[list[memoryview]]:
    """Yield all bytes of a body in lists of slices: `WRITE_SLICE_BYTES` at a time, and many short pieces together."""
    slices: list[memoryview] = []
    room = WRITE_SLICE_BYTES
    for buffer in body:
        view = memoryview(buffer).cast("B")
        while len(view):
            slices.append(view[:room])
            view = view[room:]
            room -= len(slices[-1])
            if not room or len(slices) == MOST_SLICES:
                yield slices
                slices, room = [], WRITE_SLICE_BYTES
    if slices:
        yield slices
