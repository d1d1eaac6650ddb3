"""What clients share about an endpoint: the rate of requests, and the budget of retries."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.client.limiter import FAR_FIRST_LIMITS
from osstorchconnector.client.traffic import (
    EARNED_PER_SUCCESS,
    FREE_PER_SECOND,
    HOLD_SECONDS,
    LOOK_AGAIN_SECONDS,
    SLOWEST_PER_SECOND,
    STAMP_EVERY,
    Gate,
    RequestRate,
    RetryBudget,
    first_rate,
    shared,
)

from .simulated_limit import Server, Simulation


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


@given(
    limit=st.integers(0, 50),
    story=st.lists(st.one_of(st.none(), st.integers(1, 200)), max_size=60),
)
def test_requests_stay_within_the_promise_though_retries_are_saved(limit: int, story: list[int | None]) -> None:
    budget, answered, retries = RetryBudget(), 0, 0
    for operations in story:
        if operations is None:
            while budget.spend(limit):  # all fail
                retries += 1
        else:
            for _ in range(operations):
                if budget.debt > 0:
                    budget.earn()
            answered += operations
            budget.save(answered)
        assert retries <= limit + EARNED_PER_SUCCESS * answered + 1e-6
        assert budget.allowed(limit) <= 2 * limit
    if not limit:
        assert not retries, "who allows none gets none"


def test_an_endpoint_that_answers_saves_retries() -> None:
    server = "http://saves:80"
    gate, budget = shared.gate(server), shared.budget(server)
    for _ in range(10 * STAMP_EVERY):
        gate.accepted(gate.steps)
    assert budget.allowed(500) == pytest.approx(500 + EARNED_PER_SUCCESS * 10 * STAMP_EVERY)
    assert budget.spend(500)
    gate.accepted(gate.steps)
    assert budget.allowed(500) == pytest.approx(499 + EARNED_PER_SUCCESS * 10 * STAMP_EVERY)


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
    assert pace.slowed(10.5, seconds=HOLD_SECONDS / 2, accepted=0, refused=9) is pace


@pytest.mark.parametrize(
    ("seconds", "accepted", "refused", "per_second"),
    [
        (1.0, 0, 10, 50),  # few answers: no long step
        (1.0, 60, 40, 60),  # what the server took
        (0.1, 6, 30, 60),  # many answers, soon
        (1.0, 1, 99, 10),
        (1.0, 99, 9, 95.3),  # few refusals: a short step
        (100.0, 10_000, 1, 96),
        (1.0, 49, 1, 69.3),  # callers have sent less: between what the server took and the share of it
    ],
)
def test_after_many_refusals_the_pace_is_what_the_server_took(
    seconds: float, accepted: int, refused: int, per_second: float
) -> None:
    slowed = RequestRate(100.0, since=1.0).slowed(1.0, seconds=seconds, accepted=accepted, refused=refused)
    assert slowed.per_second == pytest.approx(per_second, rel=0.001)
    assert slowed.since == 1.0


def test_the_pace_rises_slowly_and_then_at_once_until_nothing_is_held_back() -> None:
    pace = RequestRate(100.0, since=0.0)
    assert [pace.at(second) for second in (0, 1, 5)] == pytest.approx([100, 102, 110])
    assert not pace.is_over(6)
    assert pace.is_over(20)


def test_the_first_pace_doubles_every_second() -> None:
    pace = first_rate(100.0, 5.0)
    assert [pace.at(second) for second in (5, 6, 7)] == pytest.approx([100, 200, 400], rel=0.05)


@given(
    st.floats(0, 1e9),
    st.lists(st.tuples(st.floats(0, 100), st.integers(0, 1000), st.integers(1, 1000)), max_size=20),
)
def test_no_history_stops_requests_for_good(observed: float, answers: list[tuple[float, int, int]]) -> None:
    now = 0.0
    pace = first_rate(observed, now)
    for seconds, accepted, refused in answers:
        now += seconds
        pace = pace.slowed(now, seconds=seconds, accepted=accepted, refused=refused)
        assert pace.per_second >= SLOWEST_PER_SECOND
    assert pace.at(now + 60) >= FREE_PER_SECOND


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def closed(clock: Clock, per_second: int) -> Gate:
    """Return a gate after a second with so many good answers and a refusal."""
    gate = Gate(clock)
    for _ in range(per_second):
        gate.accepted(gate.steps)
        clock.now += 1 / per_second
    gate.refused(gate.steps)
    return gate


def test_who_is_refused_once_is_free_again_later() -> None:
    clock = Clock()
    gate = closed(clock, 1000)
    assert not gate.is_open
    turns = [gate.turn() for _ in range(100)]
    waits = [gate.seconds_until(turn) for turn in turns]
    assert waits == sorted(waits)
    assert waits[49] == pytest.approx(0.05, rel=0.3)
    clock.now += 60
    assert gate.seconds_until(turns[-1]) == 0
    assert gate.is_open


def test_who_waits_for_a_late_turn_looks_again_since_the_rate_may_change() -> None:
    clock = Clock()
    gate = closed(clock, 10)
    turns = [gate.turn() for _ in range(200)]
    waited = 0.0
    while seconds := gate.seconds_until(turns[-1]):
        assert seconds <= LOOK_AGAIN_SECONDS
        clock.now += seconds
        waited += seconds
    assert waited < 4, "the rate has doubled several times"


def test_a_turn_of_the_last_time_has_come_when_the_server_refuses_anew() -> None:
    clock = Clock()
    gate = closed(clock, 1000)
    old = [gate.turn() for _ in range(1000)][-1]
    gate.open()
    gate.refused(gate.steps)
    assert gate.seconds_until(old) == 0 < gate.seconds_until(gate.turn())


def test_refusals_of_what_was_sent_before_a_step_do_not_make_another() -> None:
    clock = Clock()
    gate = closed(clock, 1000)
    first = gate.seconds_until(gate.turn())
    for _ in range(100):
        clock.now += 0.01
        gate.refused(gate.steps - 1)
    assert gate.steps == 1
    clock.now += 0.01
    assert gate.seconds_until(gate.turn()) <= first


def test_good_answers_to_what_was_sent_before_the_first_refusal_raise_the_rate() -> None:
    rates = []
    for late in (0, 50):
        clock = Clock()
        gate = closed(clock, 100)
        for _ in range(late):
            gate.accepted(gate.steps - 1)
        turns = [gate.turn() for _ in range(10)]
        rates.append(1 / gate.seconds_until(turns[0]))
    assert rates[1] > 2 * rates[0]


@pytest.mark.parametrize("processes", [1, 8, 32])
@pytest.mark.parametrize("seed", [1, 2])
def test_32_clients_settle_at_what_the_server_allows(processes: int, seed: int) -> None:
    world = Simulation(Server(500), processes=processes, clients=32 // processes, most=1, latency=0.004, seed=seed)
    world.run(40.0)
    assert 0.98 * 500 <= world.rate(10.0, 40.0) <= 1.02 * 500
    assert world.refused_share(0.0, 40.0) < (0.03 if processes < 32 else 0.06)  # each is refused now and then


NETWORKS = [(processes, clients) for processes in (1, 2, 4) for clients in (1, 2, 8)]


@pytest.mark.parametrize("allowed", [100, 300, 500, 2000])
def test_the_rate_that_a_server_allows_is_reached_after_a_second(allowed: int) -> None:
    for processes, clients in NETWORKS:
        world = Simulation(Server(allowed), processes=processes, clients=clients, most=250 // clients, latency=0.035)
        world.run(10.0)
        shown = f"{processes} processes, {clients} clients"
        assert world.rate(1.0, 10.0) >= 0.97 * allowed, shown
        assert world.refused_share(1.0, 10.0) < (0.05 if allowed == 100 else 0.03), shown


@pytest.mark.parametrize("allowed", [100, 300, 500, 2000])
def test_in_the_first_second_requests_are_refused_once_at_most(allowed: int) -> None:
    for processes, clients in NETWORKS:
        world = Simulation(Server(allowed), processes=processes, clients=clients, most=250 // clients, latency=0.035)
        world.run(1.0)
        begun = max(FAR_FIRST_LIMITS["objects"], 24 * processes * clients)  # before the first answer
        assert len(world.refused_at) <= begun + 0.3 * allowed, f"{processes} processes, {clients} clients"


@pytest.mark.parametrize("retries", [1000, 2000])
@pytest.mark.parametrize("allowed", [20, 100, 300, 500, 2000])
def test_the_retries_suffice_if_a_server_begins_to_refuse(allowed: int, retries: int) -> None:
    server = Server(1e6)
    world = Simulation(server, processes=1, clients=1, most=retries // 2, latency=0.035)
    world.run(3.0)
    assert world.rate(2.0, 3.0) > 6000
    server.change(allowed)
    world.run(13.0)
    assert world.most_owed() < retries
    assert world.rate(4.0, 13.0) >= 0.9 * allowed
    server.change(1e6)
    world.run(33.0)
    assert world.rate(31.0, 33.0) > 6000, "it rises again"
