"""Coverage: whatever the order of the pieces, each byte counts once and the CRC-64 comes out right."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.files.coverage import Coverage, gaps
from osstorchconnector.protocol.checksum import crc64
from osstorchconnector.protocol.values import ByteSpan


def pieces(data: bytes, cuts: list[int]) -> list[ByteSpan]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [ByteSpan(start, stop) for start, stop in itertools.pairwise(edges)]


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=12), st.randoms(use_true_random=False))
def test_pieces_in_any_order_make_the_crc_of_the_whole(data: bytes, cuts: list[int], rng: random.Random) -> None:
    coverage = Coverage(len(data))
    spans = pieces(data, cuts)
    rng.shuffle(spans)
    for left, span in enumerate(spans):
        assert coverage.crc64 is None
        assert coverage.missing_bytes == sum(rest.size for rest in spans[left:])
        coverage.add(span, crc64(data[span.start : span.stop]))
    assert coverage.missing() == []
    assert coverage.missing_bytes == 0
    assert coverage.crc64 == crc64(data)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20))), st.tuples(st.integers(0, 60), st.integers(0, 20)))
def test_missing_is_what_was_never_added(added: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    coverage, seen = Coverage(80), set()
    for start, size in added:
        for gap in coverage.missing(ByteSpan(start, start + size)):
            coverage.add(gap, 0)
        seen |= set(range(start, start + size))
    span = ByteSpan(asked[0], asked[0] + asked[1])
    missing = coverage.missing(span)
    assert [byte for gap in missing for byte in range(gap.start, gap.stop)] == [
        byte for byte in range(span.start, span.stop) if byte not in seen
    ]
    assert all(left.stop < right.start for left, right in itertools.pairwise(missing))
    assert coverage.missing_bytes == 80 - len(seen)


@pytest.mark.parametrize("span", [ByteSpan(5, 15), ByteSpan(19, 25), ByteSpan(12, 14), ByteSpan(0, 30)])
def test_a_byte_can_not_be_counted_twice(span: ByteSpan) -> None:
    coverage = Coverage(40)
    coverage.add(ByteSpan(10, 20), 1)
    with pytest.raises(ValueError, match="counted already"):
        coverage.add(span, 2)
    assert coverage.missing_bytes == 30


def test_an_empty_object_is_covered_from_the_start() -> None:
    assert Coverage(0).crc64 == 0
    assert Coverage(0).missing() == []


def test_an_empty_piece_changes_nothing() -> None:
    coverage = Coverage(10)
    coverage.add(ByteSpan(5, 5), 99)
    assert coverage.missing() == [ByteSpan(0, 10)]


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        ([], [(10, 20)]),
        ([(0, 30)], []),
        ([(10, 20)], []),
        ([(0, 5), (25, 30)], [(10, 20)]),
        ([(12, 14), (16, 18)], [(10, 12), (14, 16), (18, 20)]),
        ([(5, 12), (11, 13), (19, 25)], [(13, 19)]),
        ([(12, 12)], [(10, 12), (12, 20)]),
    ],
)
def test_gaps_are_what_nothing_held_covers(held: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    found = gaps(ByteSpan(10, 20), [ByteSpan(*span) for span in held])
    assert found == [ByteSpan(*span) for span in expected]
