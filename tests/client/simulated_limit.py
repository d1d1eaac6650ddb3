"""A server that allows so many requests a second, and processes that send it requests: discrete events, no clock.

A client is a pipeline with workers, as many as its controller says; the clients of a process share its gate.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from client.simulated_network import new_limit

from osstorchconnector.client.concurrency import ConcurrencyLimit, Meter
from osstorchconnector.client.retry import FailedTry, RetryPolicy, backoff_seconds
from osstorchconnector.client.traffic import EARNED_PER_SUCCESS as EARNED
from osstorchconnector.client.traffic import Gate

_POLICY, _REFUSED = RetryPolicy(), FailedTry(kind="service", status=503)
CONNECTION_SECONDS = 0.02
JITTER = 0.2  # of the latency


@dataclass
class Server:
    """Allows `per_second` requests a second, and those of `burst_seconds` at once."""

    per_second: float
    burst_seconds: float = 0.1
    now: float = 0.0
    allowance: float = field(init=False)

    def __post_init__(self) -> None:
        self.allowance = self.per_second * self.burst_seconds

    def change(self, per_second: float) -> None:
        """Allow so many from now on."""
        self.per_second, self.allowance = per_second, per_second * self.burst_seconds

    def accepts(self, now: float) -> bool:
        """Answer a request that arrives now."""
        earned = (now - self.now) * self.per_second
        self.allowance, self.now = min(self.allowance + earned, max(self.per_second * self.burst_seconds, 1.0)), now
        if self.allowance < 1:
            return False
        self.allowance -= 1
        return True


@dataclass
class Client:
    """A pipeline with as many workers as its limit says."""

    gate: Gate
    controller: ConcurrencyLimit
    workers: int = 0
    meter: Meter = field(default_factory=Meter)


class Simulation:
    """Runs `clients` in each of some processes, which never run out of work, against one server.

    A client has at most `most` requests in flight.
    """

    def __init__(
        self, server: Server, *, processes: int, clients: int, most: int, latency: float, seed: int = 1
    ) -> None:
        self.server, self.latency, self.now = server, latency, 0.0
        self.dice = random.Random(f"{seed} {server.per_second} {processes} {clients}")
        self.accepted_at: list[float] = []
        self.refused_at: list[float] = []
        self._events: list[tuple[float, int, Callable[..., None], Sequence[object]]] = []
        self._number = 0
        for _ in range(processes):
            gate, start = Gate(lambda: self.now), self.dice.uniform(0, 0.05)
            for _ in range(clients):
                client = Client(gate, new_limit(latency, most, processes * clients))
                self._at(start + self.dice.uniform(0, 0.01), self._resize, client)

    def run(self, until: float) -> None:
        """Let time pass until then."""
        events = self._events
        while events and events[0][0] < until:
            self.now, _, call, arguments = heapq.heappop(events)
            call(*arguments)

    def rate(self, start: float, stop: float) -> float:
        """Requests a second that the server accepted in this time."""
        return sum(start <= at < stop for at in self.accepted_at) / (stop - start)

    def refused_share(self, start: float, stop: float) -> float:
        """The share of the requests of this time that the server refused."""
        refused = sum(start <= at < stop for at in self.refused_at)
        return refused / (refused + self.rate(start, stop) * (stop - start))

    def most_owed(self) -> float:
        """The most retries that the operations owed at any time, if each refused request was sent again."""
        most = debt = 0.0
        for _, change in sorted([(at, 1.0) for at in self.refused_at] + [(at, -EARNED) for at in self.accepted_at]):
            debt = max(debt + change, 0.0)
            most = max(most, debt)
        return most

    def _at(self, when: float, call: Callable[..., None], *arguments: object) -> None:
        self._number += 1
        heapq.heappush(self._events, (when, self._number, call, arguments))

    def _resize(self, client: Client) -> None:
        new = max(client.controller.limit - client.workers, 0)
        client.meter.expect(new)
        client.workers += new
        for _ in range(new):
            self._at(self.now + CONNECTION_SECONDS, self._begin, client, 1, True)
        self._begin_round(client)

    def _begin_round(self, client: Client) -> None:
        client.meter.begin(self.now, 0.0, quota=client.controller.quota)

    def _begin(self, client: Client, attempt: int, is_fresh: bool) -> None:
        if client.gate.is_open:
            self._send(client, attempt, is_fresh)
        else:
            self._wait(client, attempt, is_fresh, client.gate.turn())

    def _wait(self, client: Client, attempt: int, is_fresh: bool, turn: int) -> None:
        seconds = client.gate.seconds_until(turn)
        if seconds > 0:
            self._at(self.now + seconds, self._wait, client, attempt, is_fresh, turn)
        else:
            self._send(client, attempt, is_fresh)

    def _send(self, client: Client, attempt: int, is_fresh: bool) -> None:
        latency = self.latency * self.dice.uniform(1 - JITTER, 1 + JITTER)
        self._at(self.now + latency / 10, self._arrive, client, attempt, is_fresh, client.gate.steps, latency * 0.9)

    def _arrive(self, client: Client, attempt: int, is_fresh: bool, step: int, rest: float) -> None:
        is_accepted = self.server.accepts(self.now)
        (self.accepted_at if is_accepted else self.refused_at).append(self.now)
        self._at(self.now + rest, self._answer if is_accepted else self._refuse, client, attempt, is_fresh, step)

    def _refuse(self, client: Client, attempt: int, is_fresh: bool, step: int) -> None:
        client.gate.refused(step)
        wait = backoff_seconds(_POLICY, _REFUSED, attempt=attempt, random=self.dice.random())
        self._at(self.now + wait, self._begin, client, attempt + 1, is_fresh)

    def _answer(self, client: Client, attempt: int, is_fresh: bool, step: int) -> None:
        meter, controller = client.meter, client.controller
        client.gate.accepted(step)
        if is_fresh:
            meter.fresh -= 1
            if meter.fresh == meter.settled:
                self._begin_round(client)
        meter.finished += 1
        if meter.finished >= meter.quota and meter.fresh <= meter.settled:
            seen = meter.end(self.now, 0.0, limit=controller.limit)
            if seen is not None:
                if client.gate.is_open:
                    controller.see(seen)
                else:
                    controller.slow_down(seen.rate)
                self._resize(client)
        if client.workers > controller.limit:
            client.workers -= 1
        else:
            self._begin(client, 1, False)
