"""The bounds of requests in flight, the limit of large ones, and the advice of a fixed one."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.client.concurrency import FIRST_LIMIT, LEAST_LIMIT, MOST_LIMIT, NEVER, Round
from osstorchconnector.client.limits import (
    MOST_PER_MACHINE,
    MOST_TRANSFERS,
    FixedLimit,
    TransferLimit,
    enough_transfers,
    expected_seconds_per_byte,
    expected_transfers,
    most_in_flight,
)

MIB = 1 << 20


@given(
    cores=st.integers(1, 512),
    processes=st.integers(1, 1000),
    descriptors=st.integers(3, 1 << 20),
    memory=st.none() | st.integers(1, 1 << 40),
    request=st.integers(0, 1 << 30),
)
def test_what_may_be_in_flight_is_bounded_by_machine_descriptors_and_memory(
    cores, processes, descriptors, memory, request
):
    most = most_in_flight(
        cores=cores, processes=processes, descriptors=descriptors, memory_bytes=memory, request_bytes=request
    )
    assert 1 <= most <= MOST_LIMIT
    if most > LEAST_LIMIT:
        assert most * processes <= MOST_PER_MACHINE
        assert 2 * most <= descriptors
    assert memory is None or most == 1 or most * request <= memory


def test_thirty_two_workers_open_no_more_than_a_machine_should():
    assert most_in_flight(cores=16, processes=32, descriptors=1 << 20) == 128
    assert most_in_flight(cores=2, processes=32, descriptors=1 << 20) == 32
    assert most_in_flight(cores=2, processes=1, descriptors=1024) == 448


def test_a_server_that_refuses_all_at_once_does_not_use_up_the_retries():
    assert most_in_flight(cores=16, processes=1, descriptors=1 << 20, retries=500) == 250
    assert most_in_flight(cores=16, processes=1, descriptors=1 << 20, retries=0) == LEAST_LIMIT


def test_large_requests_in_flight_are_bandwidth_times_delay():
    limit = TransferLimit()
    assert limit.limit == FIRST_LIMIT
    limit.note(0.115, 8 * MIB)  # 35 ms, then 100 MB/s
    assert limit.limit == enough_transfers(0.115 / (8 * MIB)) == 57
    limit.note(0.002, 100_000)
    assert limit.limit == 57, "a small request tells nothing then"


def test_the_first_large_requests_are_as_many_as_the_distance_asks_for():
    limit = TransferLimit()
    limit.note(0.037, 64 << 10)
    limit.note(0.035, 64 << 10)
    limit.note(0.2, 64 << 10)
    assert limit.limit == expected_transfers(0.035) == 118
    limit.note(0.115, 8 * MIB)
    assert limit.limit == 57, "a large one tells more"


def test_how_near_a_server_is_tells_the_quickest_small_request():
    limit = TransferLimit()
    limit.note(0.035, 64 << 10)
    limit.note(0.001, 64 << 10)
    assert limit.limit == FIRST_LIMIT


@given(st.floats(0, 100), st.floats(0, 100))
def test_the_farther_the_more_requests_at_first(one, other):
    near, far = sorted((one, other))
    assert expected_transfers(near) <= expected_transfers(far)


def test_what_large_requests_take_is_expected_from_a_small_one_far_away_only():
    assert expected_seconds_per_byte(0.0099) == math.inf
    assert expected_seconds_per_byte(0.035) * 8 * MIB == pytest.approx(0.035 + 0.084, rel=0.01)


def test_near_by_no_more_than_the_first_number_are_needed():
    limit = TransferLimit()
    limit.note(0.01, 8 * MIB)
    assert limit.limit == FIRST_LIMIT


@given(st.lists(st.tuples(st.floats(1e-6, 1e3), st.integers(1, 1 << 30))), st.integers(1, 200), st.integers(1, 200))
def test_the_limit_of_large_requests_stays_within_its_bounds(seen, least, most):
    limit = TransferLimit(least=least, most=most)
    for seconds, size_bytes in seen:
        limit.note(seconds, size_bytes)
        assert least <= limit.limit <= max(least, most)


def test_a_configured_number_of_large_requests_stays():
    limit = TransferLimit(least=3, most=3)
    limit.note(1.0, 8 * MIB)
    assert limit.limit == 3
    assert TransferLimit().most == MOST_TRANSFERS


def rounds(limit, busy_share, count=4, is_limited=True):
    for number in range(count):
        limit.see(Round(number / 10, 0.1, 60, 24, is_limited, busy_share))
    return limit


def test_a_fixed_limit_stays_and_says_what_would_gain_more_than_twice_the_rate():
    limit = rounds(FixedLimit(24, most=448), 0.05)
    assert (limit.limit, limit.advised) == (24, 335)
    assert limit.quota == NEVER, "it has seen enough"
    assert limit.settled == 0, "nothing is learned from it"


def test_a_fixed_limit_has_no_advice_for_a_busy_process_or_a_slow_consumer():
    assert rounds(FixedLimit(24), 0.5).advised == 0
    assert rounds(FixedLimit(24), 0.01, is_limited=False).advised == 0
    assert rounds(FixedLimit(24, most=40), 0.01).advised == 0
