"""What all clients of a process share about one endpoint.

- `Gate` holds requests back after the server asked to slow down, at a `RequestRate` that follows additive increase and
  multiplicative decrease. A limit on requests in flight would not do: where each takes a millisecond, a few in flight
  are far more than 500 requests a second. The server says only "too many"; the share of requests that it refused tells
  by how many. So the first steps down are long and the later ones short.
- `RetryBudget` limits how many requests may be sent again.
- `RetryNews` decides which retries are logged.
- `shared` has one of each for every endpoint.

Clocks are handed in.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import OssError
from .error_texts import retried
from .retry import RetryDecision

_logger = logging.getLogger(__name__)

# Ignore refusals for this long after a change: they answer requests sent at the old rate.
HOLD_SECONDS = 0.25
SHORT_STEP, LONG_STEP = 0.95, 0.5
RISE_PER_SECOND = 0.05
# After this time without a refusal the server has recovered, and the rate doubles every second.
CALM_SECONDS = 6.0
SLOWEST_PER_SECOND = 2.0
# Faster than any process sends: requests are no longer held back.
FREE_PER_SECOND = 50_000.0


@dataclass(frozen=True, slots=True)
class RequestRate:
    """Requests a second: `per_second` were allowed at the time `since`, when the server last asked to slow down."""

    per_second: float
    since: float

    def at(self, now: float) -> float:
        """Return the rate at a later time: it rises as long as nothing is refused."""
        calm = max(now - self.since, 0.0)
        rate = self.per_second * (1 + RISE_PER_SECOND * calm)
        return rate * 2.0 ** min(calm - CALM_SECONDS, 64.0) if calm > CALM_SECONDS else rate

    def is_over(self, now: float) -> bool:
        """Say whether nothing needs to be held back any more."""
        return self.at(now) >= FREE_PER_SECOND

    def slowed(self, now: float, *, accepted: int, refused: int) -> RequestRate:
        """Return the rate after a refusal; `accepted` and `refused` are the answers since the last step."""
        if now - self.since < HOLD_SECONDS:
            return self
        share = accepted / (accepted + refused) if accepted + refused else 1.0
        step = min(max(share, LONG_STEP), SHORT_STEP)
        return RequestRate(max(self.at(now) * step, SLOWEST_PER_SECOND), now)


def first_rate(observed_per_second: float, now: float) -> RequestRate:
    """Return the rate to begin with when a server that answered `observed_per_second` refuses the first time."""
    return RequestRate(max(observed_per_second, SLOWEST_PER_SECOND * 10), now - HOLD_SECONDS).slowed(
        now, accepted=1, refused=0
    )


# Unused turns stay valid this long (burst allowance): callers that wait after a refusal catch up.
SAVED_SECONDS = 0.25
STAMP_EVERY, _MOST_STAMPS = 64, 256  # answers, a power of two
# A server that allows some requests a second allows them at once: what it took in less than this says little.
OBSERVED_SECONDS = 0.5


class Gate:
    """Holds requests to a server back after it has asked to slow down; otherwise `is_open`.

    `is_open` is read without a lock. A thread that sees an old value sends one request too early, or takes a turn that
    comes at once.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_open = True
        self.answered = 0  # only an estimate: threads add without a lock and may lose an addition
        self._clock = clock
        self._stamps = deque([(clock(), 0)], maxlen=_MOST_STAMPS)  # times, and how many answers there were then
        self._lock = threading.Lock()
        self._rate: RequestRate | None = None
        self._next_turn = 0.0
        self._accepted = self._refused = 0

    def turn(self) -> float:
        """Take the next turn and return in how many seconds it comes."""
        with self._lock:
            now = self._clock()
            if self._rate is None:
                return 0.0
            if self._rate.is_over(now):
                self._rate, self.is_open = None, True
                return 0.0
            turn = max(self._next_turn, now - SAVED_SECONDS)
            self._next_turn = turn + 1 / self._rate.at(now)
            return max(turn - now, 0.0)

    def open(self) -> None:
        """Stop holding requests back."""
        with self._lock:
            self._rate, self.is_open = None, True

    def accepted(self) -> None:
        """The server answered, and did not ask to slow down."""
        self.answered += 1
        if not self.is_open or not self.answered % STAMP_EVERY:
            self.note_accepted()

    def note_accepted(self) -> None:
        """Do what `accepted` does while the gate is not open, and at every `STAMP_EVERY`th answer otherwise."""
        if not self.is_open:
            with self._lock:
                self._accepted += 1
        else:
            self._stamps.append((self._clock(), self.answered))

    def refused(self) -> None:
        """The server asked to slow down."""
        with self._lock:
            now = self._clock()
            self._refused += 1
            if self._rate is None:
                slower = first_rate(self._observed(now), now)
            else:
                slower = self._rate.slowed(now, accepted=self._accepted, refused=self._refused)
            if slower is not self._rate:
                self._accepted = self._refused = 0
                self._next_turn = min(self._next_turn, now + 1 / slower.per_second)
            self._rate, self.is_open = slower, False

    def _observed(self, now: float) -> float:
        """Return how many answers a second there were lately."""
        stamps = list(self._stamps)
        since, count = next((stamp for stamp in stamps if now - stamp[0] <= OBSERVED_SECONDS), stamps[-1])
        return (self.answered - count) / max(now - since, OBSERVED_SECONDS)


