"""What a copy of many does, decided from two listings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.cli import Filter, Item, OverwriteRule, decisions, superfluous

ITEMS = st.builds(Item, st.sampled_from("abc"), st.integers(0, 2), st.sampled_from([0.0, 0.5, 10.0, 20.0]))


def one(source: Item, target: Item | None, rule: OverwriteRule) -> tuple[bool, bool]:
    (decision,) = decisions([source], {source.name: target} if target else {}, rule)
    return decision.transfers, decision.conflict


@pytest.mark.parametrize("rule", OverwriteRule)
def test_what_is_missing_is_always_copied(rule: OverwriteRule) -> None:
    assert one(Item("a", 1, 1.0), None, rule) == (True, False)


@pytest.mark.parametrize(
    ("target", "outdated"),
    [
        (Item("a", 1, 10.0), False),
        (Item("a", 1, 9.5), False),  # OSS cuts times to seconds
        (Item("a", 1, 5.0), True),
        (Item("a", 2, 10.0), True),
        (Item("a", 1, 99.0), False),
    ],
)
def test_what_is_there_is_replaced_as_the_rule_says(target: Item, outdated: bool) -> None:
    source = Item("a", 1, 10.0)
    assert one(source, target, OverwriteRule.REPLACE) == (True, False)
    assert one(source, target, OverwriteRule.UPDATE) == (outdated, False)
    assert one(source, target, OverwriteRule.REFUSE) == (False, True)


@given(st.lists(ITEMS, unique_by=lambda item: item.name), st.lists(ITEMS, unique_by=lambda item: item.name))
def test_after_an_update_the_sizes_agree_and_a_second_one_does_nothing(
    sources: list[Item], targets: list[Item]
) -> None:
    there = {item.name: item for item in targets}
    for decision in decisions(sources, there, OverwriteRule.UPDATE):
        if decision.transfers:
            there[decision.item.name] = decision.item._replace(modified=30.0)
    assert all(there[item.name].size == item.size for item in sources)
    assert not any(decision.transfers for decision in decisions(sources, there, OverwriteRule.UPDATE))


@pytest.mark.parametrize(
    ("include", "exclude", "taken"),
    [
        ([], [], "a.jpg b/c.jpg d.txt"),
        (["*.jpg"], [], "a.jpg b/c.jpg"),
        (["*.jpg"], ["b/*"], "a.jpg"),
        ([], ["*"], ""),
    ],
)
def test_patterns_choose_names(include: list[str], exclude: list[str], taken: str) -> None:
    names = Filter(include, exclude)
    assert [name for name in ("a.jpg", "b/c.jpg", "d.txt") if names.takes(name)] == taken.split()


def test_only_what_the_patterns_take_is_superfluous() -> None:
    assert superfluous(["a.jpg"], ["a.jpg", "b.jpg", "c.txt"], Filter(["*.jpg"])) == ["b.jpg"]
