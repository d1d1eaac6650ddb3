from __future__ import annotations

from collections import Counter
from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.dcp.segments import Range, RangePlan, RangeSizes, Segment, ranges, slice_of
from osstorchconnector.protocol.values import ByteSpan
from osstorchconnector.tensors.memory import contiguous

parts = st.lists(st.tuples(st.integers(0, 100_000), st.integers(1, 5000), st.booleans()), max_size=40).map(
    lambda parts: [Segment(start, start + size, number, lands) for number, (start, size, lands) in enumerate(parts)]
)
range_sizes = st.tuples(st.integers(500, 5000), st.integers(1000, 20_000), st.integers(1000, 20_000)).map(
    lambda sizes: RangeSizes(*sizes)
)


def bytes_of(segments: list[Segment]) -> Counter[tuple[int, int]]:
    """Count each byte for each owner."""
    return Counter((segment.owner, at) for segment in segments for at in range(segment.start, segment.stop))


@given(parts, range_sizes)
def test_every_byte_is_in_one_range_for_each_who_wants_it(wanted: list[Segment], sizes: RangeSizes) -> None:
    found = [segment for made in ranges(wanted, sizes) for segment in made.segments]
    assert bytes_of(found) == bytes_of(wanted)
    held = [segment for segment in found if not segment.is_direct]
    assert sorted(held) == sorted(segment for segment in wanted if not segment.is_direct), "these are not cut"


@given(parts, range_sizes)
def test_a_range_is_what_its_segments_span_and_little_more(wanted: list[Segment], sizes: RangeSizes) -> None:
    for made in ranges(wanted, sizes):
        assert made.segments == sorted(made.segments)
        assert made.span == (made.segments[0].start, max(segment.stop for segment in made.segments))
        needed = {at for _, at in bytes_of(made.segments)}
        assert made.span.size - len(needed) <= max(made.span.size // 64, len(made.segments))


@given(parts, range_sizes, st.lists(st.integers(0, 40)))
def test_segments_given_bit_by_bit_are_in_the_same_ranges(
    wanted: list[Segment], sizes: RangeSizes, cuts: list[int]
) -> None:
    plan, found, in_order = RangePlan(sizes), list[Range](), sorted(wanted)
    for start, stop in pairwise(sorted({0, *cuts, len(wanted)})):
        found += plan.add(in_order[start:stop])
    assert found + plan.end() == ranges(wanted, sizes)


@given(parts, range_sizes)
def test_ranges_keep_to_their_sizes_but_for_a_large_segment_that_is_held(
    wanted: list[Segment], sizes: RangeSizes
) -> None:
    for number, made in enumerate(ranges(wanted, sizes)):
        longest = max((segment.stop - segment.start for segment in made.segments if not segment.is_direct), default=0)
        assert made.span.size <= max(sizes.most if number else sizes.first, longest)
        assert made.staged_bytes <= max(sizes.most_staged, longest)


@given(parts, range_sizes)
def test_what_lands_shares_no_byte_of_its_range(wanted: list[Segment], sizes: RangeSizes) -> None:
    for made in ranges(wanted, sizes):
        for left, right in pairwise(made.segments):
            assert left.stop <= right.start or not (left.is_direct or right.is_direct)
        landing = sum(segment.stop - segment.start for segment in made.segments if segment.is_direct)
        assert made.staged_bytes == made.span.size - landing


SIZES = RangeSizes(first=400, most=400, most_staged=400)


def spans(found: list[Range]) -> list[ByteSpan]:
    return [made.span for made in found]


def test_neighbours_are_fetched_together_up_to_a_limit() -> None:
    wanted = [Segment(start, start + 100, 0) for start in range(0, 1000, 100)]
    assert spans(ranges(wanted, SIZES)) == [(0, 400), (400, 800), (800, 1000)]
    assert spans(ranges(wanted, SIZES._replace(first=200))) == [(0, 200), (200, 600), (600, 1000)]


def test_what_lies_far_apart_is_fetched_apart() -> None:
    wanted = [Segment(0, 1000, 0), Segment(1005, 2000, 1), Segment(5000, 6000, 2)]
    assert spans(ranges(wanted, RangeSizes(10_000, 10_000, 10_000))) == [(0, 2000), (5000, 6000)]


def test_tensors_and_what_stands_around_them_come_with_one_request() -> None:
    tensors = [Segment(10, 300, 0, True), Segment(310, 900, 1, True)]
    around = [Segment(0, 10, 0), Segment(300, 305, 0), Segment(305, 310, 1), Segment(900, 910, 1)]
    made = ranges([*tensors, *around], RangeSizes(first=1000, most=1000, most_staged=50))
    assert spans(made) == [(0, 910)]
    assert made[0].staged_bytes == 30


def test_what_lies_between_counts_as_held() -> None:
    lands = Segment(402, 1300, 1, True)
    sizes = RangeSizes(first=2000, most=2000, most_staged=400)
    assert spans(ranges([Segment(0, 397, 0), lands], sizes)) == [(0, 397), (402, 1300)]
    assert spans(ranges([Segment(0, 397, 0), lands], sizes._replace(most_staged=402))) == [(0, 1300)]
    after = Segment(1300, 1301, 1)
    assert spans(ranges([Segment(0, 397, 0), lands, after], sizes._replace(most_staged=402))) == [
        (0, 1300),
        (1300, 1301),
    ]


def test_what_is_held_already_is_not_fetched_again() -> None:
    wanted = [Segment(0, 1000, number) for number in range(3)]
    assert spans(ranges([*wanted, Segment(100, 200, 3)], SIZES)) == [(0, 1000)]


def test_a_tensor_goes_on_in_the_next_range() -> None:
    made = ranges([Segment(0, 10, 0), Segment(10, 1000, 0, True), Segment(1000, 1010, 0)], SIZES)
    assert spans(made) == [(0, 400), (400, 800), (800, 1010)]
    assert made[1].segments == [Segment(400, 800, 0, True)]


def test_the_same_bytes_for_two_tensors_are_fetched_for_each() -> None:
    wanted = [Segment(0, 10, 0), Segment(0, 10, 1), Segment(10, 300, 0, True), Segment(10, 300, 1, True)]
    assert spans(ranges(wanted, SIZES)) == [(0, 300), (10, 300)]


boxes = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 5), st.integers(1, 6)), max_size=4).map(
    lambda dims: [(size, start % size, min(length, size - start % size)) for size, start, length in dims]
)


@given(boxes)
def test_a_slice_begins_and_ends_with_elements_of_the_box(dims: list[tuple[int, int, int]]) -> None:
    shape = tuple(size for size, _, _ in dims)
    offsets, lengths = [start for _, start, _ in dims], [length for _, _, length in dims]
    numbers = torch.arange(torch.Size(shape).numel()).reshape(shape)
    box = numbers[tuple(slice(start, start + length) for start, length in zip(offsets, lengths, strict=True))].flatten()
    found = slice_of(contiguous(shape), offsets, lengths)
    assert (found.start, found.stop) == (box[0], box[-1] + 1)
    assert found.is_block == (found.size == len(box))
