"""What all clients and loops of a process share about one server: how much it is retried, and how fast it is asked.

While all goes well this costs a request one addition and two comparisons, without a lock.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from .pace import Pace, first_pace
from .retry_news import RetryNews

# A retry costs one; an operation that ends well gives so much of it back.
EARNED_PER_SUCCESS = 0.2
# Turns that nobody took are kept for so long: who has just been refused waits, and catches up.
SAVED_SECONDS = 0.25
_STAMP_EVERY = 64  # answers, a power of two


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


class Gate:
    """Holds requests to a server back after it has asked to slow down; else `is_open`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.is_open = True
        self.answered = 0  # a hint: threads may lose an addition
        self._clock = clock
        self._stamps = (clock(), clock())
        self._lock = threading.Lock()
        self._pace: Pace | None = None
        self._next_turn = 0.0
        self._accepted = self._refused = 0

    def turn(self) -> float:
        """Take the next turn and return in how many seconds it comes."""
        with self._lock:
            now = self._clock()
            if self._pace is None:
                return 0.0
            if self._pace.is_over(now):
                self._pace, self.is_open = None, True
                return 0.0
            turn = max(self._next_turn, now - SAVED_SECONDS)
            self._next_turn = turn + 1 / self._pace.at(now)
            return max(turn - now, 0.0)

    def open(self) -> None:
        """Hold nothing back any more."""
        with self._lock:
            self._pace, self.is_open = None, True

    def accepted(self) -> None:
        """The server answered, and not that it was too much."""
        self.answered += 1
        if not self.is_open:
            with self._lock:
                self._accepted += 1
        elif not self.answered % _STAMP_EVERY:
            self._stamps = (self._stamps[1], self._clock())

    def refused(self) -> None:
        """The server asked to slow down."""
        with self._lock:
            now = self._clock()
            self._refused += 1
            if self._pace is None:
                observed = (self.answered % _STAMP_EVERY + _STAMP_EVERY) / max(now - self._stamps[0], 0.001)
                slower = first_pace(observed, now)
            else:
                slower = self._pace.slowed(now, accepted=self._accepted, refused=self._refused)
            if slower is not self._pace:
                self._accepted = self._refused = 0
                self._next_turn = min(self._next_turn, now + 1 / slower.per_second)
            self._pace, self.is_open = slower, False


class _Shared:
    """One of each for the process, anew after a fork: a lock may have been held then."""

    def __init__(self) -> None:
        self.reached: set[str] = set()  # endpoints that have answered, this process or one that it was forked from
        self.renew()

    def renew(self) -> None:
        self._news: dict[str, RetryNews] = {}
        self._budgets: dict[str, RetryBudget] = {}
        self._gates: dict[str, Gate] = {}
        self._lock = threading.Lock()

    def forget(self) -> None:
        """Begin anew: what was learnt of servers, and what is owed, belongs to another test."""
        for budget in self._budgets.values():
            budget.debt = 0.0
        for gate in self._gates.values():
            gate.open()
        self.reached.clear()
        self._news.clear()

    def news(self, server: str) -> RetryNews:
        """Return what decides which retries at `server` are told of."""
        with self._lock:
            return self._news.setdefault(server, RetryNews())

    def budget(self, server: str) -> RetryBudget:
        """Return what may be retried of `server`, an endpoint."""
        with self._lock:
            return self._budgets.setdefault(server, RetryBudget())

    def gate(self, server: str) -> Gate:
        """Return the gate before `server`, an endpoint."""
        with self._lock:
            return self._gates.setdefault(server, Gate())


shared = _Shared()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=shared.renew)
