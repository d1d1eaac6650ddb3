"""Counts round trips without a clock: a transport that answers when all requests of a round have been sent."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from osstorchconnector.client.transport.base import BodySink, Timeouts, Transport, WireRequest
from osstorchconnector.client.transport.direct import DirectTransport
from osstorchconnector.protocol.heads import ResponseHead

PATIENCE_SECONDS = 100.0


class _Round:
    def __init__(self, requests: dict[str, int]) -> None:
        self.requests = ", ".join(f"{count} {name}" for name, count in requests.items())
        self.missing = Counter(requests)
        self.all_sent: Future[None] = Future()


class RoundTrips:
    """The transport of a client whose requests must come in the rounds that a test expects.

    No request of a round is answered before all of them were sent, and a request that the round does not have is an
    error. So what passes sends the requests of a round without waiting for any of them: the number of rounds is the
    number of round trips that it waits for.
    """

    def __init__(self) -> None:
        self._rounds: deque[_Round] = deque()
        self._is_expecting = False
        self._lock = threading.Lock()  # the client has several loop threads

    def __call__(self, timeouts: Timeouts, tls: ssl.SSLContext | None, /) -> _Held:
        return _Held(self, DirectTransport(timeouts, tls))

    @contextmanager
    def expect(self, *rounds: dict[str, int]) -> Iterator[None]:
        """Expect these rounds, each with the number of requests of each operation, and no more until this ends."""
        self._rounds = deque(map(_Round, rounds))
        self._is_expecting = True
        try:
            yield
        finally:
            self._is_expecting = False
        assert not self._rounds, f"{len(self._rounds)} rounds were not needed, from {self._rounds[0].requests} on"

    async def sent(self, operation: str) -> None:
        """Wait until the rest of the round has been sent, too."""
        with self._lock:
            if not self._is_expecting:
                return
            if not self._rounds or not self._rounds[0].missing[operation]:
                error = AssertionError(f"{operation} is not in the round of {self._now()}")
                for unsent in self._rounds:
                    unsent.all_sent.set_exception(error)
                self._rounds.clear()
                raise error
            current = self._rounds[0]
            current.missing[operation] -= 1
            if not current.missing.total():
                self._rounds.popleft()
                current.all_sent.set_result(None)
        await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(current.all_sent)), PATIENCE_SECONDS)

    def _now(self) -> str:
        return self._rounds[0].requests if self._rounds else "nothing"


class _Held:
    """The transport of one loop."""

    def __init__(self, round_trips: RoundTrips, inner: Transport) -> None:
        self._round_trips, self._inner = round_trips, inner

    async def exchange(
        self, wire: WireRequest, sink: BodySink, deadline: float, *, on_new_connection: bool = False
    ) -> ResponseHead:
        await self._round_trips.sent(wire.operation)
        return await self._inner.exchange(wire, sink, deadline, on_new_connection=on_new_connection)

    async def aclose(self) -> None:
        await self._inner.aclose()
