"""What clients share about an endpoint: the rate of requests, the budget of retries, and which are logged."""

from __future__ import annotations

import logging
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.client.traffic import (
    EARNED_PER_SUCCESS,
    FREE_PER_SECOND,
    HOLD_SECONDS,
    INFO_INTERVAL_SECONDS,
    LONG_SECONDS,
    QUIET_NEWS_SECONDS,
    SLOWEST_PER_SECOND,
    Gate,
    RequestRate,
    RetryBudget,
    RetryNews,
    first_rate,
    shared,
)


@given(st.lists(st.booleans(), max_size=300), st.integers(0, 20))
def test_retries_stay_within_a_fifth_of_the_successes_plus_the_limit(story: list[bool], limit: int) -> None:
    budget = RetryBudget()
    successes = retries = 0
    for is_success in story:
        if is_success:
            successes += 1
            budget.earn()
        elif budget.spend(limit):
            retries += 1
        assert retries <= limit + EARNED_PER_SUCCESS * successes + 1e-6


def test_what_is_owed_is_earned_back() -> None:
    budget = RetryBudget()
    assert [budget.spend(1), budget.spend(1)] == [True, False]
    for _ in range(5):
        budget.earn()
    assert [budget.spend(1), budget.spend(1)] == [True, False]


def test_a_child_begins_with_a_budget_of_its_own() -> None:
    server = "http://host:1"
    before, gate = shared.budget(server), shared.gate(server)
    pid = os.fork()
    if not pid:
        os._exit(shared.budget(server) is before or shared.gate(server) is gate)
    assert os.waitpid(pid, 0)[1] == 0
    assert shared.budget(server) is before and shared.gate(server) is gate


def test_each_server_has_a_budget_of_its_own_and_one_for_all_clients() -> None:
    one, other = shared.budget("http://one:80"), shared.budget("http://other:80")
    assert one.spend(1) and not one.spend(1)
    assert other.spend(1)
    assert shared.budget("http://one:80") is one
    shared.forget()
    assert one.debt == other.debt == 0


def test_refusals_within_one_moment_are_one_step() -> None:
    pace = RequestRate(100.0, since=10.0)
    assert pace.slowed(10.0 + HOLD_SECONDS / 2, accepted=0, refused=9) is pace


def test_a_step_is_as_long_as_the_share_that_was_refused() -> None:
    pace = RequestRate(100.0, since=0.0)
    steps = [pace.slowed(1.0, accepted=accepted, refused=10).per_second / pace.at(1.0) for accepted in (0, 20, 10_000)]
    assert steps == pytest.approx([0.5, 2 / 3, 0.95])


def test_the_pace_rises_slowly_and_then_at_once_until_nothing_is_held_back() -> None:
    pace = RequestRate(100.0, since=0.0)
    assert [pace.at(second) for second in (0, 1, 5)] == pytest.approx([100, 105, 125])
    assert not pace.is_over(6)
    assert pace.is_over(20)


@given(
    st.floats(0, 1e9),
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 1000), st.integers(0, 1000)), max_size=20),
)
def test_no_history_stops_requests_for_good(observed: float, answers: list[tuple[float, int, int]]) -> None:
    now = 0.0
    pace = first_rate(observed, now)
    for seconds, accepted, refused in answers:
        now += seconds
        pace = pace.slowed(now, accepted=accepted, refused=refused)
        assert pace.per_second >= SLOWEST_PER_SECOND
    assert pace.at(now + 60) >= FREE_PER_SECOND


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Server:
    """Allows so many requests a second, and a second's worth at once."""

    def __init__(self, per_second: float) -> None:
        self.per_second = self._allowance = per_second
        self._last = 0.0

    def accepts(self, now: float) -> bool:
        self._allowance = min(self._allowance + (now - self._last) * self.per_second, self.per_second)
        self._last = now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True


def simulate(*, gates: int, clients: int, per_second: float, seconds: float, seed: int) -> tuple[list[float], int]:
    """Let clients ask one after the other, back off when refused, and return when answers came, and the refusals."""
    clock, dice, server = Clock(), random.Random(seed), Server(per_second)
    shared = [Gate(clock) for _ in range(gates)]
    events = sorted((dice.random() * 0.01, number, True) for number in range(clients))
    accepted: list[float] = []
    refused = 0
    while events:
        clock.now, number, is_held = events.pop(0)
        if clock.now > seconds:
            break
        gate = shared[number % gates]
        wait = 0.0 if gate.is_open or not is_held else gate.turn()
        if wait > 0:
            following = (clock.now + wait, number, False)
        elif server.accepts(clock.now):
            accepted.append(clock.now)
            gate.accepted()
            following = (clock.now + dice.uniform(0.002, 0.006), number, True)
        else:
            refused += 1
            gate.refused()
            following = (clock.now + dice.uniform(0, 0.2), number, True)
        events.append(following)
        events.sort()
    return accepted, refused


