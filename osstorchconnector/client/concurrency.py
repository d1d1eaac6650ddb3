"""How many requests to keep in flight: a controller without I/O, and the bounds of what it may choose.

A closed loop of `n` requests finishes `n / latency` of them a second, until something is full: the network, the server
or this process's CPU. From there on more requests only wait for each other. The number where this begins is the knee:
the highest rate times the latency without a queue (Little's law). `ConcurrencyLimit` looks for it in rounds. A round is
about as many finished requests as are in flight, so it takes about one latency.

- Start-up: the limit grows by a factor of 2 to 4 each round, until the rate does not follow (BBR's start-up).
- Afterwards the limit is `QUEUE_GAIN` times the best rate of the last rounds times the least latency. So there is
  always a small queue, and a knee that moves up is found without experiments.
- If a lower limit costs about as much rate as it would without a queue, then the least latency is in doubt: the
  latency has become longer (larger objects, another route), or others have filled the queue. The limit returns.
- The least latency is measured anew by a round with a quarter of the limit: every `RENEW_SECONDS`, and if it is in
  doubt, at the next whole second. All processes of a machine do so at the same time, since they have the same clock.
  Otherwise each would take the queue of the others for distance, and lengthen it.

A round in which something else than the limit held the work back changes nothing: a slow consumer, the end of the work.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

# More than this is not gained on a machine that is near, and the first connections cost time there (measured).
FIRST_LIMIT = 24
LEAST_LIMIT = 16
MOST_LIMIT = 1024

QUEUE_GAIN = 1.25
# A rate that follows the limit grows as it does. One that grows by less than this share of it is stalled (BBR's share).
FOLLOWING = 0.25
_STALLED_ROUNDS = 2
_LEAST_GROWTH, _MOST_GROWTH = 2.0, 4.0
# A thread that uses the CPU for this share of the time receives as fast as it can.
FULL_SHARE, AIMED_SHARE = 0.85, 0.7
NEVER = 1 << 60  # requests
_REMEMBERED_ROUNDS = 8
# The least of many means is too low by chance if each is of few requests. So latencies of several rounds are pooled.
_POOLED_ROUNDS = 4
_MOST_NOISE = 0.15
_MOST_PATIENCE = 128
_STEP_UP, _LONG_STEP_UP, _STEP_DOWN = 1.25, 1.6, 0.8
_DEADBAND = 0.08
RENEW_SECONDS, DOUBTFUL_SECONDS = 10.0, 1.0
_RENEWAL_SHARE = 0.25

# Clocks, and the turns that threads take, make shorter rounds too uneven.
LEAST_ROUND_SECONDS = 0.01
_STEADY_REQUESTS = 128
# Workers that had nothing to do for this share of the time: something else than the limit held the work back.
IDLE_SHARE = 0.1


class Round(NamedTuple):
    """What was seen while `finished` requests ended.

    `in_flight` is how many were under way, on average. `is_limited` says that the limit, and nothing else, held the
    work back. `busy_share` is the share of the time in which the thread that receives used the CPU, 0 if unknown.
    """

    ended: float
    seconds: float
    finished: int
    in_flight: float
    is_limited: bool = True
    busy_share: float = 0.0

    @property
    def rate(self) -> float:
        """Finished requests a second."""
        return self.finished / self.seconds


class Meter:
    """Adds up the requests of a round. Who runs the requests counts in the attributes, and calls `begin` and `end`.

    A worker that has just been started may have to open a connection. So `fresh` counts those that have not ended their
    first request, and a round does not begin before three quarters of the new ones have.
    """

    __slots__ = ("begun", "begun_busy", "finished", "fresh", "idle_seconds", "quota", "settled")

    def __init__(self) -> None:
        self.fresh = self.settled = 0
        self.begin(0.0, 0.0, quota=NEVER)

    def expect(self, new_workers: int) -> None:
        """New workers were started: let the next round begin when most of them have ended their first request."""
        if new_workers:
            self.fresh += new_workers
            self.settled = self.fresh // 4

    def begin(self, now: float, busy_seconds: float, *, quota: int) -> None:
        """Begin a round of `quota` requests; `busy_seconds` is a clock of the receiving thread's CPU time."""
        self.begun, self.begun_busy, self.quota = now, busy_seconds, quota
        self.finished = 0
        self.idle_seconds = 0.0

    def end(self, now: float, busy_seconds: float, *, limit: int, is_wanted: bool = True) -> Round | None:
        """Return the round, or None if it was too short to tell anything: then it goes on.

        `is_wanted` is false if results pile up because their consumer is slow.
        """
        seconds, finished = now - self.begun, self.finished
        if seconds < LEAST_ROUND_SECONDS or not finished:
            self.quota += max(finished, 1)
            return None
        idle = self.idle_seconds / seconds
        busy_share = (busy_seconds - self.begun_busy) / seconds
        return Round(now, seconds, finished, limit - idle, is_wanted and idle < IDLE_SHARE * limit, busy_share)


