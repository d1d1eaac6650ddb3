from __future__ import annotations

import itertools
from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from osstorchconnector.index.orders import Permutation


@given(st.integers(0, 3000), st.integers(), st.integers(0, 100))
@example(0, 0, 0)
@example(1, 0, 0)
def test_it_has_each_number_once(count: int, seed: int, epoch: int) -> None:
    assert sorted(map(Permutation(count, seed, epoch), range(count))) == list(range(count))


@given(st.integers(10**6, 10**12), st.integers(), st.data())
def test_it_needs_no_room_however_many_numbers_there_are(count: int, seed: int, data: st.DataObject) -> None:
    places = data.draw(st.sets(st.integers(0, count - 1), max_size=50))
    order = Permutation(count, seed)
    numbers = {order(place) for place in places}
    assert len(numbers) == len(places)
    assert all(0 <= number < count for number in numbers)


def test_the_order_is_the_same_on_every_machine() -> None:
    assert list(map(Permutation(10, 42, 3), range(10))) == [3, 1, 6, 4, 2, 0, 5, 7, 8, 9]


def test_another_seed_or_epoch_is_another_order() -> None:
    orders = {tuple(map(Permutation(50, seed, epoch), range(50))) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_all_orders_are_about_equally_frequent() -> None:
    found = Counter(tuple(map(Permutation(4, seed), range(4))) for seed in range(4800))
    assert set(found) == set(itertools.permutations(range(4)))
    assert all(140 < times < 260 for times in found.values())


def test_a_number_stands_anywhere() -> None:
    tenths = Counter(Permutation(1000, seed)(7) // 100 for seed in range(5000))
    assert all(400 < tenths[tenth] < 600 for tenth in range(10))


def test_neighbours_are_torn_apart() -> None:
    count = 10_000_000
    order = Permutation(count, 5)
    distances = [abs(order(place) - order(place + 1)) for place in range(5000)]
    assert 0.31 < sum(distances) / 5000 / count < 0.36  # a third, if nothing is left of the old order