@pytest.mark.parametrize("gates", [1, 8])
@pytest.mark.parametrize("seed", [1, 2])
def test_32_clients_settle_at_what_the_server_allows(gates: int, seed: int) -> None:
    seconds = 40.0
    accepted, refused = simulate(gates=gates, clients=32, per_second=500, seconds=seconds, seed=seed)
    settled = [at for at in accepted if at >= 10]
    assert 450 <= len(settled) / (seconds - 10) <= 550
    assert refused < 0.1 * len(accepted)


def test_who_is_refused_once_is_free_again_later() -> None:
    clock = Clock()
    gate = Gate(clock)
    for _ in range(1000):
        gate.accepted()
        clock.now += 0.001
    gate.refused()
    assert not gate.is_open
    waits = [gate.turn() for _ in range(600)]
    assert not any(waits[:200])  # what was saved up
    assert waits[-1] == pytest.approx((600 - 0.25 * 950) / 950, rel=0.05)
    clock.now += 60
    assert gate.turn() == 0
    assert gate.is_open


class NewsClock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def told(clock: NewsClock, news: RetryNews, **what: float) -> tuple[int, int]:
    found = news.of(attempt=int(what.get("attempt", 1)), seconds_so_far=what.get("seconds_so_far", 0.0))
    return (found.level, found.untold) if found else (0, 0)


def test_the_first_retry_of_an_operation_is_information_and_the_second_is_none() -> None:
    news = RetryNews(clock := NewsClock())
    assert told(clock, news) == (logging.INFO, 0)
    assert told(clock, news, attempt=2, seconds_so_far=1.0) == (0, 0)


def test_of_many_operations_one_a_second_is_told_of_and_the_others_are_counted() -> None:
    news = RetryNews(clock := NewsClock())
    levels = [told(clock, news) for _ in range(100)]
    assert levels == [(logging.INFO, 0)] + [(0, 0)] * 99
    clock.now += INFO_INTERVAL_SECONDS
    assert told(clock, news) == (logging.INFO, 99)


def test_what_goes_on_for_long_is_a_warning_at_growing_intervals() -> None:
    news, warned = RetryNews(clock := NewsClock()), []
    for second in range(200):
        clock.now = 1000.0 + second
        level, _ = told(clock, news, attempt=1 + second, seconds_so_far=float(second))
        if level == logging.WARNING:
            warned.append(second)
    assert warned == [5, 10, 20, 40, 80, 160]


def test_an_answer_that_stayed_away_for_long_is_a_warning_at_the_first_retry() -> None:
    news = RetryNews(clock := NewsClock())
    assert told(clock, news, seconds_so_far=30.0) == (logging.WARNING, 0)


def test_after_a_calm_time_intervals_are_short_again() -> None:
    news = RetryNews(clock := NewsClock())
    for second in (0, 5, 15, 35):
        clock.now = 1000.0 + second
        assert told(clock, news, attempt=2, seconds_so_far=LONG_SECONDS)[0] == logging.WARNING
    clock.now += QUIET_NEWS_SECONDS + 1
    assert told(clock, news, attempt=2, seconds_so_far=LONG_SECONDS)[0] == logging.WARNING
    clock.now += LONG_SECONDS
    assert told(clock, news, attempt=2, seconds_so_far=LONG_SECONDS)[0] == logging.WARNING


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 5), st.floats(0, 100)), max_size=50))
def test_every_retry_is_told_of_or_counted(story: list[tuple[float, int, float]]) -> None:
    news, counted = RetryNews(clock := NewsClock()), 0
    for seconds, attempt, so_far in story:
        clock.now += seconds
        found = news.of(attempt=attempt, seconds_so_far=so_far)
        counted += 1 + found.untold if found else 0
    clock.now += 1000.0
    last = news.of(attempt=1, seconds_so_far=0.0)
    assert last is not None
    assert counted + last.untold == len(story)
