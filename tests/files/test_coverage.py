"""Coverage: whatever the order of the pieces, each byte counts once and the CRC-64 comes out right.

A received object is one object: checked when all of it is there, and never mixed with another one.
"""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.errors import OssIntegrityError, OssObjectChangedError
from osstorchconnector.files.coverage import Coverage, ReceivedObject, gaps
from osstorchconnector.protocol.checksum import crc64
from osstorchconnector.protocol.values import ByteSpan, Download, ObjectStat
from osstorchconnector.uri import OssUri


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


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=12), st.randoms(use_true_random=False))
def test_the_crc_with_zeros_for_what_is_missing(data: bytes, cuts: list[int], rng: random.Random) -> None:
    coverage, seen = Coverage(len(data)), bytearray(len(data))
    assert coverage.crc64_with_zeros == crc64(seen)
    spans = pieces(data, cuts)
    rng.shuffle(spans)
    for span in spans:
        seen[span.start : span.stop] = data[span.start : span.stop]
        coverage.add(span, crc64(data[span.start : span.stop]))
        assert coverage.crc64_with_zeros == crc64(seen)


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


def download(data: bytes, span: ByteSpan, *, crc: int | None = None, etag: str = "E", size: int = -1) -> Download:
    """Return what a request for `span` of an object brings; `crc` is what OSS says of the whole."""
    stat = ObjectStat(len(data) if size < 0 else size, etag, crc)
    return Download(stat, span, b"", crc64(data[span.start : span.stop]))


def received() -> ReceivedObject:
    return ReceivedObject(OssUri("bucket", "key"))


def spans_of(size: int) -> st.SearchStrategy[list[ByteSpan]]:
    edges = st.tuples(st.integers(0, size), st.integers(0, size))
    return st.lists(edges.map(lambda pair: ByteSpan(min(pair), max(pair))), max_size=12)


@given(st.binary(min_size=1, max_size=60).flatmap(lambda data: st.tuples(st.just(data), spans_of(len(data)))))
def test_an_object_is_whole_when_every_byte_came_however_often(drawn: tuple[bytes, list[ByteSpan]]) -> None:
    data, spans = drawn
    target, seen = received(), set()
    for span in [*spans, ByteSpan(0, len(data))]:
        target.count(download(data, span, crc=crc64(data)), memoryview(data)[span.start : span.stop])
        seen |= set(range(*span))
        assert target.missing_bytes == len(data) - len(seen)
    assert not target.failure


@given(
    st.binary(min_size=1, max_size=60).flatmap(lambda data: st.tuples(st.just(data), spans_of(len(data)))),
    st.integers(0, 59),
)
def test_a_wrong_byte_is_found_when_the_last_one_came(drawn: tuple[bytes, list[ByteSpan]], wrong: int) -> None:
    data, spans = drawn
    broken = bytearray(data)
    broken[wrong % len(data)] ^= 1
    target = received()
    try:
        for span in spans:
            target.count(download(broken, span, crc=crc64(data)), memoryview(broken)[span.start : span.stop])
            assert target.missing_bytes
    except OssIntegrityError:
        assert not target.missing_bytes
    else:
        with pytest.raises(OssIntegrityError, match=r"/key: the \d+ bytes received have CRC-64 \d+, OSS says"):
            target.count(download(broken, ByteSpan(0, len(data)), crc=crc64(data)), memoryview(broken))
    assert "OSS says" in target.failure


def test_a_byte_that_comes_again_is_not_counted_again() -> None:
    data = b"0123456789"
    target = received()
    target.count(download(data, ByteSpan(0, 6), crc=crc64(data)), memoryview(data)[:6])
    target.count(download(b"xxxxxx6789", ByteSpan(2, 10), crc=crc64(data)), memoryview(b"xxxx6789"))
    assert target.missing_bytes == 0


def test_a_download_that_overlaps_is_not_counted_without_its_bytes() -> None:
    data = b"0123456789"
    target = received()
    target.count(download(data, ByteSpan(0, 6), crc=1))
    target.count(download(data, ByteSpan(5, 10), crc=1))
    assert target.missing_bytes == 4
    target.count(download(data, ByteSpan(2, 5), crc=1))  # all of it was counted
    assert target.missing_bytes == 4


def test_an_object_without_a_stated_crc_is_not_checked() -> None:
    target = received()
    target.count(download(b"abc", ByteSpan(0, 3)))
    assert (target.missing_bytes, target.failure) == (0, "")


@pytest.mark.parametrize(("end", "is_whole"), [(bytes(20), True), (b"1" + bytes(19), False)])
def test_zeros_at_the_end_need_not_be_fetched(end: bytes, is_whole: bool) -> None:
    target, data = received(), b"0123456789" + end
    assert not target.is_whole_with_zeros()
    target.count(download(data, ByteSpan(0, 10), crc=crc64(data)))
    assert target.is_whole_with_zeros() == is_whole
    assert target.missing_bytes == 20


def test_the_first_download_says_which_object_it_is() -> None:
    target = received()
    assert (target.stat, target.etag, target.leftovers()) == (None, "", [])
    first = download(b"abcdefghij" * 10, ByteSpan(0, 98), etag="F")
    target.count(target.check_same(first, ByteSpan(0, 98)))
    assert (target.stat, target.etag) == (first.stat, "F")
    assert target.leftovers() == [ByteSpan(98, 100)]


@pytest.mark.parametrize(("etag", "size"), [("F", 10), ("E", 9), ("", 10)])
def test_bytes_of_another_object_are_refused(etag: str, size: int) -> None:
    data = b"0123456789"
    target = received()
    target.count(download(data, ByteSpan(0, 5)))
    with pytest.raises(OssObjectChangedError, match=rf"replaced while it was read \(it had 10 bytes, now {size}\)"):
        target.check_same(download(data, ByteSpan(5, 8), etag=etag, size=size), ByteSpan(5, 8))


@pytest.mark.parametrize("is_first", [True, False])
def test_other_bytes_than_were_asked_for_are_refused(is_first: bool) -> None:
    data = b"0123456789"
    target = received()
    if not is_first:
        target.count(download(data, ByteSpan(0, 5)))
    with pytest.raises(OssObjectChangedError, match=r"bytes 5 to 12 are not there \(the object has 10 bytes\)"):
        target.check_same(download(data, ByteSpan(5, 10)), ByteSpan(5, 12))
