"""What a filter keeps, held against a comprehension over the same objects."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.errors import OssConfigError
from osstorchconnector.index.filters import Filtered, as_keep, described
from osstorchconnector.index.fixed import FixedIndex
from osstorchconnector.index.info import ObjectInfo
from osstorchconnector.index.layout import UNKNOWN_SIZE, Batch
from osstorchconnector.index.shared_file import Wait

ROWS = st.lists(st.tuples(st.text("ab.", min_size=1, max_size=4), st.integers(0, 9), st.text("xy", max_size=1)))
FILTERS: st.SearchStrategy[tuple[Any, Callable[[ObjectInfo], bool]]] = st.one_of(
    st.text("ab.", min_size=1, max_size=2).map(lambda end: (end, lambda info: info.uri.key.endswith(end))),
    st.lists(st.text("ab.", min_size=1, max_size=2), min_size=1, max_size=3).map(
        lambda ends: (ends, lambda info: info.uri.key.endswith(tuple(ends)))
    ),
    st.tuples(st.integers(0, 9), st.integers(0, 12), st.integers(1, 3)).map(
        lambda sizes: (range(*sizes), lambda info: info.size in range(*sizes))
    ),
    st.sampled_from([(lambda info: info.label == "x", lambda info: info.label == "x")]),
    st.just((None, lambda info: True)),
)


class Pages:
    """A source of batches that were made before."""

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches

    def batches(self, cursor: bytes, wait: Wait) -> Generator[Batch, None, None]:
        yield from self._batches[int(cursor or 0) :]


@given(st.lists(ROWS, max_size=4), FILTERS)
def test_a_filter_keeps_what_it_says_in_order_and_every_cursor(
    pages: list[list[tuple[str, int, str]]], case: tuple[Any, Callable[[ObjectInfo], bool]]
) -> None:
    filter_, is_kept = case
    batches = []
    for number, rows in enumerate(pages):
        keys, sizes, labels = ([row[part] for row in rows] for part in range(3))
        batches.append(Batch("b/", keys, sizes, labels, b"%d" % (number + 1), skipped=number))
    everything = list(FixedIndex(batches).items())
    keep = as_keep(filter_)
    source = Pages(batches) if keep is None else Filtered(Pages(batches), keep)
    kept = list(source.batches(b"", Future.result))
    assert list(FixedIndex(kept).items()) == list(filter(is_kept, everything))
    assert [(batch.cursor, batch.skipped) for batch in kept] == [(batch.cursor, batch.skipped) for batch in batches]
    assert list(source.batches(b"1", Future.result)) == kept[1:]


def test_filters_can_be_told_apart_on_the_next_run() -> None:
    keeps = [as_keep(filter_) for filter_ in (None, ".a", (".a", ".b"), range(3), range(4), len, str)]
    texts = [described(keep) for keep in keeps]
    assert len(set(texts)) == len(texts)
    assert texts == [
        described(as_keep(filter_)) for filter_ in (None, ".a", (".a", ".b"), range(3), range(4), len, str)
    ]


@pytest.mark.parametrize("wrong", [3, "", [], [""], [3], b".png", 1.5])
def test_what_is_no_filter_is_refused(wrong: Any) -> None:
    with pytest.raises(OssConfigError, match="filter"):
        as_keep(wrong)


def test_a_size_that_is_not_known_can_not_be_filtered_by() -> None:
    keep = as_keep(range(3))
    assert keep is not None
    source = Filtered(Pages([Batch("b/", ["a"], [UNKNOWN_SIZE])]), keep)
    with pytest.raises(Exception, match="size of oss://b/a is not known"):
        list(source.batches(b"", Future.result))
