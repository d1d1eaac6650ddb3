"""A limit of time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pytest

from benchmarks.budget import Budget


def clock_of(times: Sequence[float]) -> Iterator[float]:
    return iter(times)


def test_without_a_limit_there_is_always_room() -> None:
    budget = Budget(0)
    budget.note()
    assert budget.has_room()
    assert budget.left() == math.inf


@pytest.mark.parametrize(("now", "has_room"), [(50, True), (71, False), (101, False)])
def test_there_is_room_while_half_as_much_again_as_the_longest_work_fits(now: float, has_room: bool) -> None:
    times = clock_of([0, 20, 25, now, now])
    budget = Budget(100, lambda: next(times))
    budget.note()  # 20 s
    budget.note()  # 5 s
    assert budget.has_room() is has_room
    assert budget.left() == max(100 - now, 0)
