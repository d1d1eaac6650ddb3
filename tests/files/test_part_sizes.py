"""Part sizes: they begin as configured, fit the memory, and grow so that 10,000 parts carry any object."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.files.part_sizes import (
    GIB,
    KIB,
    MAX_PART_BYTES,
    MAX_PARTS,
    MIB,
    MIN_PART_BYTES,
    enough_parts,
    first_part_bytes,
    next_part_bytes,
)


def carried_by_all_parts(first_bytes: int, *, seconds_per_byte: float = 0.0) -> int:
    sent = 0
    for _ in range(MAX_PARTS):
        sent += next_part_bytes(first_bytes, sent, seconds_per_byte=seconds_per_byte)
    return sent


@pytest.mark.parametrize(
    ("configured", "memory", "first"),
    [
        (16 * MIB, 512 * MIB, 16 * MIB),
        (16 * MIB, 16 * MIB, 8 * MIB),  # one is filled while one is sent
        (100 * KIB, 512 * MIB, 100 * KIB),
        (16 * MIB, 1, MIN_PART_BYTES),  # OSS takes no smaller ones
        (8 * GIB, 64 * GIB, 5 * GIB),
    ],
)
def test_the_first_part_is_as_configured_but_fits(configured: int, memory: int, first: int) -> None:
    assert first_part_bytes(configured, memory) == first


def test_the_limits_are_those_of_oss() -> None:
    assert (MIN_PART_BYTES, MAX_PART_BYTES, MAX_PARTS) == (102_400, 5 * 1024**3, 10_000)


def test_an_object_of_16_gib_has_parts_of_the_configured_size_only() -> None:
    assert next_part_bytes(16 * MIB, 0) == 16 * MIB
    assert next_part_bytes(16 * MIB, 1000 * 16 * MIB) == 16 * MIB
    assert next_part_bytes(16 * MIB, 1000 * 16 * MIB + 1) == 17 * MIB


@given(st.integers(MIN_PART_BYTES, MAX_PART_BYTES), st.integers(0, 50 * 1024 * GIB), st.integers(0, GIB))
def test_parts_never_shrink_and_stay_within_what_oss_takes(first: int, sent: int, more: int) -> None:
    part = next_part_bytes(first, sent)
    assert MIN_PART_BYTES <= first <= part <= MAX_PART_BYTES
    assert next_part_bytes(first, sent + more) >= part


def test_ten_thousand_parts_carry_twenty_terabytes() -> None:
    assert carried_by_all_parts(16 * MIB) > 20 * 1024 * GIB


def test_ten_thousand_of_the_smallest_parts_carry_a_terabyte() -> None:
    assert carried_by_all_parts(MIN_PART_BYTES) > 1024 * GIB


def test_parts_that_take_long_are_smaller_for_the_first_gigabytes() -> None:
    slow, quick = 0.1 / (16 * MIB), 0.099 / (16 * MIB)
    assert next_part_bytes(16 * MIB, 16 * MIB, seconds_per_byte=slow) == 5 * MIB
    assert next_part_bytes(MIB, MIB, seconds_per_byte=1.0) == MIB
    assert next_part_bytes(16 * MIB, 16 * MIB, seconds_per_byte=quick) == 16 * MIB
    assert next_part_bytes(16 * MIB, 1601 * MIB, seconds_per_byte=slow) == 16 * MIB
    assert next_part_bytes(16 * MIB, 0, seconds_per_byte=math.inf) == 16 * MIB, "none has ended yet"


def test_ten_thousand_parts_that_take_long_carry_twenty_terabytes_too() -> None:
    assert carried_by_all_parts(16 * MIB, seconds_per_byte=1e-7) > 20e12


@pytest.mark.parametrize(
    ("part_seconds", "enough"), [(0.0, 8), (0.025, 8), (0.029, 9), (0.1, 26), (1.0, 241), (1e9, MAX_PARTS + 2)]
)
def test_enough_parts_are_those_that_carry_4_gb_a_second_and_two_more_or_8(part_seconds: float, enough: int) -> None:
    assert enough_parts(part_seconds / (16 * MIB)) == enough


def test_as_long_as_no_part_was_sent_there_are_never_enough() -> None:
    assert enough_parts(math.inf) > MAX_PARTS
