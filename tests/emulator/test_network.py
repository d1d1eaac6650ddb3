"""The arithmetic of networks: what is drawn, when bytes arrive, which requests are too many."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace
from statistics import median, quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.emulator import Network
from osstorchconnector.emulator.network import CATCH_UP_SECONDS, PRESETS, Line, Pipe, Throttle

TINY = 1e-9
times = st.floats(0, 100)
gaps = st.floats(0, 0.5)
rates = st.floats(1e3, 1e9)
sizes = st.integers(1, 300_000)


def first(count: int, network: Network) -> list[float]:
    return list(itertools.islice(network.latencies(), count))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"latency_seconds": -1}, "latency_seconds is -1; it must be 0 or more"),
        ({"latency_seconds": math.nan}, "latency_seconds is nan"),
        ({"round_trip_seconds": math.inf}, "round_trip_seconds is inf"),
        ({"tls_round_trips": -1}, "tls_round_trips is -1"),
        ({"connection_bytes_per_second": 0}, "connection_bytes_per_second is 0; it must be more than 0, or None"),
        ({"total_bytes_per_second": -1.0}, "total_bytes_per_second is -1"),
        ({"requests_per_second": math.inf}, "requests_per_second is inf"),
        ({"latency_seconds": 0.2, "latency_p99_seconds": 0.1}, "latency_p99_seconds is 0.1; it must be at least"),
        ({"latency_p99_seconds": 0.1}, "latency_seconds, which must be more than 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(values: dict[str, float], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Network(**values)  # type: ignore[arg-type]


def test_a_value_travels_as_json() -> None:
    for make in PRESETS.values():
        assert Network(**make().dump()) == make()  # type: ignore[arg-type]


def test_a_fixed_latency_is_that_of_every_request() -> None:
    assert first(3, Network.oss_internal()) == [0.012] * 3
    assert first(3, Network()) == [0.0] * 3


def test_drawn_latencies_have_the_median_and_the_percentile_that_were_asked_for() -> None:
    drawn = first(10_000, Network.oss())
    assert median(drawn) == pytest.approx(0.035, rel=0.05)
    assert quantiles(drawn, n=100)[98] == pytest.approx(0.2, rel=0.1)
    assert min(drawn) > 0


def test_the_same_seed_draws_the_same_latencies() -> None:
    network = Network.oss()
    assert first(100, network) == first(100, network)
    assert first(100, network) != first(100, replace(network, seed=1))


def test_a_new_connection_takes_a_round_trip_and_more_with_tls() -> None:
    network = Network(round_trip_seconds=0.01, tls_round_trips=2)
    assert network.setup_seconds(is_secure=False) == 0.01
    assert network.setup_seconds(is_secure=True) == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Network(), 256 * 1024),
        (Network(connection_bytes_per_second=20e6), 40_000),
        (Network(connection_bytes_per_second=100e6, total_bytes_per_second=50e6), 100_000),
        (Network(total_bytes_per_second=1000), 16 * 1024),
        (Network(total_bytes_per_second=1e12), 256 * 1024),
    ],
)
def test_pieces_are_small_enough_to_take_turns_and_large_enough_to_be_cheap(network: Network, expected: int) -> None:
    assert network.piece_bytes == expected


# --- lines


@given(rates, st.lists(st.tuples(gaps, sizes), min_size=1, max_size=30))
def test_a_line_never_carries_more_than_its_rate(rate: float, pieces: list[tuple[float, int]]) -> None:
    line, now, seen = Line(rate), 0.0, []
    for gap, size in pieces:
        now += gap
        seen.append((now, size, line.carry(size, now)))
    for position, (since, _size, _out) in enumerate(seen):
        carried = 0
        for _since, size, out in seen[position:]:
            carried += size
            assert out >= since + carried / rate - TINY


@given(rates, times, sizes)
def test_an_idle_line_takes_the_time_of_the_bytes_and_no_more(rate: float, since: float, size: int) -> None:
    line = Line(rate)
    assert line.carry(size, since) == pytest.approx(since + size / rate)
    assert Line(None).carry(size, since) == since


@given(rates, st.lists(st.floats(0, CATCH_UP_SECONDS * 0.9), min_size=1, max_size=50), sizes)
def test_a_sender_that_wakes_late_keeps_the_rate_on_average(rate: float, lateness: list[float], size: int) -> None:
    pipe, due = Pipe(Line(rate), Line(None)), 5.0
    for late in lateness:
        due = pipe.carry(size, due, due + late)
    assert due == pytest.approx(5.0 + len(lateness) * size / rate)


def test_a_sender_that_was_away_does_not_catch_up_all_of_it() -> None:
    pipe = Pipe(Line(1000.0), Line(None))
    assert pipe.carry(100, 5.0, 5.0) == pytest.approx(5.1)
    assert pipe.carry(100, 5.1, 9.0) == pytest.approx(9.1 - CATCH_UP_SECONDS)


@given(rates, st.integers(2, 20), st.integers(0, 2**32))
def test_connections_share_a_line_fairly(rate: float, count: int, seed: int) -> None:
    shared, size, pieces = Line(rate), 1000, 40
    pipes = [Pipe(Line(None), shared) for _ in range(count)]
    due, sent = [0.0] * count, [0] * count
    order = random.Random(seed)
    for _ in range(pieces * count):
        soonest = min(due)
        number = order.choice([number for number in range(count) if due[number] == soonest])
        due[number] = pipes[number].carry(size, due[number], soonest)
        sent[number] += 1
        assert max(sent) - min(sent) <= 1
    assert max(due) == pytest.approx(pieces * count * size / rate)


def test_a_connection_gets_no_more_than_its_own_rate_of_a_line_that_is_free() -> None:
    pipe = Pipe(Line(1000.0), Line(5000.0))
    assert [pipe.carry(100, since, since) for since in (0.0, 0.1)] == pytest.approx([0.1, 0.2])


# --- the limit of requests


@given(st.floats(0.1, 1e4), st.lists(st.floats(0, 0.2), min_size=1, max_size=200))
def test_no_more_than_the_allowed_requests_are_admitted_in_any_time(rate: float, between: list[float]) -> None:
    throttle, now, admitted = Throttle(rate), 0.0, []
    for gap in between:
        now += gap
        if throttle.admits(now):
            admitted.append(now)
    for position, since in enumerate(admitted):
        for count, until in enumerate(admitted[position:], 1):
            assert count <= 1 + max(0.1 * rate, 1) + (until - since) * rate + 1e-6


@given(st.floats(0.1, 1e4), st.lists(st.floats(1.0001, 3), max_size=100))
def test_who_keeps_to_the_limit_is_never_refused(rate: float, between: list[float]) -> None:
    throttle, now = Throttle(rate), 0.0
    for gap in between:
        now += gap / rate
        assert throttle.admits(now)


def test_without_a_limit_all_are_admitted() -> None:
    throttle = Throttle(None)
    assert all(throttle.admits(5.0) for _ in range(1000))


def test_at_full_load_the_limit_is_used_up() -> None:
    throttle = Throttle(500.0)
    assert sum(throttle.admits(number / 5000) for number in range(50_000)) == pytest.approx(5000 + 50, abs=2)
