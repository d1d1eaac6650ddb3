"""What all clients of a process share about one endpoint.

- `Gate` holds requests back after the server asked to slow down, at a `RequestRate`. A limit on requests in flight
  would not do: where each takes a millisecond, a few in flight are far more than 500 requests a second. The server says
  only "too many". But while it refuses, what it accepts is all that it allows. So a step down from any rate leads near
  the rate allowed. Later steps down are short, and the rate rises in between.
- `RetryBudget` limits how many requests may be sent again.
- `RetryNews` (in `news`) decides which retries are logged.
- `shared` has one of each for every endpoint.

Clocks are handed in.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from .news import HeldNews, RetryNews

# How long to gather answers before the rate changes again: the usual time, the time if there are many answers, and the
# time if most were refused. Only answers to requests that were sent since the last change count.
HOLD_SECONDS, MANY_SECONDS, MOST_REFUSED_SECONDS = 0.25, 0.1, 0.05
MANY_ANSWERS = 32
SHORT_STEP, LONG_STEP, LONGEST_STEP = 0.96, 0.5, 0.1
# If the server refuses a greater share, it was busy all the time, and took all that it allows.
_MUCH = 0.25
RISE_PER_SECOND = 0.02
# After this time without a refusal the server has recovered, and the rate doubles every second.
CALM_SECONDS = 6.0
SLOWEST_PER_SECOND = 2.0
# Faster than any process sends: requests are no longer held back.
FREE_PER_SECOND = 50_000.0


@dataclass(frozen=True, slots=True)
class RequestRate:
    """Requests a second: `per_second` were allowed at the time `since`, when the server last asked to slow down.

    Without a refusal the rate rises slowly for `calm_seconds`; then it doubles every second.
    """

    per_second: float
    since: float
    calm_seconds: float = CALM_SECONDS

    def at(self, now: float) -> float:
        """Return the rate at a later time: it rises as long as nothing is refused."""
        calm = max(now - self.since, 0.0)
        rate = self.per_second * (1 + RISE_PER_SECOND * calm)
        return rate * 2.0 ** min(calm - self.calm_seconds, 64.0) if calm > self.calm_seconds else rate

    def is_over(self, now: float) -> bool:
        """Say whether nothing needs to be held back any more."""
        return self.at(now) >= FREE_PER_SECOND

    def slowed(self, now: float, *, seconds: float, accepted: int, refused: int) -> RequestRate:
        """Return the rate after a refusal, or this one as long as too little is known.

        `accepted` and `refused` are the answers to requests that were sent since `since`; the first of them came
        `seconds` ago. If many were refused, the server takes no more than what it accepted in this time.
        """
        answers = accepted + refused
        is_many, is_much = answers >= MANY_ANSWERS, refused > _MUCH * answers
        if seconds < (HOLD_SECONDS if not is_many else MOST_REFUSED_SECONDS if 2 * refused > answers else MANY_SECONDS):
            return self
        rate = self.at(now)
        step = accepted / seconds / rate
        if not is_much:  # callers may have sent less than they might: then the server took less, too
            step = math.sqrt(step * accepted / answers)
        longest = LONGEST_STEP if is_many and is_much else LONG_STEP
        return RequestRate(max(rate * min(max(step, longest), SHORT_STEP), SLOWEST_PER_SECOND), now)


def first_rate(observed_per_second: float, now: float) -> RequestRate:
    """Return the rate to begin with when a server that answered `observed_per_second` refuses the first time.

    A server that allows some requests a second allows more at first, or has seen few of this process: the rate is found
    from both sides. It doubles every second from the beginning.
    """
    return RequestRate(max(observed_per_second, SLOWEST_PER_SECOND * 10), now, calm_seconds=0.0)


# Unused turns stay valid this long (burst allowance): callers that wait after a refusal catch up.
SAVED_SECONDS = 0.05
# Who waits for a turn looks again after this time: the rate may be another one.
LOOK_AGAIN_SECONDS = 0.1
STAMP_EVERY, _MOST_STAMPS = 64, 256  # answers, a power of two
# A server that allows some requests a second allows them at once: what it took in less than this says little.
OBSERVED_SECONDS = 0.25


class Gate:
    """Holds requests to a server back after it has asked to slow down; otherwise `is_open`.

    A request takes the next `turn`, and waits until `seconds_until` it is 0. Turns come in order, at the rate of the
    moment. `steps` counts changes of the rate. Who sends a request keeps what it was then, and hands it in with the
    answer: a refusal of what was sent at an older rate says nothing about this one.

    `is_open` and `steps` are read without a lock. A thread that sees an old value sends one request too early, or takes
    a turn that comes at once.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        budget: RetryBudget | None = None,
        news: HeldNews | None = None,
    ) -> None:
        self.is_open = True
        self.steps = 0
        self.answered = 0  # only an estimate: threads add without a lock and may lose an addition
        self._clock, self._budget, self._news = clock, budget, news
        self._stamps = deque([(clock(), 0)], maxlen=_MOST_STAMPS)  # times, and how many answers there were then
        self._lock = threading.Lock()
        self._rate: RequestRate | None = None
        self._turns = 0  # given out
        self._come, self._come_at = 0.0, 0.0  # turns that have come until this time
        self._accepted = self._refused = 0
        self._answered_since = 0.0
        self._first_step = 0  # the one that closed the gate

    def turn(self) -> int:
        """Take the next turn and return its number."""
        with self._lock:
            self._advance()
            self._turns += 1
            return self._turns

    def seconds_until(self, turn: int) -> float:
        """Return in how many seconds this turn comes as things are, or when to look again if that is sooner."""
        with self._lock:
            rate = self._advance()
            return 0.0 if rate is None else min(max(turn - self._come, 0.0) / rate, LOOK_AGAIN_SECONDS)

    def note_held(self, seconds: float) -> None:
        """A request has been held back for so long."""
        rate = self._rate
        if self._news is not None and rate is not None:
            self._news.held(seconds, rate.at(self._clock()))

    def open(self) -> None:
        """Stop holding requests back."""
        with self._lock:
            self._open(self._clock())

    def accepted(self, sent_at_step: int) -> None:
        """The server answered, and did not ask to slow down."""
        self.answered += 1
        if not self.is_open or not self.answered % STAMP_EVERY:
            self.note_accepted(sent_at_step)

    def note_accepted(self, sent_at_step: int) -> None:
        """Do what `accepted` does while the gate is not open, and at every `STAMP_EVERY`th answer otherwise."""
        if self.is_open:
            self._stamps.append((self._clock(), self.answered))
            if self._budget is not None:
                self._budget.save(self.answered)
            return
        with self._lock:
            if sent_at_step == self.steps:
                self._accepted += 1
                self._note_first(self._clock())
            elif self._rate is not None and sent_at_step + 1 == self._first_step == self.steps:
                # Sent before the first refusal: the first rate must count what the server takes of these, too.
                self._rate = replace(self._rate, per_second=self._rate.per_second + 1 / OBSERVED_SECONDS)

    def refused(self, sent_at_step: int) -> None:
        """The server asked to slow down."""
        with self._lock:
            now = self._clock()
            if self._rate is None:
                self._come, self._come_at = float(self._turns), now
                self._change(first_rate(self._observed(now), now))
                self._first_step = self.steps
            elif sent_at_step == self.steps:
                self._refused += 1
                self._note_first(now)
                seconds = now - self._answered_since
                slower = self._rate.slowed(now, seconds=seconds, accepted=self._accepted, refused=self._refused)
                if slower is not self._rate:
                    self._advance()
                    self._change(slower)

    def _open(self, now: float) -> None:
        self._rate, self.is_open = None, True
        self._stamps.append((now, self.answered))
        if self._news is not None:
            self._news.free()

    def _note_first(self, now: float) -> None:
        if self._accepted + self._refused == 1:
            self._answered_since = now

    def _change(self, rate: RequestRate) -> None:
        self._rate, self.is_open = rate, False
        self.steps += 1
        self._accepted = self._refused = 0

    def _advance(self) -> float | None:
        """Let turns come until now, and return the rate; None if the gate is open."""
        if self._rate is None:
            return None
        now = self._clock()
        if self._rate.is_over(now):
            self._open(now)
            return None
        rate = self._rate.at(now)
        come = self._come + rate * (now - self._come_at)
        self._come, self._come_at = min(come, self._turns + 1 + SAVED_SECONDS * rate), now
        return rate

    def _observed(self, now: float) -> float:
        """Return how many answers a second there were lately; too many if they were few."""
        stamps = list(self._stamps)
        count = next((count for stamped, count in stamps if now - stamped <= OBSERVED_SECONDS), stamps[-1][1])
        return (self.answered - count) / OBSERVED_SECONDS


