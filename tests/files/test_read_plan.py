"""Range planning: what is asked for covers what is wanted, little more, in requests of a sensible size."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.files.read_plan import (
    FIRST_BYTES,
    KIB,
    MIB,
    ReadAheadPlan,
    cut,
    leftovers,
    next_stop,
    plan_read_ahead,
    prefetch_behind_bytes,
    random_span,
    request_bytes,
)
from osstorchconnector.protocol.values import ByteSpan

GIB = 1024 * MIB
latencies = st.floats(0, 2) | st.just(float("inf"))


@given(st.integers(0, 10**9), st.integers(1, 10**8), st.integers(2, 10**7))
def test_a_cut_span_is_the_span(start: int, size: int, piece: int) -> None:
    piece = max(piece, size // 1000)
    spans = cut(ByteSpan(start, start + size), piece)
    assert (spans[0].start, spans[-1].stop) == (start, start + size)
    assert all(left.stop == right.start for left, right in itertools.pairwise(spans))
    assert {span.size for span in spans[:-1]} <= {piece}
    assert 0 < spans[-1].size <= piece


@given(size=st.integers(1, 100 * GIB), concurrency=st.integers(1, 4096))
def test_a_large_read_is_cut_evenly_for_all_requests_in_flight_but_not_too_finely(size: int, concurrency: int) -> None:
    piece = request_bytes(size, concurrency, latency_seconds=0.001)
    assert MIB <= piece <= 12 * MIB
    rounds = -(-size // (piece * concurrency))
    assert piece == MIB or (piece - 1) * rounds * concurrency < size, "each connection carries as many"
    if rounds > 1:
        assert piece >= 5 * MIB


def test_a_large_read_from_a_near_server_is_cut_coarsely() -> None:
    assert request_bytes(GIB, 24, latency_seconds=0.0001) == 8 * MIB
    assert request_bytes(MIB, 24, latency_seconds=0.0001) == 8 * MIB


def test_all_connections_of_a_large_read_end_together() -> None:
    assert request_bytes(GIB, 118) == -(-GIB // 118)
    assert request_bytes(GIB, 59) == -(-GIB // 118)
    assert request_bytes(GIB, 24) == -(-GIB // 120)


@given(st.integers(0, 10 * GIB), st.integers(1, MIB), st.integers(1, 10 * GIB))
def test_a_random_read_gets_its_bytes_and_at_most_64_kib(position: int, wanted: int, size: int) -> None:
    position %= size
    wanted = min(wanted, size - position)
    span = random_span(position, wanted, size)
    assert 0 <= span.start <= position
    assert position + wanted <= span.stop <= size
    assert span.size <= max(wanted, FIRST_BYTES)


def test_a_random_read_near_the_end_gets_the_end() -> None:
    assert random_span(GIB - 10, 10, GIB) == ByteSpan(GIB - 64 * KIB, GIB)
    assert random_span(70, 10, 100) == ByteSpan(0, 100)


def test_who_has_just_jumped_gets_nothing_ahead() -> None:
    assert plan_read_ahead(0, latency_seconds=0.001, concurrency=24).ahead_bytes == 0
    assert prefetch_behind_bytes(0, latency_seconds=0.001) == 0


@given(st.integers(0, 100 * GIB), latencies, st.integers(1, 4096))
def test_the_window_is_at_most_twice_the_way_gone(run: int, latency: float, concurrency: int) -> None:
    plan = plan_read_ahead(run, latency_seconds=latency, concurrency=concurrency)
    assert plan.ahead_bytes <= 2 * run
    assert prefetch_behind_bytes(run, latency_seconds=latency) <= 2 * run


@given(st.integers(0, 100 * GIB), latencies, st.integers(1, 4096))
def test_the_window_is_bounded_in_bytes_and_requests(run: int, latency: float, concurrency: int) -> None:
    plan = plan_read_ahead(run, latency_seconds=latency, concurrency=concurrency)
    assert FIRST_BYTES <= plan.block_bytes <= 4 * MIB
    assert plan.ahead_bytes <= 96 * MIB
    assert plan.ahead_bytes <= concurrency * 4 * MIB
    assert prefetch_behind_bytes(run, latency_seconds=latency) <= 96 * MIB


@given(st.integers(1, GIB), st.integers(1, GIB), latencies, st.integers(1, 64))
def test_the_window_grows_with_the_way_gone(run: int, more: int, latency: float, concurrency: int) -> None:
    before = plan_read_ahead(run, latency_seconds=latency, concurrency=concurrency)
    after = plan_read_ahead(run + more, latency_seconds=latency, concurrency=concurrency)
    assert after.ahead_bytes >= before.ahead_bytes
    assert after.block_bytes >= before.block_bytes


@given(
    st.integers(0, GIB),
    st.integers(0, GIB),
    st.integers(1, 100 * MIB),
    st.integers(0, 100 * MIB),
    st.sampled_from([64 * KIB, MIB, 4 * MIB]),
    st.integers(1, 2 * GIB),
)
def test_going_on_covers_what_is_wanted_and_the_window_in_whole_blocks(
    reached: int, start: int, wanted: int, ahead: int, block: int, size: int
) -> None:
    reached, start = reached % (size + 1), start % size
    span = ByteSpan(start, min(start + wanted, size))
    stop = next_stop(reached, span, ReadAheadPlan(block, ahead), size)
    assert max(reached, span.stop) <= stop <= max(reached + FIRST_BYTES, span.stop + ahead)
    assert stop <= size
    assert stop > span.stop + ahead - block or stop == size
    if span.stop <= reached:
        assert stop == size or (stop - reached) % block == 0


@pytest.mark.parametrize(
    ("latency", "block", "window"),
    [
        (0.0019, 4 * MIB, 16 * MIB),
        (0.002, 4 * MIB, 48 * MIB),
        (0.010, 2 * MIB, 96 * MIB),
        (float("inf"), 2 * MIB, 96 * MIB),
    ],
)
def test_the_window_is_deep_on_a_slow_wire(latency: float, block: int, window: int) -> None:
    assert plan_read_ahead(GIB, latency_seconds=latency, concurrency=48) == (block, window)


@pytest.mark.parametrize(
    ("reached", "wanted", "stop"),
    [
        (10 * MIB, (9 * MIB, 9 * MIB + 1), 12 * MIB),  # what is wanted has been asked for: whole blocks
        (10 * MIB, (9 * MIB, 10 * MIB), 13 * MIB),
        (10 * MIB, (9 * MIB, 10 * MIB + 1), 13 * MIB + 1),  # something is missing: all at once
        (10 * MIB, (10 * MIB, 10 * MIB + 1), 13 * MIB + 1),
        (10 * MIB, (6 * MIB, 6 * MIB + 1), 10 * MIB),  # more than enough has been asked for
        (98 * MIB, (97 * MIB, 97 * MIB + 5), 100 * MIB),  # the object ends there
    ],
)
def test_going_on(reached: int, wanted: tuple[int, int], stop: int) -> None:
    assert next_stop(reached, ByteSpan(*wanted), ReadAheadPlan(MIB, 3 * MIB), 100 * MIB) == stop


def test_a_few_bytes_that_are_missing_are_a_request_of_64_kib() -> None:
    assert next_stop(MIB, ByteSpan(MIB, MIB + 10), ReadAheadPlan(64 * KIB, 0), GIB) == MIB + 64 * KIB


def test_a_large_read_looks_ahead_as_far_as_the_latency_needs() -> None:
    assert prefetch_behind_bytes(GIB, latency_seconds=0.0003) == 2 * MIB
    assert prefetch_behind_bytes(GIB, latency_seconds=0.005) == 7_500_000
    assert prefetch_behind_bytes(GIB, latency_seconds=0.02) == int((0.02 + 2 * MIB / 100e6) * 1.5e9)
    assert prefetch_behind_bytes(GIB, latency_seconds=float("inf")) == 96 * MIB


@pytest.mark.parametrize(
    ("missing", "size"),
    [
        ([ByteSpan(100, 164), ByteSpan(5000, 5048)], 10 * MIB),
        ([ByteSpan(0, 64 * KIB)], GIB),
        ([ByteSpan(0, 100)], 1600),
        ([ByteSpan(100 * n, 100 * n + 1) for n in range(16)], GIB),
    ],
)
def test_few_and_little_leftovers_are_fetched(missing: list[ByteSpan], size: int) -> None:
    assert leftovers(missing, size) == missing


@pytest.mark.parametrize(
    ("missing", "size"),
    [
        ([ByteSpan(0, 64 * KIB + 1)], GIB),  # too much
        ([ByteSpan(0, 101)], 1600),  # too much of so small an object
        ([ByteSpan(100 * n, 100 * n + 1) for n in range(17)], GIB),  # too many
        ([], GIB),
    ],
)
def test_other_leftovers_are_left(missing: list[ByteSpan], size: int) -> None:
    assert leftovers(missing, size) == []
