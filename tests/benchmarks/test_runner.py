"""The order in which contenders are measured."""

from __future__ import annotations

from collections import Counter

from benchmarks.runner import turns


def test_everybody_has_a_turn_in_each_round() -> None:
    taken = list(turns(["a", "b", "c"], 4))
    assert [number for number, _ in taken] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert Counter(taken) == {(number, name): 1 for number in range(4) for name in "abc"}


def test_each_place_of_a_round_falls_to_each_in_turn() -> None:
    taken = list(turns(["a", "b", "c"], 3))
    assert {name for _, name in taken[::3]} == {"a", "b", "c"}


def test_nobody_has_no_turns() -> None:
    assert list(turns([], 3)) == []
