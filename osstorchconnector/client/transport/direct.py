"""The data path: a pool of connections that put answers straight into the caller's memory (`connection`).

Requests on one connection follow each other (no pipelining); a pool keeps idle connections, last in first out, so that
few connections stay in use, and the others may end.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from ...protocol.endpoint import Origin
from ...protocol.heads import ResponseHead
from ..clocks import loop_clock, seconds_since_boot
from .addresses import UNUSABLE, Addresses, AddressInfo, address_of, connect_failure
from .base import IDLE_SECONDS, BodySink, ExchangeFailed, Timeouts, WireRequest
from .connection import IDLE, Connection, Incoming


class DirectTransport:
    """The pool of one event loop."""

    def __init__(
        self,
        timeouts: Timeouts,
        tls: ssl.SSLContext | None,
        *,
        addresses: Addresses | None = None,
        idle_clock: Callable[[], float] = seconds_since_boot,
    ) -> None:
        self._timeouts = timeouts
        self._tls = tls
        self._addresses = addresses or Addresses()
        self._idle_clock = idle_clock
        self._loop = asyncio.get_running_loop()
        self._idle: dict[Origin, list[Connection]] = {}
        self._busy: set[Connection] = set()
        self._open: set[Connection] = set()
        self._incoming = Incoming()
        self._clock = loop_clock()
        self._clock.tick_within(min(timeouts.read_seconds, timeouts.connect_seconds) / 4)
        self._running = self._clock.running
        self._is_watching = False
        self._is_closed = False

    async def exchange(
        self, wire: WireRequest, sink: BodySink, deadline: float, *, on_new_connection: bool = False
    ) -> ResponseHead:
        connection = None if on_new_connection else self._idle_connection(wire.origin)
        if connection is None:
            connection = await self._connect(wire.origin, deadline)
        if not self._is_watching:
            self._is_watching = True
            self._clock.watch(self._check_all)
        try:
            answer = connection.begin(wire, sink, deadline, self._running.seconds)
        except BaseException:
            connection.abort()
            raise
        self._busy.add(connection)
        try:
            if wire.body:
                await connection.send_body()
            return await answer
        except ExchangeFailed as failure:
            if failure.reused:
                self._drop_idle(wire.origin, since=connection.idle_since)
            elif connection.exchanges == 1 and not failure.received_bytes:
                self._addresses.lost(connection.address)  # another address may lead to a server that is well
            raise
        finally:
            self._busy.discard(connection)
            if connection.end() and not self._is_closed:
                connection.idle_since = self._idle_clock()
                self._idle.setdefault(wire.origin, []).append(connection)
            else:
                connection.abort()
            del answer  # drop the reference cycle: exception -> traceback -> this frame -> future

    async def aclose(self) -> None:
        self._is_closed = True
        self._clock.unwatch(self._check_all)
        self._idle.clear()
        await asyncio.gather(*[connection.aclose() for connection in list(self._open)])

    def _idle_connection(self, origin: Origin) -> Connection | None:
        stack = self._idle.get(origin)
        while stack:
            connection = stack.pop()
            if connection.state is IDLE and self._idle_clock() - connection.idle_since < IDLE_SECONDS:
                return connection
            connection.abort()
        return None

    def _drop_idle(self, origin: Origin, *, since: float) -> None:
        """Drop connections that have been idle since then, or longer: they have most likely died as well."""
        stack = self._idle.pop(origin, [])
        self._idle[origin] = [connection for connection in stack if connection.idle_since > since]
        for connection in stack:
            if connection.idle_since <= since:
                connection.abort()

    async def _connect(self, origin: Origin, deadline: float) -> Connection:
        connection = Connection(self._loop, self._open, self._incoming)
        try:
            await self._establish(connection, origin, max(deadline - self._clock.look(), 0.0))
        except BaseException:
            connection.connection_lost(None)  # given up just after it was made, uvloop closes it without a word
            raise
        return connection

    async def _establish(self, connection: Connection, origin: Origin, seconds: float) -> None:
        seconds = min(self._timeouts.connect_seconds, seconds)
        deadline = self._running.seconds + seconds
        try:
            infos = await self._addresses.of(origin.host, origin.port, seconds)
            await self._clock.wait_for(self._open_to(connection, origin, infos), lambda: deadline)
            if connection.state is not IDLE:  # to write to it would be a RuntimeError of uvloop's
                raise ConnectionResetError(UNUSABLE)
        except asyncio.TimeoutError:
            self._addresses.lost(connection.address)
            text = f"no connection to {origin.host}:{origin.port} within {seconds:.3g} s"
            raise ExchangeFailed("connect_timeout", text) from None
        except OSError as error:
            self._addresses.lost(connection.address)
            raise connect_failure(origin, error) from error

    async def _open_to(self, connection: Connection, origin: Origin, infos: list[AddressInfo]) -> None:
        connected = await self._addresses.connect(origin.host, origin.port, infos)
        connection.address = address_of(connected)
        tls, name = (self._tls, origin.host) if origin.scheme == "https" else (None, None)
        try:
            await self._loop.create_connection(lambda: connection, sock=connected, ssl=tls, server_hostname=name)
        except BaseException:
            if not isinstance(self._loop, asyncio.BaseEventLoop):
                connected.detach()  # uvloop has closed it; before 0.23 the socket would close its number once more
            raise

    def _check_all(self, now: float) -> bool:
        """Look for exchanges that are late or have gone quiet; False if there are none at all."""
        for connection in list(self._busy):
            connection.check(now, self._timeouts.read_seconds)
        self._is_watching = bool(self._busy)
        return self._is_watching