# A retry costs one; an operation that succeeds returns this much of it.
EARNED_PER_SUCCESS = 0.2
# Who owes nothing saves what is earned, up to this many times the retries of the beginning.
_MOST_SAVED = 1


class RetryBudget:
    """How often a process may retry at one server. Operations that succeed there earn retries.

    Requests stay within 1.2 times the operations plus `retryBudget`, however many operations fail at once: retries do
    not keep an overloaded server down.

    `debt` is how many retries are owed; less than 0 if some are saved. Each success is an `earn` as long as there is a
    debt. Otherwise `save` takes in many successes at once: a call for each would cost too much.
    """

    def __init__(self) -> None:
        self.debt = 0.0
        self._lock = threading.Lock()
        self._answered = 0
        self._was_in_debt = False  # since the last `save`

    def spend(self, limit: float) -> bool:
        """Take one retry; False if more than `limit` would then be owed."""
        with self._lock:
            if self._allowed(limit) < 1:
                return False
            self.debt = limit - self._allowed(limit) + 1
            self._was_in_debt = True
            return True

    def allowed(self, limit: float) -> float:
        """Return how many retries may be taken now, if `limit` may be owed."""
        with self._lock:
            return self._allowed(limit)

    def earn(self) -> None:
        """An operation has succeeded."""
        with self._lock:
            if self.debt > 0:
                self.debt = max(self.debt - EARNED_PER_SUCCESS, 0.0)

    def save(self, answered: int) -> None:
        """So many requests have been answered since the process began: save what those since the last time earned."""
        with self._lock:
            new, self._answered = answered - self._answered, answered
            if not self._was_in_debt:
                self.debt -= EARNED_PER_SUCCESS * max(new, 0)
            self._was_in_debt = self.debt > 0

    def _allowed(self, limit: float) -> float:
        return limit - max(self.debt, -_MOST_SAVED * limit)


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
            budget = self._budgets.setdefault(server, RetryBudget())
            return self._gates.setdefault(server, Gate(budget=budget, news=HeldNews(server)))


shared = _Shared()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=shared.renew)