class _Before(NamedTuple):
    """The limit before a step, or a series of steps down, and its rate; `noise` is 0.1 if rates differ by a tenth."""

    limit: int
    rate: float
    noise: float = 0.0

    def is_followed(self, limit: int, rate: float, share: float) -> bool:
        """Say whether the rate has changed by this share of the limit's change, and by more than chance."""
        step, change = limit / self.limit - 1, rate / self.rate - 1
        return change > share * step + self.noise if step > 0 else change < share * step - self.noise


class ConcurrencyLimit:
    """The number of requests to keep in flight, between `LEAST_LIMIT` and `most`. The clock is that of the rounds."""

    def __init__(self, *, first: int = FIRST_LIMIT, most: int = MOST_LIMIT, is_starting: bool = True) -> None:
        self.most = max(most, 1)
        self.limit = min(first, self.most)
        self.is_starting = is_starting
        self._drained_from = 0  # the limit before a step down whose effect can't be seen yet
        self._recent: deque[Round] = deque(maxlen=_POOLED_ROUNDS)
        self._rates: deque[float] = deque(maxlen=_REMEMBERED_ROUNDS)
        self._best = 0.0
        self._grown, self._stalled = 1.0, 0
        self._least_latency = math.inf
        self._here: deque[float] = deque(maxlen=_POOLED_ROUNDS)  # the rates since the limit was changed
        self._noise = 0.05  # by how much two rates with the same limit differ
        self._lowered: _Before | None = None
        self._raised: _Before | None = None
        self._step = _STEP_UP
        self._failed = self._patience = 0  # steps up in a row that gained nothing; rounds until the next one
        self._is_doubtful = False  # the least latency may be out of date
        self._renewed = math.nan  # when it was renewed
        self._before_renewal = 0  # the limit to return to; 0 outside of a renewal

    @property
    def settled(self) -> int:
        """What a successor may begin with: the limit without the excursions, 0 during start-up."""
        return 0 if self.is_starting else self._before_renewal or self.limit

    @property
    def quota(self) -> int:
        """How many finished requests make the next round."""
        return self._drained_from or (self.limit if self.is_starting else max(self.limit, _STEADY_REQUESTS))

    def begin_with(self, first: int) -> None:
        """Begin with at least this many, if nothing has been seen yet."""
        if self.is_starting and not self._best:
            self._set(max(first, self.limit))

    def bound(self, most: int) -> None:
        """Allow at most this many from now on."""
        self.most = max(most, 1)
        self._set(self.limit)

    def see(self, seen: Round) -> int:
        """Take in a round and return the limit from now on."""
        is_drained, self._drained_from = not self._drained_from, 0
        if not seen.is_limited:
            self._return()
        elif is_drained:
            self._recent.append(seen)
            self._take_in(seen)
        return self.limit

    def slow_down(self, rate: float) -> int:
        """The server takes only `rate` requests a second, the rate of the last round: keep in flight what that takes.

        That is twice what it takes without waiting for turns: the rate may rise. Start-up is over.
        """
        self._return()
        self.is_starting = False
        self._rates.clear()
        known = self._least_latency < math.inf
        self._set(max(2 * rate * self._least_latency, FIRST_LIMIT) if known else FIRST_LIMIT)
        return self.limit

    def _take_in(self, seen: Round) -> None:
        if self._before_renewal:
            self._least_latency = mean_latency([seen])
            self._return()
        elif self.is_starting:
            self._least_latency = min(self._least_latency, mean_latency([seen]))
            self._start_up(seen)
        else:
            self._follow(seen)

    # start-up

    def _start_up(self, seen: Round) -> None:
        is_following = seen.rate >= self._best * (1 + FOLLOWING * (self._grown - 1))
        is_queue = mean_latency([seen]) > 2 * self._least_latency
        self._best = max(self._best, seen.rate)
        self._stalled = 0 if is_following else self._stalled + 1
        if seen.busy_share >= FULL_SHARE:
            self._end_start_up(seen, min(self.limit, self._knee()))
        elif self._stalled >= _STALLED_ROUNDS or (self._stalled and is_queue):
            self._end_start_up(seen, self._knee())
        elif is_following:
            self._grown = growth(seen.busy_share)
            self._set(self.limit * self._grown)
            if self.limit == self.most:
                self._end_start_up(seen, self.limit)

    def _end_start_up(self, seen: Round, limit: float) -> None:
        self.is_starting = False
        self._renewed = seen.ended
        self._here.append(self._best)
        self._rates.append(self._best)
        self._set(limit)

    # afterwards

    def _follow(self, seen: Round) -> None:
        if self._raised is not None and not self._keeps_raised(seen):
            return
        if self._lowered is not None and self._lowered.is_followed(self.limit, seen.rate, 0.5):
            self._is_doubtful = True
            self._set_back(self._lowered.limit)
            return
        if self._here:
            self._noise += (abs(seen.rate / self._here[-1] - 1) - self._noise) / _POOLED_ROUNDS
        self._here.append(seen.rate)
        self._rates.append(seen.rate)
        self._best = max(self._rates)
        self._least_latency = min(self._least_latency, mean_latency(self._recent))
        if self._is_renewal_due(seen.ended):
            self._renew(seen.ended)
            return
        wanted = self._knee()
        if wanted < self.limit * (1 - _DEADBAND):
            if not self._is_doubtful:
                self._lowered = self._lowered or self._before()
                self._set(max(wanted, self.limit * _STEP_DOWN))
            return
        self._lowered = None
        self._patience -= 1
        if wanted > self.limit * (1 + _DEADBAND / 2) and self._patience <= 0 and seen.busy_share < FULL_SHARE:
            self._raised = self._before()
            self._set(min(wanted * self._step / _STEP_UP, self.limit * self._step))

    def _keeps_raised(self, seen: Round) -> bool:
        """Judge a step up: the next one is longer if the rate has followed; else the limit returns, for a while."""
        assert self._raised is not None
        before = self._raised
        if before.is_followed(self.limit, seen.rate, FOLLOWING):
            self._step, self._failed, self._raised = _LONG_STEP_UP, 0, None
            return True
        self._failed += 1
        self._step, self._patience = _STEP_UP, min(_REMEMBERED_ROUNDS << self._failed, _MOST_PATIENCE)
        self._set_back(before.limit)
        return False

    def _before(self) -> _Before:
        return _Before(self.limit, sum(self._here) / len(self._here), min(self._noise, _MOST_NOISE))

    def _set_back(self, limit: int) -> None:
        self._lowered = self._raised = None
        self._set(limit)

    # renewing the least latency

    def _is_renewal_due(self, now: float) -> bool:
        if math.isnan(self._renewed):
            self._renewed = now
        period = DOUBTFUL_SECONDS if self._is_doubtful else RENEW_SECONDS
        # What was measured a moment ago, by start-up too, is not measured again.
        is_fresh = now - self._renewed < period / 4
        return int(now / period) != int(self._renewed / period) and not is_fresh

    def _renew(self, now: float) -> None:
        self._renewed, self._is_doubtful = now, False
        self._lowered = self._raised = None
        self._before_renewal = self.limit
        self._set(self.limit * _RENEWAL_SHARE)

    def _return(self) -> None:
        """End a renewal, if this is one."""
        if self._before_renewal:
            limit, self._before_renewal = self._before_renewal, 0
            self._set(limit)

    def _knee(self) -> float:
        return QUEUE_GAIN * self._best * self._least_latency

    def _set(self, limit: float) -> None:
        before, self.limit = self.limit, max(min(round(limit), self.most), min(LEAST_LIMIT, self.most))
        if self.limit < before:
            self._drained_from = before
        if self.limit != before:
            self._here.clear()


def growth(busy_share: float) -> float:
    """Return the factor of a step of start-up: up to where the thread that receives would be busy, from 2 to 4."""
    return min(max(AIMED_SHARE / busy_share, _LEAST_GROWTH), _MOST_GROWTH) if busy_share > 0 else _LEAST_GROWTH


def mean_latency(rounds: Iterable[Round]) -> float:
    """Return the mean time of a request (Little's law), and about a standard error more."""
    known = list(rounds)
    count = sum(seen.finished for seen in known)
    return sum(seen.in_flight * seen.seconds for seen in known) / count * (1 + 1 / math.sqrt(count))
