"""Listings that go on for ever, go back, or show a page twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.errors import OssProtocolError
from osstorchconnector.protocol.answers import PageOrder, follow
from osstorchconnector.protocol.values import ListedObject, ListPage

keys = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=6)


def page(*names: str, prefixes: tuple[str, ...] = (), token: str = "") -> ListPage:
    return ListPage([ListedObject(name, 1, "", "") for name in names], list(prefixes), token)


@given(st.lists(keys, unique=True), st.lists(st.integers(0, 3)))
def test_pages_in_utf8_order_are_accepted_however_they_are_cut(names: list[str], sizes: list[int]) -> None:
    ordered = sorted(names, key=str.encode)
    order, start = PageOrder(), 0
    for number, size in enumerate(sizes):
        order.accept(page(*ordered[start : start + size], token=f"token {number}"))
        start += size
    order.accept(page(*ordered[start:]))


@given(st.lists(keys, unique=True, min_size=1), st.data())
def test_a_page_that_shows_a_key_again_is_refused(names: list[str], data: st.DataObject) -> None:
    ordered = sorted(names)
    order = PageOrder()
    order.accept(page(*ordered, token="a"))
    again = data.draw(st.sampled_from(ordered))
    with pytest.raises(OssProtocolError, match="backwards"):
        order.accept(page(again, ordered[-1] + "\0", token="b"))


def test_a_refused_page_leaves_no_trace() -> None:
    order = PageOrder()
    order.accept(page("a", token="1"))
    with pytest.raises(OssProtocolError):
        order.accept(page("b", "b", token="2"))
    assert order.accept(page("b", token="2")).next_token == "2"


def test_what_stands_before_the_start_is_refused() -> None:
    with pytest.raises(OssProtocolError, match="'b' comes after 'b'"):
        PageOrder("b").accept(page("b", "c"))


@pytest.mark.parametrize("names", [(), ("c",)])
def test_a_page_that_names_itself_as_the_next_is_refused(names: tuple[str, ...]) -> None:
    order = PageOrder()
    order.accept(page("a", token="1"))
    with pytest.raises(OssProtocolError, match="circle"):
        order.accept(page(*names, token="1"))


def test_a_circle_of_empty_pages_is_refused() -> None:
    order = PageOrder()
    for token in "123":
        order.accept(page(token=token))
    with pytest.raises(OssProtocolError, match="circle"):
        order.accept(page(token="1"))


def test_common_prefixes_rise_beside_the_keys() -> None:
    order = PageOrder()
    order.accept(page("b", "d", prefixes=("a/", "c/"), token="1"))
    with pytest.raises(OssProtocolError, match="common prefix 'c/'"):
        order.accept(page("e", prefixes=("c/",)))


def test_a_marker_that_was_there_is_refused() -> None:
    seen: set[int] = set()
    assert [follow(marker, seen) for marker in (3, 5)] == [3, 5]
    with pytest.raises(OssProtocolError, match="at 3 again"):
        follow(3, seen)
