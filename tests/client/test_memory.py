"""Memory for bodies: in one block or several, given out without a copy, kept by the allocator."""

from __future__ import annotations

import itertools
import mmap
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts import run_python

from osstorchconnector.client.memory import (
    CopiedMemory,
    FreshMemory,
    Memory,
    Pieces,
    blocks,
    copy_bytes,
    fill,
    fresh_memory,
    part,
    prefault,
    room,
)


@pytest.mark.parametrize("kind", [FreshMemory, CopiedMemory, fresh_memory])
def test_what_was_filled_in_is_given_out(kind):
    memory = kind(10)
    with memory.getbuffer() as view:
        view[:5] = b"01234"
    assert memory.getvalue() == b"01234\0\0\0\0\0"


def test_it_is_given_out_without_a_copy():
    memory = FreshMemory(10)
    assert memory.getvalue() is memory.getvalue()


def test_garbage_in_a_cycle_is_collected_without_a_word():
    # So a traceback may hold a view. Errors of finalisers are told by Python 3.13, and by others in development mode.
    program = (
        "import gc\n"
        "from osstorchconnector.client.memory import fresh_memory\n"
        "cycle = [fresh_memory(100).getbuffer()]\n"
        "cycle.append(cycle)\n"
        "del cycle\n"
        "gc.collect()\n"
    )
    assert run_python("-X", "dev", "-c", program) == ("", "")


def test_memory_that_cannot_be_had_is_an_error():
    with pytest.raises((MemoryError, OverflowError)):
        fresh_memory(sys.maxsize)


@pytest.mark.parametrize("size", [0, 1, 4096, 100_000, 9 << 20])
def test_memory_keeps_its_bytes_when_its_pages_are_found(size):
    data = bytearray(b"x" * size)
    list(prefault([memoryview(data)]))
    assert data == b"x" * size


@pytest.mark.parametrize(("start", "stop"), [(0, 9 << 20), (5000, (9 << 20) - 7), (4000, 4100)])
def test_fresh_memory_is_all_zero_when_its_pages_were_found(start, stop):
    memory = mmap.mmap(-1, 9 << 20)
    list(prefault([memoryview(memory)[start:stop], memoryview(memory)]))
    assert memory[:] == bytes(9 << 20)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has the call")
def test_pages_are_found_a_few_at_a_time():
    memory = mmap.mmap(-1, 9 << 20)
    assert len(list(prefault([memoryview(memory), memoryview(bytearray(100)), memoryview(memory)[: 4 << 20]]))) == 4


@pytest.mark.parametrize("size", [0, 1, 100_000, 200_000])
def test_bytes_are_copied_few_or_many(size):
    source, target = bytes(range(256)) * (size // 256 + 1), bytearray(size + 2)
    copy_bytes(memoryview(target)[1:-1], memoryview(source)[:size])
    assert target == b"\0" + source[:size] + b"\0"


@pytest.mark.parametrize("size", [2, 100_000, 200_000])
def test_no_other_number_of_bytes_is_copied(size):
    with pytest.raises(ValueError, match="shape|size|structure"):
        copy_bytes(memoryview(bytearray(size + 1)), memoryview(bytes(size)))


def test_memory_of_objects_that_come_and_go_is_used_again():
    program = (
        "import platform, resource\n"
        "from osstorchconnector.client.memory import raise_malloc_threshold\n"
        "raise_malloc_threshold()\n"
        "def turn():\n"
        "    return [b'x' * 100_000 for _ in range(40)]\n"
        "turn()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(20): turn()\n"
        "pages = 20 * 40 * 100_000 // resource.getpagesize()\n"
        "found = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "assert found < pages / 10 or platform.libc_ver()[0] != 'glibc', (found, pages)\n"
    )
    assert run_python("-c", program) == ("", "")


sizes = st.lists(st.integers(1, 50), min_size=1, max_size=8)


def memory_of(sizes: list[int]) -> tuple[Memory, list[bytearray]]:
    """Return memory in pieces of these sizes, and what stands in each; one piece is a plain view."""
    stores = [bytearray(size) for size in sizes]
    views = [memoryview(store) for store in stores]
    return (views[0] if len(views) == 1 else Pieces(views)), stores


@given(sizes, st.lists(st.integers(0, 400), max_size=6))
def test_what_is_filled_bit_by_bit_stands_in_the_pieces_in_order(sizes: list[int], cuts: list[int]) -> None:
    memory, stores = memory_of(sizes)
    data = bytes(number % 251 + 1 for number in range(sum(sizes)))
    assert len(memory) == len(data)
    stops = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for start, stop in itertools.pairwise(stops):
        fill(memory, start, memoryview(data)[start:stop])
    assert b"".join(stores) == data


@given(sizes, st.integers(0, 400), st.integers(0, 400), st.integers(1, 60))
def test_blocks_and_parts_are_what_slices_of_the_whole_would_be(
    sizes: list[int], one: int, other: int, most_bytes: int
) -> None:
    memory, _ = memory_of(sizes)
    data = bytes(number % 251 for number in range(len(memory)))
    fill(memory, 0, memoryview(data))
    start, stop = sorted((min(one, len(data)), min(other, len(data))))
    found = [bytes(block) for block in blocks(memory, start, stop, most_bytes)]
    assert b"".join(found) == data[start:stop]
    assert all(1 <= len(block) <= most_bytes for block in found)
    piece = part(memory, start, stop)
    assert len(piece) == stop - start
    assert b"".join(blocks(piece, 0, len(piece), len(data))) == data[start:stop]


@given(sizes, st.integers(0, 400))
def test_there_is_room_up_to_the_end_of_a_piece(sizes: list[int], start: int) -> None:
    memory, _ = memory_of(sizes)
    start = min(start, len(memory) - 1)
    here = room(memory, start, len(memory))
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    assert start + len(here) == min(end for end in ends if end > start)
