"""Requests and answers at a distance: the `Network` of a server, applied to the work of its connections.

A `DistantWork` is around the work of a request. The request is performed when it has arrived at the server, its answer
leaves later: the steps of the answer have the times in between, before which nothing may be sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from .connection import Work
from .network import PIECE_SECONDS, Line, Network, Pipe, Throttle
from .refusals import Refused
from .wire import Early, Hangup, Pause, Step, Until, in_loads

Clock = Callable[[], float]


class Distance:
    """What all connections of a server share: the times of requests, the lines, the limit of requests a second."""

    def __init__(self, network: Network, clock: Clock = time.monotonic) -> None:
        self.network, self.clock = network, clock
        self.latencies = network.latencies()
        self.piece_bytes = network.piece_bytes
        self.throttle = Throttle(network.requests_per_second)
        self.is_shared = network.total_bytes_per_second is not None
        self.is_limited = self.is_shared or network.connection_bytes_per_second is not None
        self._upward, self._downward = Line(network.total_bytes_per_second), Line(network.total_bytes_per_second)

    def usable_at(self, *, is_secure: bool) -> float:
        """Return when a connection that is made now is usable."""
        return self.clock() + self.network.setup_seconds(is_secure=is_secure)

    def pipes(self) -> tuple[Pipe, Pipe]:
        """Return the pipes of a connection, for the bodies of requests and for answers."""
        rate = self.network.connection_bytes_per_second
        return Pipe(Line(rate), self._upward), Pipe(Line(rate), self._downward)


class Link:
    """One connection's place in the network that the server is behind, which may change between two requests."""

    __slots__ = ("_distance", "downward", "upward")

    def __init__(self) -> None:
        self._distance: Distance | None = None

    def carry(self, work: Work, distance: Distance) -> DistantWork:
        """Return the work of a request whose head has arrived, at this distance."""
        if self._distance is not distance:
            self._distance = distance
            self.upward, self.downward = distance.pipes()
        return DistantWork(work, self, distance)


class DistantWork:
    """A request that comes from a distance, with its answer (see `connection.Work`)."""

    __slots__ = ("_arrived_at", "_distance", "_latency", "_link", "_work")

    def __init__(self, work: Work, link: Link, distance: Distance) -> None:
        self._work, self._link, self._distance = work, link, distance
        self._arrived_at = distance.clock()
        self._latency = next(distance.latencies)
        if not distance.throttle.admits(self._arrived_at):
            work.refuse(Refused("ServiceUnavailable"))

    def receive(self, data: memoryview) -> Pause | Hangup | Early | Until | None:
        """Take a block of the body, and say when to read the next one."""
        now = self._distance.clock()
        self._arrived_at = self._link.upward.carry(len(data), self._arrived_at, now)
        wanted = self._work.receive(data)
        if wanted is None and self._arrived_at > now + PIECE_SECONDS:
            return Until(self._arrived_at)
        return wanted

    def refuse(self, refused: Refused) -> None:
        self._work.refuse(refused)

    def ended(self, sent: int) -> None:
        self._work.ended(sent)

    def answer(self) -> Iterable[Step]:
        steps, ready_at = self._work.answer(), self._arrived_at + self._latency
        distance = self._distance
        if distance.is_limited:
            return _carried(steps, ready_at, self._link.downward, distance)
        return _delayed(steps, ready_at, distance.clock)


def _delayed(steps: Iterable[Step], ready_at: float, clock: Clock) -> Iterator[Step]:
    if ready_at > clock():
        yield Until(ready_at)
    yield from steps


def _carried(steps: Iterable[Step], ready_at: float, pipe: Pipe, distance: Distance) -> Iterator[Step]:
    """Yield the steps, each piece behind the time at which its last byte may leave."""
    clock = distance.clock
    # A piece takes its turn on the shared line when it is ready: a turn taken ahead would hold up others.
    if distance.is_shared and ready_at > clock():
        yield Until(ready_at)
    for size, load in in_loads(steps, distance.piece_bytes):
        now = clock()
        if size:
            ready_at = pipe.carry(size, ready_at, now)
        if ready_at > now:
            yield Until(ready_at)
        yield from load
