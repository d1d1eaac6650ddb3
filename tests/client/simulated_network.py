"""A network, a server and clients as queues: a simulation with discrete events, without threads and without a clock.

A request takes, in this order: the time to set up a connection if its worker is new; the latency; its turn at what all
connections share (`total_bytes_per_second`); the time of its bytes on one connection; its turn at the client's CPU.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from osstorchconnector.client.concurrency import ConcurrencyLimit, Meter
from osstorchconnector.client.limiter import FAR_FIRST_LIMITS, FIRST_LIMITS, LOOK_SECONDS

PERIOD_SECONDS = 2.5


def new_limit(latency_seconds: float, most: int, sharers: int = 1) -> ConcurrencyLimit:
    """Return the controller of a pipeline of objects, begun where answers take so long and `sharers` do the same."""
    controller = ConcurrencyLimit(first=FIRST_LIMITS["objects"], most=most)
    if latency_seconds > LOOK_SECONDS:
        controller.begin_with(FAR_FIRST_LIMITS["objects"] // sharers)
    return controller


@dataclass(frozen=True, kw_only=True)
class Network:
    """`jitter` is the sigma of a log-normal latency with this mean. A tenant takes
    `tenant_share` of the bytes in every other `PERIOD_SECONDS`."""

    latency_seconds: float
    jitter: float = 0.0
    object_bytes: int = 110_000
    mixed_sizes: bool = False
    connection_bytes_per_second: float = math.inf
    total_bytes_per_second: float = math.inf
    cpu_seconds: float = 100e-6
    setup_round_trips: int = 1
    tenant_share: float = 0.0

    def mean_seconds(self) -> float:
        """The time of a request when nobody else is there."""
        bytes_seconds = self.object_bytes / self.connection_bytes_per_second
        return self.latency_seconds + bytes_seconds + self.object_bytes / self.total_bytes_per_second + self.cpu_seconds

    def best_rate(self, most: int, share: float = 1.0) -> float:
        """The highest rate of one client with at most that many in flight."""
        network = share * self.total_bytes_per_second / self.object_bytes
        return min(1 / self.cpu_seconds, network, most / self.mean_seconds())


class Server:
    """What all clients share."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._free_at = 0.0

    def pass_at(self, now: float, size_bytes: float) -> float:
        """Return when the bytes of a request that arrives now have passed."""
        network = self.network
        left = 1 - (network.tenant_share if int(now / PERIOD_SECONDS) % 2 else 0.0)
        self._free_at = max(self._free_at, now) + size_bytes / (network.total_bytes_per_second * left)
        return self._free_at


@dataclass
class Client:
    """A process with as many workers as its limit says. `consumer_seconds` is what its consumer takes an object."""

    server: Server
    controller: ConcurrencyLimit
    random: random.Random
    limit: int
    consumer_seconds: float
    workers: int = 0
    cpu_free_at: float = 0.0
    consumer_free_at: float = 0.0
    used_cpu: float = 0.0
    finished_at: list[float] = field(default_factory=list)
    limits: list[tuple[float, int]] = field(default_factory=list)
    meter: Meter = field(default_factory=Meter)

    def settled_limit(self) -> int:
        """The limit when the first connections are settled and nothing has changed yet."""
        return [limit for when, limit in self.limits if when < PERIOD_SECONDS][-1]

    def rate(self, start: float, stop: float) -> float:
        """Requests a second that ended in this time."""
        return sum(start <= ended < stop for ended in self.finished_at) / (stop - start)


class Simulation:
    """Runs clients on one network until a time."""

    def __init__(self, network: Network, seed: int = 0) -> None:
        self.server, self.seed = Server(network), seed
        self.clients: list[Client] = []
        self._events: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._number = 0
        self.now = 0.0

    def add(self, controller: ConcurrencyLimit, *, start: float = 0.0, consumer: float = 0.0) -> Client:
        """Add a client that begins at `start`, and whose consumer takes `consumer` seconds an object."""
        generator = random.Random(f"{self.seed} {len(self.clients)}")
        client = Client(self.server, controller, generator, controller.limit, consumer)
        self.clients.append(client)
        self.at(start, self._resize, client)
        return client

    def at(self, time: float, call: Callable[..., None], *args: object) -> None:
        self._number += 1
        heapq.heappush(self._events, (time, self._number, call, args))

    def run(self, until: float) -> None:
        events = self._events
        while events and events[0][0] < until:
            self.now, _, call, args = heapq.heappop(events)
            call(*args)

    def _resize(self, client: Client) -> None:
        client.limits.append((self.now, client.limit))
        client.meter.expect(max(client.limit - client.workers, 0))
        while client.workers < client.limit:
            client.workers += 1
            self._begin(client, True)
        self._begin_round(client)

    def _begin_round(self, client: Client) -> None:
        client.meter.begin(self.now, client.used_cpu, quota=client.controller.quota)

    def _begin(self, client: Client, is_new: bool) -> None:
        network = client.server.network
        begun = self.now
        if client.consumer_seconds:  # results wait for their consumer, who lets no more than twice the limit wait
            earliest = client.consumer_free_at - 2 * client.limit * client.consumer_seconds
            if earliest > begun:
                client.meter.idle_seconds += earliest - begun
                self.at(earliest, self._send, client, is_new, earliest, network)
                return
        self._send(client, is_new, begun, network)

    def _send(self, client: Client, is_new: bool, begun: float, network: Network) -> None:
        sigma, generator = network.jitter, client.random
        latency = network.latency_seconds
        if sigma:
            latency *= math.exp(generator.gauss(-sigma * sigma / 2, sigma))
        size = network.object_bytes * (generator.expovariate(1.0) if network.mixed_sizes else 1.0)
        setup = network.setup_round_trips * network.latency_seconds if is_new else 0.0
        self.at(begun + setup + latency, self._answer, client, is_new, begun, size)

    def _answer(self, client: Client, is_new: bool, begun: float, size: float) -> None:
        passed = client.server.pass_at(self.now, size)
        self.at(passed + size / client.server.network.connection_bytes_per_second, self._arrive, client, is_new, begun)

    def _arrive(self, client: Client, is_new: bool, begun: float) -> None:
        cpu = client.server.network.cpu_seconds
        client.cpu_free_at = max(client.cpu_free_at, self.now) + cpu
        client.used_cpu += cpu
        self.at(client.cpu_free_at, self._end, client, is_new, begun)

    def _end(self, client: Client, is_new: bool, begun: float) -> None:
        client.finished_at.append(self.now)
        client.consumer_free_at = max(client.consumer_free_at, self.now) + client.consumer_seconds
        self._measure(client, client.controller, is_new)
        if client.workers > client.limit:
            client.workers -= 1
        else:
            self._begin(client, False)

    def _measure(self, client: Client, controller: ConcurrencyLimit, is_new: bool) -> None:
        meter = client.meter
        if is_new:
            meter.fresh -= 1
            if meter.fresh == meter.settled:
                self._begin_round(client)
        meter.finished += 1
        if meter.finished >= meter.quota and meter.fresh <= meter.settled:
            behind = client.consumer_free_at - self.now
            is_wanted = not client.consumer_seconds or behind / client.consumer_seconds < client.limit / 2
            seen = meter.end(self.now, client.used_cpu, limit=client.limit, is_wanted=is_wanted)
            if seen is not None:
                client.limit = controller.see(seen)
                self._resize(client)
