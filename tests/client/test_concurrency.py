"""The controller of requests in flight: on simulated networks, and its bounds for any rounds at all."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
from client.simulated_network import PERIOD_SECONDS, Network, Simulation, new_limit
from hypothesis import given, settings
from hypothesis import strategies as st

from osstorchconnector.client.concurrency import (
    FIRST_LIMIT,
    LEAST_LIMIT,
    MOST_LIMIT,
    ConcurrencyLimit,
    Meter,
    Round,
    growth,
)

MOST = 448
LATENCIES = (0.0005, 0.002, 0.012, 0.035, 0.1)
# What the answers are, and what all of them together, or one connection, may carry.
WIRES = [
    {"cpu_seconds": 150e-6},
    {"cpu_seconds": 275e-6},
    {"cpu_seconds": 275e-6, "mixed_sizes": True},
    {"cpu_seconds": 150e-6, "object_bytes": 4_000, "setup_round_trips": 3},
    {"cpu_seconds": 275e-6, "connection_bytes_per_second": 20e6, "mixed_sizes": True},
    {"total_bytes_per_second": 400e6},
    {"total_bytes_per_second": 400e6, "mixed_sizes": True},
    {"total_bytes_per_second": 400e6, "connection_bytes_per_second": 100e6, "tenant_share": 0.5},
    {"total_bytes_per_second": 400e6, "tenant_share": 0.75, "mixed_sizes": True},
    {"total_bytes_per_second": 200e6, "cpu_seconds": 275e-6},
    {"total_bytes_per_second": 100e6},
    {"total_bytes_per_second": 100e6, "tenant_share": 0.5},
    {"cpu_seconds": 1.6e-3, "object_bytes": 4_000_000, "connection_bytes_per_second": 50e6},
    {"cpu_seconds": 1.6e-3, "object_bytes": 4_000_000, "total_bytes_per_second": 1e9},
]
JITTERS = (0.0, 0.3, 0.75)  # the last: a p99 of 5 to 6 times the median, as the one that Alibaba names


def test_the_grid_has_more_than_two_hundred_networks():
    assert len(LATENCIES) * len(WIRES) * len(JITTERS) >= 200


@pytest.mark.parametrize("jitter", JITTERS)
@pytest.mark.parametrize("latency", LATENCIES)
def test_after_two_seconds_the_rate_is_within_a_tenth_of_the_best(latency, jitter):
    short = {}
    for number, wire in enumerate(WIRES):
        network = Network(latency_seconds=latency, jitter=jitter, **wire)
        best = network.best_rate(MOST)
        simulation = Simulation(network, seed=number)
        client = simulation.add(new_limit(latency, MOST))
        simulation.run(2 * PERIOD_SECONDS if network.tenant_share else PERIOD_SECONDS)
        shares = [client.rate(2.0, 2.5) / best]
        if network.tenant_share:  # two seconds after another tenant has come
            shares.append(client.rate(4.5, 5.0) / network.best_rate(MOST, 1 - network.tenant_share))
        # Where sizes differ, so does the number of objects in half a second.
        least = 0.8 if network.mixed_sizes and min(shares) * best < 2000 else 0.9
        knee = best * network.mean_seconds()
        if min(shares) < least or client.settled_limit() > max(2.5 * knee, 4 * FIRST_LIMIT):
            short[number] = shares, knee, client.settled_limit()
    assert not short


@pytest.mark.parametrize("wire", [wire for wire in WIRES if "tenant_share" not in wire and "mixed_sizes" not in wire])
def test_it_does_not_oscillate(wire):
    simulation = Simulation(Network(latency_seconds=0.02, **wire))
    client = simulation.add(new_limit(0.02, MOST))
    simulation.run(6.0)
    limits = [limit for when, limit in client.limits if when >= 2.0]
    assert statistics.pstdev(limits) <= 0.1 * statistics.mean(limits)
    assert sum(one != other for one, other in itertools.pairwise(limits)) <= 4


def test_start_up_takes_five_round_trips_beyond_the_connections():
    for cpu_seconds in (100e-6, 275e-6):
        network = Network(latency_seconds=0.035, cpu_seconds=cpu_seconds, setup_round_trips=0)
        simulation = Simulation(network)
        client = simulation.add(new_limit(0.035, MOST))
        simulation.run(5 * 0.035)
        assert client.limit >= 0.9 * min(MOST, network.best_rate(MOST) * network.mean_seconds())


def test_two_seconds_lose_a_quarter_of_a_second_to_start_up():
    network = Network(latency_seconds=0.035)
    simulation = Simulation(network)
    client = simulation.add(new_limit(0.035, MOST))
    simulation.run(2.0)
    assert len(client.finished_at) >= 1.7 * network.best_rate(MOST)


def test_where_the_clients_cpu_is_the_limit_nothing_is_tried():
    simulation = Simulation(Network(latency_seconds=0.0003))
    client = simulation.add(ConcurrencyLimit(most=MOST))
    simulation.run(3.0)
    assert {limit for _, limit in client.limits} == {FIRST_LIMIT}


@pytest.mark.parametrize("starts", [(0.0, 0.0), (0.0, 2.0), (0.0, 0.0, 1.0, 3.0), (0.0, 0.0, 0.0, 0.0)])
@pytest.mark.parametrize("jitter", [0.0, 0.3])
def test_processes_of_one_machine_share_fairly(starts, jitter):
    network = Network(latency_seconds=0.035, jitter=jitter, total_bytes_per_second=400e6)
    simulation = Simulation(network)
    clients = [simulation.add(new_limit(0.035, MOST, len(starts)), start=start) for start in starts]
    simulation.run(14.0)
    rates = [client.rate(11.0, 14.0) for client in clients]
    assert sum(rates) >= 0.95 * network.best_rate(10**6)
    assert max(rates) <= 3 * min(rates)


def test_a_slow_consumer_does_not_make_it_grow():
    simulation = Simulation(Network(latency_seconds=0.035))
    client = simulation.add(ConcurrencyLimit(most=MOST), consumer=0.002)
    simulation.run(4.0)
    assert {limit for _, limit in client.limits} == {FIRST_LIMIT}


def test_a_longer_distance_is_found_when_a_lower_limit_costs_rate():
    controller = ConcurrencyLimit(most=MOST, first=200, is_starting=False)
    now, latency = 0.0, 0.02
    for number in range(200):
        latency = 0.02 if number < 50 else 0.06  # the objects have become larger
        now += latency * controller.quota / controller.limit
        seconds = latency * controller.quota / controller.limit
        controller.see(Round(now, seconds, controller.quota, controller.limit))
    assert controller.limit == MOST


rounds = st.builds(
    lambda seconds, finished, limited, busy: (seconds, finished, limited, busy),
    st.floats(1e-3, 100.0),
    st.integers(1, 10_000),
    st.booleans(),
    st.floats(0.0, 1.0),
)


@settings(max_examples=200, deadline=None)
@given(most=st.integers(1, MOST_LIMIT), first=st.integers(1, 64), seen=st.lists(rounds, max_size=60))
def test_the_limit_stays_within_its_bounds_whatever_is_seen(most, first, seen):
    controller = ConcurrencyLimit(first=first, most=most)
    now = 0.0
    for seconds, finished, is_limited, busy in seen:
        now += seconds
        before = controller.limit
        limit = controller.see(Round(now, seconds, finished, controller.limit, is_limited, busy))
        assert min(LEAST_LIMIT, first, most) <= limit <= most
        assert limit <= max(4 * before, LEAST_LIMIT, controller.settled), (
            "at most four times as many from one round to the next"
        )
        assert controller.quota >= 1


@given(seen=st.lists(rounds, min_size=1, max_size=60))
def test_rounds_that_something_else_held_back_change_nothing(seen):
    controller, now = ConcurrencyLimit(), 0.0
    for seconds, finished, _, busy in seen:
        now += seconds
        controller.see(Round(now, seconds, finished, 24, False, busy))
    assert controller.limit == FIRST_LIMIT
    assert controller.is_starting


def test_it_may_begin_with_more_until_something_was_seen():
    controller = ConcurrencyLimit(most=50)
    controller.begin_with(64)
    assert controller.limit == 50
    controller.begin_with(20)
    assert controller.limit == 50, "not with less"
    controller = ConcurrencyLimit()
    controller.see(Round(1.0, 0.035, FIRST_LIMIT, FIRST_LIMIT, busy_share=1.0))
    controller.begin_with(64)
    assert controller.limit < 64, "the first round has told more"


def test_a_lower_bound_holds_from_then_on():
    controller = ConcurrencyLimit(first=100)
    controller.bound(30)
    assert controller.limit == 30
    controller.bound(5)
    assert controller.limit == 5


@given(st.floats(0.0, 2.0))
def test_start_up_grows_by_two_to_four(busy_share):
    assert 2 <= growth(busy_share) <= 4


def test_a_round_begins_when_most_new_workers_have_ended_their_first_request():
    meter = Meter()
    meter.expect(8)
    assert (meter.fresh, meter.settled) == (8, 2)
    meter.expect(0)
    assert (meter.fresh, meter.settled) == (8, 2)


def test_a_short_round_goes_on():
    meter = Meter()
    meter.begin(10.0, 1.0, quota=4)
    meter.finished = 4
    assert meter.end(10.001, 1.0, limit=24) is None
    assert meter.quota == 8
    meter.finished, meter.idle_seconds = 8, 0.24
    assert meter.end(10.1, 1.05, limit=24) == Round(
        10.1, pytest.approx(0.1), 8, pytest.approx(21.6), False, pytest.approx(0.5)
    )
    assert math.isclose(Round(10.1, 0.1, 8, 21.6).rate, 80)
