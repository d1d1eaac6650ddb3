"""A pool of connections that put answers straight into the caller's memory (`connection`).

Requests on one connection follow each other (no pipelining); a pool keeps idle connections, last in first out, so that
few connections stay in use, and the others may end. `dialer` makes new ones. A connection that answers far more slowly
than the others (`outliers`) does not come back to the pool.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import defaultdict
from collections.abc import Callable

from ...protocol.endpoint import Origin
from ...protocol.heads import ResponseHead
from ...redaction import SecretBytes
from ..clocks import loop_clock, seconds_since_boot, seconds_slept
from ..news import Silence
from .addresses import Addresses
from .base import IDLE_SECONDS, PROBED_IDLE_SECONDS, BodySink, ExchangeFailed, Timeouts, WireRequest
from .connection import Connection
from .dialer import Dialer
from .outliers import Replacements, is_outlier
from .states import IDLE


class DirectTransport:
    """The pool of one event loop."""

    def __init__(
        self,
        timeouts: Timeouts,
        tls: ssl.SSLContext | None,
        *,
        addresses: Addresses | None = None,
        idle_clock: Callable[[], float] = seconds_since_boot,
        sleep_clock: Callable[[], float] = seconds_slept,
        answer_clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._timeouts = timeouts
        self._addresses = addresses or Addresses()
        self._idle_clock, self._sleep_clock = idle_clock, sleep_clock
        self._slept = sleep_clock()
        self._idle: defaultdict[Origin, list[Connection]] = defaultdict(list)
        self._clock = loop_clock()
        self._clock.tick_within(min(timeouts.read_seconds, timeouts.connect_seconds) / 4)
        self._running = self._clock.running
        self._dialer = Dialer(timeouts, tls, self._addresses, self._keep, answer_clock)
        self._replacements, self._silence = Replacements(), Silence()
        self._is_watching = False
        self._is_closed = False

    async def exchange(
        self, wire: WireRequest, sink: BodySink, deadline: float, *, on_new_connection: bool = False
    ) -> ResponseHead:
        connection = None if on_new_connection else self._idle_connection(wire.origin)
        if connection is None:
            connection = await self._dialer.connection(wire.origin, deadline, only_new=on_new_connection)
        if not self._is_watching:
            self._watch()
        try:
            answer = connection.begin(wire, sink, deadline, self._running.seconds)
        except BaseException:
            connection.abort()
            raise
        try:
            if wire.body:
                await connection.send_body()
            head = await answer
        except BaseException as error:
            self.settle(wire.origin, connection, error)
            raise
        finally:
            del answer  # drop the reference cycle: exception -> traceback -> this frame -> future
        self.settle(wire.origin, connection)
        return head

    def begin_at_once(
        self, origin: Origin, head: SecretBytes, sink: BodySink, deadline: float
    ) -> tuple[Connection, asyncio.Future[ResponseHead]] | None:
        """Send a read, whose head is encoded, if a connection is idle: `exchange` without a coroutine of its own.

        The caller awaits the answer, and then calls `settle`.
        """
        idle = self._idle[origin]
        if not idle:
            return None
        connection = idle.pop()
        if connection.state is not IDLE or self._idle_clock() - connection.idle_since >= IDLE_SECONDS:
            idle.append(connection)  # `_idle_connection` knows what to do with it
            return None
        if not self._is_watching:
            self._watch()
        answer = connection.begin_with(head, "GET", sink, deadline, self._running.seconds, is_read=True)
        return connection, answer

    def settle(self, origin: Origin, connection: Connection, failure: BaseException | None = None) -> None:
        """End an exchange: keep its connection for the next one, unless the exchange failed."""
        if failure is not None and isinstance(failure, ExchangeFailed):
            if failure.reused:
                self._drop_idle(origin, since=connection.idle_since)
            elif not connection.is_used and not failure.received_bytes:
                self._addresses.lost(connection.address)  # another address may lead to a server that is well
        is_fast = not connection.first_bytes.is_due or self._is_fast(origin, connection)
        if connection.end() and is_fast and not self._is_closed:
            connection.idle_since = self._idle_clock()
            if not self._dialer.waiting or not self._dialer.offer(origin, connection):
                self._idle[origin].append(connection)
        else:
            connection.abort()

    def open_ahead(self, origin: Origin, count: int) -> None:
        """Begin connections to `origin`, which requests will soon need, until there are `count`."""
        self._dialer.open_ahead(origin, count)

    async def aclose(self) -> None:
        self._is_closed = True
        self._clock.unwatch(self._check_all)
        self._idle.clear()
        await self._dialer.aclose()

    def _keep(self, origin: Origin, connection: Connection) -> None:
        """Keep a connection that no request waits for."""
        connection.is_used, connection.idle_since = True, self._idle_clock()
        self._idle[origin].append(connection)

    def _idle_connection(self, origin: Origin) -> Connection | None:
        stack = self._idle[origin]
        while stack:
            connection = stack.pop()
            if connection.state is IDLE:
                idle_seconds = self._idle_clock() - connection.idle_since
                if idle_seconds < IDLE_SECONDS or self._is_kept_warm(connection, idle_seconds):
                    return connection
            connection.abort()
        return None

    def _is_kept_warm(self, connection: Connection, idle_seconds: float) -> bool:
        """Say whether the kernel has looked after a connection that was idle for long; it can't while all sleeps."""
        slept, self._slept = self._sleep_clock() - self._slept, self._sleep_clock()
        if slept > IDLE_SECONDS:
            for stack in self._idle.values():
                for other in stack:
                    other.is_probed = False
            return False
        return connection.is_probed and idle_seconds < PROBED_IDLE_SECONDS

    def _drop_idle(self, origin: Origin, *, since: float) -> None:
        """Drop connections that have been idle since then, or longer: they have most likely died as well."""
        stack = self._idle.pop(origin, [])
        self._idle[origin] = [connection for connection in stack if connection.idle_since > since]
        for connection in stack:
            if connection.idle_since <= since:
                connection.abort()

    def _is_fast(self, origin: Origin, connection: Connection) -> bool:
        """Say whether a connection is worth keeping: not far slower than the others to the same origin."""
        connection.first_bytes.is_due = False
        others = [other.first_bytes for other in self._dialer.connections(origin) if other is not connection]
        return not is_outlier(connection.first_bytes, others) or not self._replacements.allow(self._idle_clock())

    @property
    def _busy(self) -> list[Connection]:
        return self._dialer.busy()

    def _watch(self) -> None:
        self._is_watching = True
        self._clock.watch(self._check_all)

    def _check_all(self, now: float) -> bool:
        """Look for exchanges that are late or have gone quiet; False if there are none at all."""
        read_seconds, busy = self._timeouts.read_seconds, self._busy
        quiet = [connection.check(now, read_seconds) for connection in busy]
        self._silence.look(quiet, busy[0].address[0] if busy and busy[0].address else "", read_seconds)
        self._is_watching = bool(self._busy)
        return self._is_watching
