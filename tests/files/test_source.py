"""AccessPattern: which way of reading suits a reader that has read so far as it has. No client is needed to choose."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.files.read_plan import DIRECT_BYTES, FIRST_BYTES, KIB, MIB, SKIP_BYTES
from osstorchconnector.files.source import AccessPattern, Way
from osstorchconnector.protocol.values import ByteSpan

RANDOM, AHEAD, DIRECT = Way.RANDOM_BLOCKS, Way.READ_AHEAD, Way.DIRECT


class Read(NamedTuple):
    """A read of bytes that are not here; a `readinto` has memory for them, a `read` is given a block."""

    start: int
    size: int
    is_into: bool = False
    is_ahead: bool = False


def into(start: int, size: int) -> Read:
    return Read(start, size, is_into=True)


def follow(pattern: AccessPattern, read: Read) -> Way:
    """Do what a source does for a read, but for fetching."""
    span = ByteSpan(read.start, read.start + read.size)
    pattern.begin_read(read.start)
    way = pattern.choose(direct_bytes=read.size if read.is_into else 0, is_ahead=read.is_ahead)
    if read.is_into:
        pattern.note_read_into(span, is_direct=way is DIRECT)
    else:
        pattern.note_block(span)
    return way


@pytest.mark.parametrize(
    ("reads", "ways"),
    [
        pytest.param([Read(0, KIB)], [RANDOM], id="one small read"),
        pytest.param([Read(0, 64), Read(64, 64), Read(128, 64)], [RANDOM, AHEAD, AHEAD], id="sequential small reads"),
        pytest.param([Read(MIB, 64), Read(MIB + 64, 64)], [RANDOM, AHEAD], id="sequential from the middle on"),
        pytest.param([Read(5 * MIB, 64), Read(MIB, 64), Read(9 * MIB, 64)], [RANDOM] * 3, id="random reads"),
        pytest.param([Read(0, 64), Read(64 + SKIP_BYTES, 64)], [RANDOM, AHEAD], id="a short step forward"),
        pytest.param([Read(0, 64), Read(65 + SKIP_BYTES, 64)], [RANDOM, RANDOM], id="a step too long"),
        pytest.param([Read(0, 64), Read(64, 64), Read(0, 64)], [RANDOM, AHEAD, RANDOM], id="back to the start"),
        pytest.param([Read(0, 64), Read(64, 64), Read(80, 64)], [RANDOM, AHEAD, AHEAD], id="back within the last read"),
        pytest.param([Read(5 * MIB, 64, is_ahead=True)], [AHEAD], id="a jump to bytes that were read ahead"),
        pytest.param([into(0, FIRST_BYTES - 1)], [RANDOM], id="one small readinto"),
        pytest.param([into(0, FIRST_BYTES)], [DIRECT], id="one large readinto"),
        pytest.param([into(0, 64), into(64, DIRECT_BYTES - 1)], [RANDOM, AHEAD], id="sequential small readintos"),
        pytest.param([into(0, 64), into(64, DIRECT_BYTES)], [RANDOM, DIRECT], id="sequential large readintos"),
        pytest.param([into(0, MIB), Read(MIB, 64), into(MIB + 64, MIB)], [DIRECT, AHEAD, DIRECT], id="a checkpoint"),
    ],
)
def test_the_way_follows_from_the_reads_before(reads: list[Read], ways: list[Way]) -> None:
    pattern = AccessPattern()
    assert [follow(pattern, read) for read in reads] == ways


def test_a_run_grows_by_every_read_and_ends_with_a_jump() -> None:
    pattern, runs = AccessPattern(), []
    for read in [Read(MIB, 100), Read(MIB + 100, 100), Read(MIB + 150, 100), Read(0, 100), Read(100, 100)]:
        follow(pattern, read)
        runs.append(pattern.run_bytes)
    assert runs == [0, 100, 150, 0, 100]


def test_small_reads_count_from_the_large_one_before_them() -> None:
    pattern = AccessPattern()
    follow(pattern, into(0, 8 * MIB))
    follow(pattern, Read(8 * MIB, 100))
    assert (pattern.run_bytes, pattern.small_run_bytes(8 * MIB)) == (8 * MIB, 0)
    follow(pattern, Read(8 * MIB + 100, 100))
    assert pattern.small_run_bytes(8 * MIB + 100) == 100


def test_a_large_read_of_an_earlier_run_does_not_count() -> None:
    pattern = AccessPattern()
    follow(pattern, into(0, 8 * MIB))
    follow(pattern, Read(20 * MIB, 100))
    follow(pattern, Read(20 * MIB + 100, 100))
    assert pattern.small_run_bytes(20 * MIB + 100) == 100


@given(
    st.lists(
        st.builds(Read, st.integers(0, 9 * MIB), st.integers(1, 3 * MIB), st.booleans(), st.booleans()), max_size=9
    )
)
def test_only_a_reader_that_goes_forward_or_finds_bytes_there_reads_ahead(reads: list[Read]) -> None:
    pattern = AccessPattern()
    for read in reads:
        way = follow(pattern, read)
        assert pattern.run_bytes >= 0
        assert 0 <= pattern.small_run_bytes(read.start) <= max(pattern.run_bytes, read.start)
        if way is DIRECT:
            assert read.is_into
            assert read.size >= FIRST_BYTES
        else:
            assert (way is AHEAD) == (bool(pattern.run_bytes) or read.is_ahead)