# A retry costs one; an operation that succeeds returns this much of it.
EARNED_PER_SUCCESS = 0.2


class RetryBudget:
    """How often a process may retry at one server. Operations that succeed there earn retries.

    Requests stay within 1.2 times the operations plus `retryBudget`, however many operations fail at once: retries do
    not keep an overloaded server down.
    """

    def __init__(self) -> None:
        self.debt = 0.0
        self._lock = threading.Lock()

    def spend(self, limit: float) -> bool:
        """Take one retry; False if more than `limit` would then be owed."""
        with self._lock:
            if self.debt + 1 > limit:
                return False
            self.debt += 1
            return True

    def earn(self) -> None:
        with self._lock:
            self.debt = max(self.debt - EARNED_PER_SUCCESS, 0.0)


# After this long the retries of an operation are a warning.
LONG_SECONDS = 5.0
# The interval between warnings doubles up to this. After a while without retries it is short again.
LONGEST_INTERVAL_SECONDS = 300.0
QUIET_NEWS_SECONDS = 60.0
# At most one line below a warning in this time.
INFO_INTERVAL_SECONDS = 1.0


class News(NamedTuple):
    """A line to log at `level`; `untold` retries at the endpoint were not logged since the last one."""

    level: int
    untold: int


class RetryNews:
    """Decides which retries at one endpoint are logged: the first, and warnings about those that last long."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = self._next_info = self._next_warning = float("-inf")
        self._interval = LONG_SECONDS
        self._untold = 0

    def of(self, *, attempt: int, seconds_so_far: float) -> News | None:
        """Return what to log about a retry after try number `attempt` of an operation; None for nothing.

        Number 0 is a try that does not count: its connection had died while it was idle.
        """
        with self._lock:
            now = self._clock()
            if now - self._last > QUIET_NEWS_SECONDS:
                self._interval, self._next_warning = LONG_SECONDS, now
            self._last = now
            level = self._level(now, attempt, seconds_so_far)
            if not level:
                self._untold += 1
                return None
            news, self._untold = News(level, self._untold), 0
            return news

    def tell(
        self,
        error: OssError,
        decision: RetryDecision,
        attempt: int,
        seconds_so_far: float,
        deadline_seconds: float,
    ) -> None:
        """Log that a request of which try number `attempt` ended in `error` is sent again, if that is to be logged."""
        news = self.of(attempt=attempt * decision.counts, seconds_so_far=seconds_so_far)
        if news is not None and _logger.isEnabledFor(news.level):
            line = retried(
                error,
                next_attempt=attempt + decision.counts,
                delay_seconds=decision.delay_seconds,
                left_seconds=deadline_seconds - seconds_so_far,
                untold=news.untold,
            )
            _logger.log(news.level, "%s", line)

    def _level(self, now: float, attempt: int, seconds_so_far: float) -> int:
        if seconds_so_far >= LONG_SECONDS and now >= self._next_warning:
            self._next_warning = now + self._interval
            self._interval = min(2 * self._interval, LONGEST_INTERVAL_SECONDS)
            return logging.WARNING
        if attempt == 1 and now >= self._next_info:
            self._next_info = now + INFO_INTERVAL_SECONDS
            return logging.INFO
        return logging.NOTSET


class _Shared:
    """One object of each kind per endpoint. A forked child begins anew: another thread may have held a lock."""

    def __init__(self) -> None:
        self.reached: set[str] = set()  # endpoints that have answered, this process or one that it was forked from
        self.renew()

    def renew(self) -> None:
        self._news: dict[str, RetryNews] = {}
        self._budgets: dict[str, RetryBudget] = {}
        self._gates: dict[str, Gate] = {}
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Begin anew. For tests, which must not depend on earlier ones."""
        for budget in self._budgets.values():
            budget.debt = 0.0
        for gate in self._gates.values():
            gate.open()
        self.reached.clear()
        self._news.clear()

    def news(self, server: str) -> RetryNews:
        """Return what decides which retries at `server` are logged."""
        with self._lock:
            return self._news.setdefault(server, RetryNews())

    def budget(self, server: str) -> RetryBudget:
        """Return the budget of retries at `server`, an endpoint."""
        with self._lock:
            return self._budgets.setdefault(server, RetryBudget())

    def gate(self, server: str) -> Gate:
        """Return the gate before `server`, an endpoint."""
        with self._lock:
            return self._gates.setdefault(server, Gate())


shared = _Shared()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=shared.renew)
