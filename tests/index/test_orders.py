from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.index.fixed import FixedIndex
from osstorchconnector.index.info import ObjectInfo
from osstorchconnector.index.layout import Batch
from osstorchconnector.index.orders import RankBalance, Taken, View, ordered


def index_of(count: int) -> FixedIndex:
    keys = list(map(str, range(count)))
    return FixedIndex(Batch("b/", keys[i : i + 7], [1] * len(keys[i : i + 7])) for i in range(0, count, 7))


def numbers(infos: Iterator[ObjectInfo]) -> list[int]:
    return [int(info.uri.key) for info in infos]


SEEDS = st.none() | st.integers(0, 3)
EVENINGS = st.sampled_from(["none", "drop", "repeat"])


@st.composite
def takens(draw: st.DrawFn) -> list[Taken]:
    """What some epochs that were broken off, each on another number of processes, had done."""
    counts = st.lists(st.integers(0, 6), min_size=1, max_size=5)
    return [Taken(draw(counts)) for _ in range(draw(st.integers(0, 3)))]


@given(st.integers(0, 40), SEEDS, takens(), st.integers(1, 4), EVENINGS, st.integers(0, 9), st.integers(1, 5))
def test_what_can_be_read_in_order_can_be_read_by_number_and_counted(
    count: int, seed: int | None, taken: list[Taken], ranks: int, balance: RankBalance, first: int, step: int
) -> None:
    view = ordered(index_of(count), seed=seed, epoch=1, taken=taken, ranks=ranks, balance=balance)
    order = numbers(view.items())
    assert len(order) == view.count()
    assert numbers(view.items(first, step)) == order[first::step]
    assert numbers(view.at([*reversed(range(len(order))), len(order)])) == order[::-1]


@given(st.integers(0, 40), SEEDS, st.lists(st.integers(0, 12), min_size=1, max_size=5))
def test_what_was_taken_and_what_remains_are_the_whole_order(count: int, seed: int | None, counts: list[int]) -> None:
    whole = ordered(index_of(count), seed=seed)
    taken = [
        number
        for share, n in enumerate(counts)
        for number in itertools.islice(numbers(whole.items(share, len(counts))), n)
    ]
    rest = numbers(ordered(index_of(count), seed=seed, taken=[Taken(counts)]).items())
    assert sorted(taken + rest) == list(range(count))
    assert rest == [number for number in numbers(whole.items()) if number not in taken]


@given(st.integers(0, 30), SEEDS, takens())
def test_what_is_left_of_what_was_left_is_disjoint_from_all_that_was_taken(
    count: int, seed: int | None, taken: list[Taken]
) -> None:
    rest = numbers(ordered(index_of(count), seed=seed).items())
    for layer in range(len(taken)):
        below = numbers(ordered(index_of(count), seed=seed, taken=taken[: layer + 1]).items())
        assert set(below) <= set(rest)
        assert len(below) == taken[layer].rest(len(rest))
        rest = below


@given(st.integers(0, 30), st.integers(1, 6), SEEDS)
def test_evened_out_each_rank_has_as_many(count: int, ranks: int, seed: int | None) -> None:
    def shares(balance: RankBalance) -> list[list[int]]:
        view = ordered(index_of(count), seed=seed, ranks=ranks, balance=balance)
        return [numbers(view.items(rank, ranks)) for rank in range(ranks)]

    dropped, repeated = shares("drop"), shares("repeat")
    assert {len(share) for share in dropped} == {count // ranks}
    assert {len(share) for share in repeated} == {-(-count // ranks)}
    assert len(set(itertools.chain(*dropped))) == count - count % ranks
    assert set(itertools.chain(*repeated)) == set(range(count))


class Growing(FixedIndex):
    """An index whose count nobody may ask for."""

    def count(self) -> int:
        raise AssertionError("somebody waits for the end of the listing")


@pytest.mark.parametrize("taken", [[], [Taken([2, 1])]])
def test_an_order_that_is_not_shuffled_does_not_wait_for_the_end_of_the_listing(taken: list[Taken]) -> None:
    view: View = ordered(Growing([Batch("b/", list("0123456"), [1] * 7)]), taken=taken)
    assert numbers(view.items(1, 2)) == ([1, 3, 5] if not taken else [4, 6])
