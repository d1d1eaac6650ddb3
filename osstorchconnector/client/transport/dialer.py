"""New connections of one event loop: for requests that wait for one, and ahead of requests that are about to come.

A request that finds no idle connection asks the `Dialer`. It begins a connection and takes whichever is free first:
that one, or one that another request is done with. A connection that nobody waits for any more goes to the pool. So a
request never waits for a handshake longer than for its turn on another connection, and there are never more
connections than there were requests at a time, or than `open_ahead` was told to expect.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ...protocol.endpoint import Origin
from ..clocks import loop_clock
from .addresses import UNUSABLE, Addresses, AddressInfo, address_of, connect_failure
from .base import ExchangeFailed, Timeouts
from .connection import Connection
from .outliers import FirstBytes
from .states import IDLE, Incoming

# Handshakes of one loop that run at the same time. With TLS each takes a millisecond or two of the processor, and all
# that run at the same time end at about the same time: the first of these is done long before the last of a thousand.
MOST_DIALED_AT_ONCE = 64

# The kernel asks an idle peer for a sign of life after this time, then twice more. A peer that is silent is found out
# after 10 s. The questions also keep a NAT from forgetting the connection.
PROBE_AFTER_SECONDS, PROBE_EVERY_SECONDS, PROBES = 4, 2, 3

CLOSED = "the client was closed meanwhile"


class _Waiter(NamedTuple):
    """A request that waits. `outcome` becomes its connection, or the error that it gets instead."""

    outcome: asyncio.Future[Connection | Exception]
    only_new: bool


@dataclass(slots=True)
class _Line:
    """The connections to one origin: those that are open, how many are being made, and the requests that wait for one.

    Who waited longest is served first.
    """

    waiters: list[_Waiter] = field(default_factory=list)
    dialed: int = 0
    awaited: int = 0  # how many to open when the first is there
    open: set[Connection] = field(default_factory=set)

    def serve(self, connection: Connection) -> bool:
        """Give the connection to the first request that may have it; False if there is none."""
        for waiter in self.waiters:
            if not waiter.outcome.done() and not (waiter.only_new and connection.is_used):
                self.waiters.remove(waiter)
                waiter.outcome.set_result(connection)
                return True
        return False

    def fail(self, error: Exception) -> None:
        """A connection could not be made: if those being made do not suffice now, the first request gets the error."""
        waiters = [waiter for waiter in self.waiters if not waiter.outcome.done()]
        if self.dialed < len(waiters):
            self.waiters.remove(waiters[0])
            waiters[0].outcome.set_result(error)


class Dialer:
    """Makes connections. `keep(origin, connection)` takes those that no request waits for."""

    def __init__(
        self,
        timeouts: Timeouts,
        tls: ssl.SSLContext | None,
        addresses: Addresses,
        keep: Callable[[Origin, Connection], None],
        answer_clock: Callable[[], float],
    ) -> None:
        self._timeouts, self._tls, self._addresses, self._keep = timeouts, tls, addresses, keep
        self._answer_clock = answer_clock
        self._loop = asyncio.get_running_loop()
        self._clock = loop_clock()
        self._incoming = Incoming()
        self._lines: dict[Origin, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.waiting = 0  # requests that wait

    async def connection(self, origin: Origin, deadline: float, *, only_new: bool) -> Connection:
        """Return a connection on which no exchange runs: with `only_new`, one that was never used nor idle.

        Raises `ExchangeFailed` if there is none until the deadline, or the one that was made for it failed.
        """
        begun = self._clock.look()
        while True:
            outcome = await self._wait(origin, deadline, only_new=only_new)
            if outcome is None:
                raise _too_late(origin, max(deadline - begun, 0.0))
            if isinstance(outcome, Exception):
                try:
                    raise outcome
                finally:
                    del outcome  # drop the reference cycle: exception -> traceback -> this frame -> exception
            if outcome.state is IDLE:
                return outcome
            # It was closed, or its server spoke first, between two turns of the loop. A new one counts as not made:
            # to make the next one at once would go on without a pause.
            if not outcome.is_used:
                raise connect_failure(origin, ConnectionResetError(UNUSABLE))

    def offer(self, origin: Origin, connection: Connection) -> bool:
        """Give the connection to a request that waits for one; False if there is none."""
        line = self._lines.get(origin)
        return line is not None and line.serve(connection)

    def open_ahead(self, origin: Origin, count: int) -> None:
        """Begin connections until there are `count` to this origin, those in use and those being made included.

        The first goes ahead: a request may wait for it, and many handshakes at once would all take longer. It also
        tells whether there is a server at all.
        """
        line = self._line(origin)
        if self._is_closed:
            return
        if not line.open:
            line.awaited, count = max(line.awaited, count), min(count, 1)
        for _ in range(min(count - len(line.open) - line.dialed, MOST_DIALED_AT_ONCE - len(self._tasks))):
            self._dial(origin)

    def connections(self, origin: Origin) -> Iterable[Connection]:
        """Return the open connections to this origin."""
        return self._line(origin).open

    def busy(self) -> list[Connection]:
        """Return the connections on which an exchange runs."""
        return [connection for line in self._lines.values() for connection in line.open if connection.is_busy]

    async def aclose(self) -> None:
        """Stop what is being made, close what is open; requests that wait fail."""
        self._is_closed = True
        for line in self._lines.values():
            for waiter in line.waiters:
                if not waiter.outcome.done():
                    waiter.outcome.set_result(ExchangeFailed("reset", CLOSED))
            line.waiters.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await asyncio.gather(*[connection.aclose() for line in self._lines.values() for connection in list(line.open)])

    # requests that wait

    async def _wait(self, origin: Origin, deadline: float, *, only_new: bool) -> Connection | Exception | None:
        """Wait for a connection, or for an error; None if neither came in time."""
        if self._is_closed:
            return ExchangeFailed("reset", CLOSED)
        line, waiter = self._line(origin), _Waiter(self._loop.create_future(), only_new)
        line.waiters.append(waiter)
        self.waiting += 1
        self._dial_for_waiters(origin, line)
        try:
            return await self._clock.wait_for(_result(waiter.outcome), lambda: deadline)
        except asyncio.TimeoutError:
            self._leave(origin, line, waiter)
            return None
        except BaseException:
            self._leave(origin, line, waiter)
            raise
        finally:
            self.waiting -= 1

    def _leave(self, origin: Origin, line: _Line, waiter: _Waiter) -> None:
        """A request waits no longer. What it was given in the same moment goes to the next one."""
        if waiter in line.waiters:
            line.waiters.remove(waiter)
        elif not waiter.outcome.cancelled():
            outcome = waiter.outcome.result()
            if isinstance(outcome, Connection):
                self._pass_on(origin, outcome)

    def _pass_on(self, origin: Origin, connection: Connection) -> None:
        if self._is_closed or connection.state is not IDLE:
            connection.abort()
        elif not self._line(origin).serve(connection):
            self._keep(origin, connection)

    def _line(self, origin: Origin) -> _Line:
        return self._lines.setdefault(origin, _Line())

    # connections in the making

    def _dial_for_waiters(self, origin: Origin, line: _Line) -> None:
        while line.dialed < len(line.waiters) and len(self._tasks) < MOST_DIALED_AT_ONCE and not self._is_closed:
            self._dial(origin)

    def _dial(self, origin: Origin) -> None:
        self._line(origin).dialed += 1
        task = self._loop.create_task(self._make(origin))
        self._tasks.add(task)
        task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self.waiting:
            for origin, line in self._lines.items():
                self._dial_for_waiters(origin, line)

    async def _make(self, origin: Origin) -> None:
        line = self._line(origin)
        connection = Connection(self._loop, line.open, self._incoming, FirstBytes(self._answer_clock))
        try:
            try:
                await self._establish(connection, origin)
            finally:
                line.dialed -= 1
        except BaseException as error:
            connection.connection_lost(None)  # given up just after it was made, uvloop closes it without a word
            if not isinstance(error, Exception):
                raise
            line.fail(error)
        else:
            self._pass_on(origin, connection)
            if line.awaited:
                count, line.awaited = line.awaited, 0
                self.open_ahead(origin, count)

    async def _establish(self, connection: Connection, origin: Origin) -> None:
        seconds = self._timeouts.connect_seconds
        until = self._clock.look() + seconds
        try:
            infos = await self._addresses.of(origin.host, origin.port, seconds)
            await self._clock.wait_for(self._open_to(connection, origin, infos), lambda: until)
            if connection.state is not IDLE:  # to write to it would be a RuntimeError of uvloop's
                raise ConnectionResetError(UNUSABLE)
        except asyncio.TimeoutError:
            self._addresses.lost(connection.address)
            raise _too_late(origin, seconds) from None
        except OSError as error:
            self._addresses.lost(connection.address)
            raise connect_failure(origin, error) from error

    async def _open_to(self, connection: Connection, origin: Origin, infos: list[AddressInfo]) -> None:
        connected = await self._addresses.connect(origin.host, origin.port, infos)
        connection.address = address_of(connected)
        connection.is_probed = probe_when_idle(connected)
        tls, name = (self._tls, origin.host) if origin.scheme == "https" else (None, None)
        try:
            await self._loop.create_connection(lambda: connection, sock=connected, ssl=tls, server_hostname=name)
        except BaseException:
            if not isinstance(self._loop, asyncio.BaseEventLoop):
                connected.detach()  # uvloop has closed it; before 0.23 the socket would close its number once more
            raise


async def _result(outcome: asyncio.Future[Connection | Exception]) -> Connection | Exception:
    return await outcome


def _too_late(origin: Origin, seconds: float) -> ExchangeFailed:
    text = f"no connection to {origin.host}:{origin.port} within {seconds:.3g} s"
    return ExchangeFailed("connect_timeout", text)


def probe_when_idle(connected: socket.socket) -> bool:
    """Have the kernel close the connection when the peer has gone without a word; False if this system can't."""
    after = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))  # macOS has the other name
    names = after, getattr(socket, "TCP_KEEPINTVL", None), getattr(socket, "TCP_KEEPCNT", None)
    try:
        for name, value in zip(names, (PROBE_AFTER_SECONDS, PROBE_EVERY_SECONDS, PROBES), strict=True):
            if name is None:
                return False
            connected.setsockopt(socket.IPPROTO_TCP, name, value)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except OSError:
        return False
    return True
