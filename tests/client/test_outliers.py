"""Which connection is replaced: one that is far slower than its sisters, never one that had a slow answer."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.client.transport.outliers import (
    FACTOR,
    LEAST_PEERS,
    MARGIN_SECONDS,
    REPLACED_EVERY_SECONDS,
    WINDOW,
    FirstBytes,
    Replacements,
    is_outlier,
)

seconds = st.floats(0.0001, 10)
windows = st.lists(seconds, min_size=WINDOW, max_size=WINDOW)


def times_of(answers: list[float]) -> FirstBytes:
    now = [0.0]
    times = FirstBytes(lambda: now[0])
    for answer in answers:
        times.begin()
        now[0] += answer
        times.end()
    return times


@given(st.lists(windows, max_size=20), st.lists(seconds, max_size=WINDOW - 1))
def test_too_few_answers_say_nothing(others: list[list[float]], own: list[float]) -> None:
    times = times_of(own)
    assert not times.is_due
    assert not is_outlier(times, map(times_of, others))


@given(st.lists(windows, max_size=LEAST_PEERS - 1), windows)
def test_too_few_other_connections_say_nothing(others: list[list[float]], own: list[float]) -> None:
    assert not is_outlier(times_of(own), map(times_of, others))


@given(st.lists(windows, min_size=LEAST_PEERS, max_size=20), windows)
def test_one_fast_answer_is_enough_to_stay(others: list[list[float]], own: list[float]) -> None:
    typical = sorted(times_of(times).typical_seconds for times in others)[len(others) // 2]
    own[0] = typical
    assert not is_outlier(times_of(own), map(times_of, others))


@given(st.lists(windows, min_size=LEAST_PEERS, max_size=20), windows)
def test_a_connection_whose_answers_are_all_far_slower_is_found(others: list[list[float]], own: list[float]) -> None:
    typical = sorted(times_of(times).typical_seconds for times in others)[len(others) // 2]
    slow = [FACTOR * typical + 2 * MARGIN_SECONDS + answer for answer in own]
    assert is_outlier(times_of(slow), map(times_of, others))


@given(windows, windows)
def test_a_window_counts_and_then_the_next_one(first: list[float], second: list[float]) -> None:
    times = times_of(first + second)
    assert times.is_due
    assert times.fastest_seconds == pytest.approx(min(second), abs=1e-6)


@given(st.integers(0, 2**32))
def test_on_a_network_as_uneven_as_oss_good_connections_stay(seed: int) -> None:
    dice = random.Random(seed)
    sigma = math.log(0.200 / 0.035) / 2.326  # median 35 ms, 99 of 100 within 200 ms
    connections = [times_of([0.035 * math.exp(dice.gauss(0, sigma)) for _ in range(WINDOW)]) for _ in range(24)]
    found = [own for own in connections if is_outlier(own, (other for other in connections if other is not own))]
    assert len(found) <= 1  # one in a hundred thousand


def test_one_connection_is_replaced_at_a_time() -> None:
    replacements = Replacements()
    assert replacements.allow(5.0)
    assert not replacements.allow(5.0 + REPLACED_EVERY_SECONDS / 2)
    assert replacements.allow(5.0 + REPLACED_EVERY_SECONDS)
