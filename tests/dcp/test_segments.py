from __future__ import annotations

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.client.values import ByteSpan
from osstorchconnector.dcp.segments import runs, slice_of
from osstorchconnector.dcp.tensors import contiguous

spans = st.lists(
    st.tuples(st.integers(0, 100_000), st.integers(1, 5000)).map(lambda pair: ByteSpan(pair[0], sum(pair)))
)


@given(spans, st.integers(1000, 20_000))
def test_every_span_is_in_one_run_and_little_is_fetched_for_nothing(found: list[ByteSpan], max_bytes: int) -> None:
    made = runs(enumerate(found), max_bytes=max_bytes)
    assert sorted(number for run in made for number in run.members) == list(range(len(found)))
    for run in made:
        members = [found[number] for number in run.members]
        assert run.span == ByteSpan(min(span.start for span in members), max(span.stop for span in members))
        assert run.span.size <= max_bytes or any(span.size == run.span.size for span in members) or overlapping(members)
        wanted = set().union(*(range(span.start, span.stop) for span in members))
        assert run.span.size - len(wanted) <= max(run.span.size // 64, len(members))


def overlapping(members: list[ByteSpan]) -> bool:
    ordered = sorted(members)
    return any(right.start < left.stop for left, right in pairwise(ordered))


def test_neighbours_are_fetched_together_up_to_a_limit() -> None:
    found = [ByteSpan(start, start + 100) for start in range(0, 1000, 100)]
    assert [run.span for run in runs(enumerate(found), max_bytes=400)] == [(0, 400), (400, 800), (800, 1000)]


def test_what_lies_far_apart_is_fetched_apart() -> None:
    found = [ByteSpan(0, 1000), ByteSpan(1005, 2000), ByteSpan(5000, 6000)]
    assert [run.span for run in runs(enumerate(found), max_bytes=10_000)] == [(0, 2000), (5000, 6000)]


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
