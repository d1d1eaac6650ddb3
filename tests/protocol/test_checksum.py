"""CRC-64 and CRC-32 of bytes, of runs of bytes joined, of memory of every shape, and of bytes while they arrive."""

from __future__ import annotations

import array
import itertools
import zlib
from random import Random

import anycrc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.protocol.checksum import SpanSums, combine_crc32, combine_crc64, crc32, crc64
from osstorchconnector.protocol.values import ByteSpan

VECTORS = {
    b"": 0,
    b"a": 3675645893302102789,
    b"123456789": 0x995DC9BBDF1939FA,
    b"1234": 14865968487149912872,
    b"56789": 7598038797645275211,
    b"hello world\n": 14969823782951187105,
    bytes(1024): 14085117335336199948,
}


def crc64_by_the_bit(data: bytes) -> int:
    """The definition: polynomial 0x42F0E1EBA9EA3693 reflected, all ones before and after."""
    crc = 2**64 - 1
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xC96C5795D7870F42 if crc & 1 else 0)
    return crc ^ 2**64 - 1


@pytest.mark.parametrize("data", VECTORS)
def test_known_sums(data: bytes) -> None:
    assert crc64(data) == VECTORS[data]


@given(st.binary(max_size=200))
def test_it_is_the_sum_of_the_definition(data: bytes) -> None:
    assert crc64(data) == crc64_by_the_bit(data)


@given(st.integers(0), st.integers(0, 100), st.integers(0, 300_000), st.integers(0, 2**64 - 1))
def test_long_runs_have_the_sums_that_another_library_computes(seed: int, start: int, size: int, initial: int) -> None:
    """From 16 KiB on other threads run meanwhile, and from some hundred bytes on other instructions are used."""
    data = memoryview(bytes(100) + Random(seed).randbytes(size))[start:]
    assert crc64(data, initial) == anycrc.Model("CRC64-XZ").calc(data, initial)
    assert crc32(data, initial % 2**32) == zlib.crc32(data, initial % 2**32)


@given(st.binary(), st.binary())
def test_going_on_with_the_sum_of_what_came_before(first: bytes, second: bytes) -> None:
    assert crc64(second, crc64(first)) == crc64(first + second)


@given(st.lists(st.binary(max_size=50), max_size=6))
def test_sums_of_runs_combine_to_that_of_the_whole(runs: list[bytes]) -> None:
    whole = 0
    for run in runs:
        whole = combine_crc64(whole, crc64(run), len(run))
    assert whole == crc64(b"".join(runs))


@given(st.binary(), st.binary(), st.binary())
def test_combination_is_associative(a: bytes, b: bytes, c: bytes) -> None:
    left = combine_crc64(combine_crc64(crc64(a), crc64(b), len(b)), crc64(c), len(c))
    right = combine_crc64(crc64(a), combine_crc64(crc64(b), crc64(c), len(c)), len(b) + len(c))
    assert left == right


def test_runs_of_several_gigabytes_combine() -> None:
    size = 5 * 2**30
    power_of_zeros = crc64(bytes(2**20))
    zeros, length = power_of_zeros, 2**20
    while length < 2**32:
        zeros, length = combine_crc64(zeros, zeros, length), 2 * length
    assert length == 2**32
    gigabyte = power_of_zeros
    for doubling in range(10):
        gigabyte = combine_crc64(gigabyte, gigabyte, 2**20 << doubling)
    in_one = combine_crc64(combine_crc64(crc64(b"x"), zeros, 2**32), gigabyte, 2**30)
    in_another = combine_crc64(crc64(b"x"), combine_crc64(zeros, gigabyte, 2**30), size)
    assert in_one == in_another


@pytest.mark.parametrize(
    "memory",
    [
        bytearray(b"abcdefgh"),
        memoryview(b"abcdefgh"),
        memoryview(bytearray(b"..abcdefgh"))[2:],
        memoryview(b"abcdefgh").cast("i"),
        memoryview(b"abcdefgh").cast("c"),
        memoryview(b"abcdefgh").cast("B", (2, 4)),
        memoryview(array.array("d", b"abcdefgh")),
    ],
    ids=lambda memory: f"{type(memory).__name__}-{getattr(memory, 'format', '')}{getattr(memory, 'ndim', '')}",
)
def test_any_contiguous_memory_is_summed_as_its_bytes(memory: bytearray | memoryview) -> None:
    assert crc64(memory) == crc64(b"abcdefgh")


def test_memory_with_gaps_is_refused() -> None:
    for checksum in (crc64, crc32):
        with pytest.raises(BufferError, match="contiguous"):
            checksum(memoryview(b"a.b.c.d.")[::2])


def test_empty_memory_has_the_sum_of_nothing() -> None:
    assert crc64(memoryview(b"")) == crc64(bytearray()) == 0
    assert crc64(b"", 5) == 5
    assert combine_crc64(5, 0, 0) == 5


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_crc32_is_that_of_zip_and_can_be_combined(left: bytes, right: bytes) -> None:
    assert crc32(left) == zlib.crc32(left)
    assert combine_crc32(crc32(left), crc32(right), len(right)) == zlib.crc32(left + right)


@given(
    st.binary(max_size=100),
    st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=6),
    st.lists(st.integers(0, 100), max_size=5),
)
def test_spans_of_bytes_that_arrive_in_blocks_have_the_crc32_of_their_bytes(
    data: bytes, pairs: list[tuple[int, int]], cuts: list[int]
) -> None:
    inside = sorted((min(pair), min(max(pair), len(data))) for pair in pairs if min(pair) < len(data))
    spans = [ByteSpan(1000 + start, 1000 + stop) for start, stop in inside]
    sums = SpanSums(spans, 1000)
    sums.add(memoryview(b"wrong bytes"))
    sums.clear()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    for start, stop in itertools.pairwise(edges):
        sums.add(memoryview(data)[start:stop])
    assert sums.crcs == [zlib.crc32(data[span.start - 1000 : span.stop - 1000]) for span in spans]
