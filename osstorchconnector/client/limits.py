"""Limits of requests in flight that are no controller: bounds for every limit, one for large requests, a fixed one."""

from __future__ import annotations

import math

from .concurrency import AIMED_SHARE, FIRST_LIMIT, LEAST_LIMIT, MOST_LIMIT, NEVER, Round

# All processes of a machine together. One core receives 12,000 small objects a second: 420 in flight at 35 ms.
MOST_PER_CORE, MOST_PER_MACHINE = 512, 4096
# For files, pipes and sockets of everybody else in the process. A connection needs one, and a second one in its stead.
_OTHER_DESCRIPTORS = 128
_JUDGED_ROUNDS = 4
ADVISED_GAIN = 2.0
FULL_BYTES_PER_SECOND = 4e9
MOST_TRANSFERS = 128
LEAST_TRANSFER_BYTES = 1 << 20
# A server this far away is not in the next rack. What Alibaba states for OSS is expected of its connections: up to a
# hundred MB/s each. The first large request tells more.
FAR_SECONDS = 0.01
EXPECTED_BYTES_PER_SECOND = 100e6
EXPECTED_BYTES = 8 << 20
MOST_PARTS = 10_000  # of an upload


def most_in_flight(
    *,
    cores: int,
    processes: int,
    descriptors: int,
    retries: int | None = None,
    memory_bytes: int | None = None,
    request_bytes: int = 1,
) -> int:
    """Return how many requests one of `processes` on this machine may have in flight at the most.

    `descriptors` is how many files and sockets a process may open, `retries` how many requests it may send again: a
    server that begins to refuse may refuse all that are in flight, and most of them twice. Requests of `request_bytes`
    that stay in memory fit in `memory_bytes`, which is not exceeded even for `LEAST_LIMIT`; the other bounds allow as
    many as that.
    """
    machine = min(MOST_PER_CORE * cores, MOST_PER_MACHINE)
    most = min(MOST_LIMIT, machine // max(processes, 1), (descriptors - _OTHER_DESCRIPTORS) // 2)
    if retries is not None:
        most = min(most, retries // 2)
    most = max(most, LEAST_LIMIT)
    return most if memory_bytes is None else max(min(most, memory_bytes // max(request_bytes, 1)), 1)


def enough_transfers(seconds_per_byte: float) -> int:
    """Return how many large requests under way are enough, if the quickest so far took `seconds_per_byte`.

    They carry 4 GB/s if each is as quick as that one, and one process can't take more: 26 where one of 16 MiB takes a
    tenth of a second.
    """
    return 2 + math.ceil(min(FULL_BYTES_PER_SECOND * seconds_per_byte, MOST_PARTS))


def expected_seconds_per_byte(latency_seconds: float) -> float:
    """Return how quick large requests probably are, from the time of a small one; infinity if the server is near."""
    if latency_seconds < FAR_SECONDS:
        return math.inf
    return latency_seconds / EXPECTED_BYTES + 1 / EXPECTED_BYTES_PER_SECOND


def expected_transfers(latency_seconds: float) -> int:
    """Return how many large requests to begin with, before one has told how quick they are; 0 if the server is near.

    It is twice what is enough when they end one by one: the first ones all begin at the same time, and together wait
    for the first byte.
    """
    expected = expected_seconds_per_byte(latency_seconds)
    return 0 if expected == math.inf else 2 * enough_transfers(expected)


class TransferLimit:
    """How many large requests to keep in flight, between `least` and `most`: bandwidth times delay.

    They are too few for rounds, and so large that the time of one tells enough. Before there was one, small requests
    tell whether the server is far. Loop threads may call `note` at once: either value will do.
    """

    def __init__(self, *, least: int = FIRST_LIMIT, most: int = MOST_TRANSFERS) -> None:
        self.limit, self.most = least, max(most, least)
        self._latency_seconds = self._seconds_per_byte = math.inf
        self._least = least

    def note(self, seconds: float, size_bytes: int) -> None:
        """Take in the time of one request; one of less than 1 MiB tells how far the server is, and nothing else."""
        if size_bytes >= LEAST_TRANSFER_BYTES:
            if seconds < self._seconds_per_byte * size_bytes:
                self._seconds_per_byte = seconds / size_bytes
                self._set(enough_transfers(self._seconds_per_byte))
        elif seconds < self._latency_seconds:
            self._latency_seconds = seconds
            if self._seconds_per_byte == math.inf:
                self._set(expected_transfers(seconds))

    def _set(self, wanted: int) -> None:
        self.limit = min(max(wanted, self._least), self.most)


class FixedLimit:
    """A limit that stays, and what another one would gain."""

    def __init__(self, limit: int, *, most: int = MOST_LIMIT) -> None:
        self.limit, self.most = limit, most
        self.settled = 0  # nothing is learned
        self.advised = 0  # what would be in flight if the limit adapted, where that would gain more than twice the rate
        self._rounds: list[Round] = []

    def slow_down(self, rate: float) -> int:
        """The server takes only `rate` requests a second; return the same limit as ever."""
        return self.limit

    @property
    def quota(self) -> int:
        """How many finished requests make the next round."""
        return self.limit if len(self._rounds) < _JUDGED_ROUNDS else NEVER

    def see(self, seen: Round) -> int:
        """Take in a round, and return the same limit as ever."""
        if seen.is_limited and len(self._rounds) < _JUDGED_ROUNDS:
            self._rounds.append(seen)
            busy_share = sum(known.busy_share for known in self._rounds) / len(self._rounds)
            if len(self._rounds) == _JUDGED_ROUNDS and busy_share * ADVISED_GAIN < AIMED_SHARE:
                possible = self.limit * AIMED_SHARE / max(busy_share, 0.001)
                self.advised = int(min(possible, self.most)) if self.most > ADVISED_GAIN * self.limit else 0
        return self.limit
