"""HTTP/1.1 straight onto the caller's memory: the data path.

An `asyncio.BufferedProtocol` hands the kernel the buffer to fill. While a head is awaited that is a buffer of the
connection's own, large enough that a small object comes with its head in one system call; once the head is parsed it
is the destination itself, so the rest of a large object is copied once, by the kernel. Requests on one connection
follow each other (no pipelining); a pool keeps idle connections, last in first out, so that few stay warm rather than
many lukewarm.

What this transport does not do, answers without a length, it refuses with `UnsizedBody`.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import cast

from ...errors import OssProtocolError
from ..endpoint import Origin
from ..heads import ResponseHead, encode_head, parse_response_head
from ..values import Buffer
from .base import (
    LEAST_PROGRESS_BYTES,
    ExchangeFailed,
    FailureKind,
    Landing,
    Timeouts,
    UnsizedBody,
    WireRequest,
    connect_failure,
)

INCOMING_BYTES = 256 * 1024
# Where the body has a place of its own, no more of it than this comes with the head, to be copied.
HEAD_ONLY_BYTES = 4 * 1024
# No more of a large body at a time: what has come is summed while it is still in the processor's cache.
RECEIVE_BYTES = 256 * 1024
WRITE_SLICE_BYTES = 1024 * 1024
JOINED_REQUEST_BYTES = 16 * 1024
# OSS closes an idle connection after 60 s; a request sent just then would fail and be sent again.
IDLE_SECONDS = 45.0


class Incoming:
    """Memory in which the kernel puts the beginnings of answers, and small ones whole."""

    __slots__ = ("data", "view")

    def __init__(self) -> None:
        self.data = bytearray(INCOMING_BYTES)
        self.view = memoryview(self.data)


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
        self._body: memoryview | None = None
        self._received = 0
        self._landing: Landing | None = None
        self._incoming_limit = INCOMING_BYTES
        self._answer: asyncio.Future[ResponseHead] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._is_paused = False
        self._method = ""
        self._has_body = False
        self.exchanges = 0
        self.is_usable = True
        self.idle_since = 0.0
        self.deadline = 0.0
        self.quiet_since = 0.0
        self._touched = False
        self._unsent_bytes = self._seen_bytes = 0

    # asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._open_connections.add(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._body is not None:
            return self._body[self._received : self._received + RECEIVE_BYTES]
        filled = self._filled
        return self._incoming.view[filled : max(self._incoming_limit, filled + HEAD_ONLY_BYTES)]

    def buffer_updated(self, nbytes: int) -> None:
        if self._body is not None:
            self._received += nbytes
            assert self._landing is not None
            self._landing.arrived(self._received)
            if self._received == len(self._body):
                self._finish()
            return
        self._filled += nbytes
        if self._answer is None:
            self.abort()  # bytes nobody asked for: this peer can't be trusted with the next request
            return
        try:
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

    def begin(self, wire: WireRequest, landing: Landing, deadline: float) -> asyncio.Future[ResponseHead]:
        """Send a request (of one with a body, the head); the future is the answer, all of it."""
        assert self._transport is not None
        head = encode_head(wire.method, wire.target, wire.headers)
        self.exchanges += 1
        self.deadline, self.quiet_since = deadline, self._loop.time()
        self._landing, self._method, self._has_body = landing, wire.method, bool(wire.body)
        self._incoming_limit = HEAD_ONLY_BYTES if landing.lands_in_place else INCOMING_BYTES
        self._answer = answer = self._loop.create_future()
        if wire.body and sum(map(_nbytes, wire.body)) <= JOINED_REQUEST_BYTES:
            head = b"".join((head, *wire.body))
        self._transport.write(head)
        return answer

    def end(self, answer: asyncio.Future[ResponseHead]) -> None:
        """Let go of what belongs to the exchange; a connection whose answer did not come whole is not used again."""
        self._answer = self._landing = self._body = self._head = None
        if not answer.done() or answer.cancelled() or answer.exception() is not None:
            self.abort()

    async def send_body(self, body: tuple[Buffer, ...], answer: asyncio.Future[ResponseHead]) -> None:
        """Write a body as fast as the peer takes it; stop early when it has already answered."""
        assert self._transport is not None
        if sum(map(_nbytes, body)) <= JOINED_REQUEST_BYTES:
            return
        for part in body:
            view = memoryview(part).cast("B")
            for start in range(0, len(view), WRITE_SLICE_BYTES):
                if self._is_paused:
                    self._writable = self._loop.create_future()
                    await self._writable
                if answer.done():
                    return
                self._transport.write(view[start : start + WRITE_SLICE_BYTES])

    def check(self, now: float, read_seconds: float) -> None:
        """Fail the running exchange if it is late or has gone quiet."""
        if self._answer is None:
            return
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
        if length is None:
            raise UnsizedBody
        landing = self._landing
        assert landing is not None
        if not length:
            head = head._replace(content_length=0)
        stop = body_start + length
        if stop <= self._filled:
            landing.take(head, self._incoming.view[body_start:stop])
            self._filled -= stop
            self._finish()
            return
        body = landing.place(head)
        if len(body) != length:
            raise OssProtocolError(f"a body of {length} bytes was placed into {len(body)}")
        here = self._filled - body_start
        body[:here] = self._incoming.view[body_start : self._filled]
        self._body, self._received, self._filled = body, here, 0
        self._incoming = self._shared

    def _keep_what_came(self) -> None:
        if self._incoming is self._shared:
            self._incoming = Incoming()
            self._incoming.view[: self._filled] = self._shared.view[: self._filled]

    def _finish(self) -> None:
        head, answer = self._head, self._answer
        assert head is not None
        if self._filled or not head.keep_alive or (self._has_body and self._unsent()):
            self.is_usable = False
        self._filled = 0
        self._incoming = self._shared
        self._head = self._body = None
        if answer is not None and not answer.done():
            answer.set_result(head)
        self._resume()

    def _fail(self, error: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self._resume()
        self.abort()

    def _failure(self, kind: FailureKind, text: str) -> ExchangeFailed:
        untouched = self._head is None and not self._filled
        return ExchangeFailed(
            kind,
            text,
            received_bytes=self._received if self._body is not None else 0,
            reused=kind == "reset" and self.exchanges > 1 and untouched,
            request_id=self._head.get("x-oss-request-id") if self._head is not None else "",
        )

    def _has_moved(self) -> bool:
        unsent = self._unsent()
        seen = self._received if self._body is not None else self._filled
        # fewer bytes than last time: the head is through, and the body's are counted now
        moved = self._touched or unsent < self._unsent_bytes or not 0 <= seen - self._seen_bytes < LEAST_PROGRESS_BYTES
        if moved:
            self._touched, self._seen_bytes = False, seen
        self._unsent_bytes = unsent
        return moved

    def _unsent(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def _resume(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)
        self._writable = None


class DirectTransport:
    """The pool of one event loop."""

    def __init__(self, timeouts: Timeouts, tls: ssl.SSLContext | None) -> None:
        self._timeouts = timeouts
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Origin, list[Connection]] = {}
        self._busy: set[Connection] = set()
        self._open: set[Connection] = set()
        self._incoming = Incoming()
        self._sweep_every = min(1.0, timeouts.read_seconds / 4)
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def exchange(self, wire: WireRequest, landing: Landing, deadline: float) -> ResponseHead:
        connection = self._idle_connection(wire.origin)
        if connection is None:
            connection = await self._connect(wire.origin, deadline)
        self._busy.add(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._sweep_every, self._sweep)
        answer = connection.begin(wire, landing, deadline)
        try:
            if wire.body:
                await connection.send_body(wire.body, answer)
            return await answer
        except ExchangeFailed as failure:
            if failure.reused:  # the other idle ones have been idle for longer
                self._drop_idle(wire.origin)
            raise
        finally:
            connection.end(answer)
            self._busy.discard(connection)
            self._park(wire.origin, connection)

    async def aclose(self) -> None:
        self._is_closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._idle.clear()
        await asyncio.gather(*[connection.aclose() for connection in list(self._open)])

    def _idle_connection(self, origin: Origin) -> Connection | None:
        stack = self._idle.get(origin)
        while stack:
            connection = stack.pop()
            if connection.is_usable and self._loop.time() - connection.idle_since < IDLE_SECONDS:
                return connection
            connection.abort()
        return None

    def _drop_idle(self, origin: Origin) -> None:
        for connection in self._idle.pop(origin, []):
            connection.abort()

    async def _connect(self, origin: Origin, deadline: float) -> Connection:
        connection = Connection(self._loop, self._open, self._incoming)
        try:
            await self._establish(connection, origin, max(deadline - self._loop.time(), 0.0))
        except BaseException:
            connection.connection_lost(None)  # given up just after it was made, uvloop closes it without a word
            raise
        return connection

    async def _establish(self, connection: Connection, origin: Origin, seconds: float) -> None:
        seconds = min(self._timeouts.connect_seconds, seconds)
        try:
            await asyncio.wait_for(
                self._loop.create_connection(
                    lambda: connection,
                    origin.host,
                    origin.port,
                    ssl=self._tls if origin.scheme == "https" else None,
                ),
                seconds,
            )
        except asyncio.TimeoutError:
            text = f"no connection to {origin.host}:{origin.port} within {seconds:.3g} s"
            raise ExchangeFailed("timeout", text) from None
        except OSError as error:
            raise connect_failure(origin, error) from error

    def _park(self, origin: Origin, connection: Connection) -> None:
        if self._is_closed or not connection.is_usable:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        self._idle.setdefault(origin, []).append(connection)

    def _sweep(self) -> None:
        now = self._loop.time()
        for connection in list(self._busy):
            connection.check(now, self._timeouts.read_seconds)
        busy = bool(self._busy) and not self._is_closed
        self._sweeper = self._loop.call_later(self._sweep_every, self._sweep) if busy else None


def _nbytes(part: Buffer) -> int:
    return memoryview(part).nbytes
