"""Plans of slices: the blocks bring what is wanted, and little more."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.safetensors.slices import Axis, SlicePlan

ITEM_BYTES = 2


@st.composite
def axes_of(draw: st.DrawFn, size: int) -> Axis:
    if draw(st.booleans()):
        found = slice(draw(st.integers(0, size)), draw(st.integers(0, size)), draw(st.integers(1, 4)))
        return range(*found.indices(size))
    return tuple(sorted(draw(st.sets(st.integers(0, size - 1))))) if size else ()


@st.composite
def plans(draw: st.DrawFn) -> tuple[np.ndarray[Any, Any], list[Axis], SlicePlan, int, int]:
    shape = draw(st.lists(st.integers(0, 7), max_size=4))
    axes = [draw(axes_of(size)) for size in shape]
    gap, most = draw(st.integers(0, 60)), draw(st.integers(ITEM_BYTES, 200))
    whole = np.arange(math.prod(shape), dtype=np.uint16).reshape(shape)
    return whole, axes, SlicePlan(shape, axes, ITEM_BYTES, max_gap_bytes=gap, max_block_bytes=most), gap, most


@given(plans())
def test_the_blocks_bring_what_is_wanted(
    made: tuple[np.ndarray[Any, Any], list[Axis], SlicePlan, int, int],
) -> None:
    whole, axes, plan, gap, most = made
    picked = [np.array(axis, dtype=np.intp) for axis in axes]
    expected = (whole[np.ix_(*picked)] if axes else whole).reshape(plan.shape)
    wanted = set(expected.ravel().tolist())  # an element's value is its place
    result = np.full(expected.size * ITEM_BYTES, 255, np.uint8)
    reached = 0
    for block in plan.blocks():
        assert block.span.start >= reached and block.span.size > 0
        reached = block.span.stop
        here = whole.ravel().view(np.uint8)[block.span.start : block.span.stop]
        part = expected[block.outer][block.first : block.last]
        elements = here.view(np.uint16)
        assert set(part.ravel().tolist()) == set(elements.tolist()) & wanted
        if block.is_whole:
            start = plan.target_start_bytes(block)
            result[start : start + len(here)] = here
        else:
            assert block.span.size <= most
            places = np.flatnonzero(np.isin(elements, list(wanted)))
            assert {0, len(elements) - 1} <= set(places.tolist())
            assert (np.diff(places) - 1).max(initial=0) * ITEM_BYTES <= gap
            result_part = result.view(np.uint16).reshape(plan.shape)[block.outer]
            result_part[block.first : block.last] = part
    assert (result.view(np.uint16) == expected.ravel()).all()


def plan(shape: tuple[int, ...], *axes: Axis, gap: int = 64, most: int = 4096) -> list[tuple[int, int, bool]]:
    found = SlicePlan(shape, axes, 1, max_gap_bytes=gap, max_block_bytes=most)
    return [(*block.span, block.is_whole) for block in found.blocks()]


@pytest.mark.parametrize(
    ("axes", "blocks"),
    [
        ((range(1000), range(100)), [(0, 100_000, True)]),
        ((range(10, 20), range(100)), [(1000, 2000, True)]),
        ((range(10, 11), range(5, 10)), [(1005, 1010, True)]),
        ((range(3), range(50, 100)), [(50, 300, False)]),  # gaps of 50 bytes
        ((range(3), range(10)), [(0, 10, True), (100, 110, True), (200, 210, True)]),  # gaps of 90 bytes
        ((range(0, 6, 2), range(100)), [(0, 100, True), (200, 300, True), (400, 500, True)]),
        (((0, 1, 5, 6), range(100)), [(0, 200, True), (500, 700, True)]),
        ((range(80), range(50)), [(0, 4050, False), (4100, 7950, False)]),  # cut
        ((range(5, 5), range(100)), []),
    ],
)
def test_near_pieces_come_together_and_far_ones_alone(
    axes: tuple[Axis, ...], blocks: list[tuple[int, int, bool]]
) -> None:
    assert plan((1000, 100), *axes) == blocks


def test_a_tensor_without_dimensions_is_one_block() -> None:
    assert plan(()) == [(0, 1, True)]


def test_a_plan_for_a_huge_tensor_takes_no_more_than_its_blocks() -> None:
    assert plan((1 << 40, 1 << 20), range(7, 9), range(1 << 20)) == [(7 << 20, 9 << 20, True)]
