"""A network between clients and the server: how far away it is, and how much its lines carry.

`Network` is the value that users give. The other classes are its arithmetic: they get times and sizes, and return when
bytes may leave or have arrived. They read no clock and wait for nothing.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist

# A line sends pieces that take this long each, so that answers share it fairly.
PIECE_SECONDS = 0.002
MIN_PIECE_BYTES = 16 * 1024
MAX_PIECE_BYTES = 256 * 1024
# A sender that comes late (a busy processor, a client that did not read) catches up by at most this.
CATCH_UP_SECONDS = 0.01
# The part of a second whose requests may come at once under a limit of requests a second.
BURST_SECONDS = 0.1
_DRAWS = 10_000
_Z_P99 = NormalDist().inv_cdf(0.99)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network that the emulator pretends to be behind. Raises `ValueError` for numbers that make no sense.

    `latency_seconds` is the time from a request's last byte to its answer's first byte. With `latency_p99_seconds` it
    is the median of a log-normal distribution with this 99th percentile; the draws depend on `seed` and on the number
    of the request, counted since the network was set, and repeat after 10,000. Without, every request takes the same
    time.

    `connection_bytes_per_second` limits each connection and `total_bytes_per_second` all of them together, which share
    it fairly; each limit holds in both directions separately, for the bytes of answers and of requests' bodies.

    `round_trip_seconds` is what a new connection waits for: one round trip for TCP and `tls_round_trips` more for https
    (1 with TLS 1.3, 2 with TLS 1.2). The kernel accepts connections on this machine at once, so the server reads the
    first bytes of a connection, of its TLS handshake too, this much later: a client sees a handshake or a first answer
    that takes longer, not a longer `connect()`.

    Of more than `requests_per_second` requests the server refuses the rest with 503 ServiceUnavailable. Those of a
    tenth of a second may come at once.
    """

    latency_seconds: float = 0.0
    latency_p99_seconds: float | None = None
    connection_bytes_per_second: float | None = None
    total_bytes_per_second: float | None = None
    round_trip_seconds: float = 0.0
    tls_round_trips: int = 1
    requests_per_second: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("latency_seconds", "round_trip_seconds", "tls_round_trips"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be 0 or more")
        for name in ("connection_bytes_per_second", "total_bytes_per_second", "requests_per_second"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} is {value!r}; it must be more than 0, or None for no limit")
        p99 = self.latency_p99_seconds
        if p99 is not None and not 0 < self.latency_seconds <= p99 < math.inf:
            raise ValueError(
                f"latency_p99_seconds is {p99!r}; it must be at least latency_seconds, which must be more than 0"
            )

    @classmethod
    def oss_internal(cls) -> Network:
        """Return the network of a machine in OSS's region, with OSS's accelerator: 12 ms to the first byte."""
        return cls(latency_seconds=0.012, round_trip_seconds=0.001)

    @classmethod
    def oss(cls) -> Network:
        """Return the network of a machine in OSS's region: 35 ms (p99: 200 ms), 100 MB/s a connection."""
        return cls(
            latency_seconds=0.035,
            latency_p99_seconds=0.2,
            connection_bytes_per_second=100e6,
            round_trip_seconds=0.002,
        )

    @classmethod
    def oss_far(cls) -> Network:
        """Return the network of a machine far from OSS's region: 80 ms, 20 MB/s a connection."""
        return cls(latency_seconds=0.08, connection_bytes_per_second=20e6, round_trip_seconds=0.045)

    @property
    def piece_bytes(self) -> int:
        """The bytes of an answer that leave at the same time."""
        rates = [rate for rate in (self.connection_bytes_per_second, self.total_bytes_per_second) if rate is not None]
        return int(min(max(min(rates, default=math.inf) * PIECE_SECONDS, MIN_PIECE_BYTES), MAX_PIECE_BYTES))

    def setup_seconds(self, *, is_secure: bool) -> float:
        """Return the time before a new connection is usable."""
        return self.round_trip_seconds * (1 + self.tls_round_trips * is_secure)

    def latencies(self) -> Iterator[float]:
        """Yield the latency of each request, without end; always the same ones."""
        if self.latency_p99_seconds is None:
            return itertools.repeat(self.latency_seconds)
        median = math.log(self.latency_seconds)
        deviation = (math.log(self.latency_p99_seconds) - median) / _Z_P99
        draw = random.Random(self.seed).lognormvariate
        # Drawn in advance: a draw takes longer than all else that the network does to a request.
        return itertools.cycle([draw(median, deviation) for _ in range(_DRAWS)])

    def dump(self) -> dict[str, float | int | None]:
        """Return the keyword arguments that make this value, for JSON."""
        return asdict(self)


PRESETS: Mapping[str, Callable[[], Network]] = {
    "oss-internal": Network.oss_internal,
    "oss": Network.oss,
    "oss-far": Network.oss_far,
}


class Line:
    """Carries bytes at a rate, one piece after the other; at once if the rate is None."""

    __slots__ = ("_free_at", "_seconds_each")

    def __init__(self, bytes_per_second: float | None) -> None:
        self._seconds_each = 1 / bytes_per_second if bytes_per_second is not None else 0.0
        self._free_at = -math.inf

    def carry(self, size: int, since: float) -> float:
        """Return when the last of `size` bytes comes out, if they are ready to go in `since` a time."""
        if not self._seconds_each:
            return since
        self._free_at = max(self._free_at, since) + size * self._seconds_each
        return self._free_at


class Pipe:
    """What a connection's bytes pass in one direction: its own line, and the one that all connections share.

    Pieces take turns on the shared line, in the order in which they are ready.
    """

    __slots__ = ("_own", "_shared")

    def __init__(self, own: Line, shared: Line) -> None:
        self._own, self._shared = own, shared

    def carry(self, size: int, since: float, now: float) -> float:
        """Return when the last of `size` bytes has arrived, if they could be sent `since` a time that is past.

        The result does not depend on `now` unless the sender is more than `CATCH_UP_SECONDS` late. So the rate is
        kept on average, although nobody wakes up exactly on time, and no byte is early.
        """
        since = max(since, now - CATCH_UP_SECONDS)
        return max(self._own.carry(size, since), self._shared.carry(size, since))


class Throttle:
    """Admits `requests_per_second`; all requests if it is None."""

    __slots__ = ("_next_at", "_seconds_each", "_tolerance")

    def __init__(self, requests_per_second: float | None) -> None:
        self._seconds_each = 1 / requests_per_second if requests_per_second is not None else 0.0
        self._tolerance = max(BURST_SECONDS - self._seconds_each, 0.0)
        self._next_at = -math.inf

    def admits(self, now: float) -> bool:
        """Whether a request at this time is admitted; if so, it is counted."""
        if self._next_at - now > self._tolerance:
            return False
        self._next_at = max(self._next_at, now) + self._seconds_each
        return True
