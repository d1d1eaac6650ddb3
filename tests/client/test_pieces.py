from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.client.memory import Memory, Pieces, blocks, fill, part, room

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
