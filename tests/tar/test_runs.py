"""Which ranges bring members of tars: each member once, in the order in which it is wanted."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.index.info import ObjectInfo
from osstorchconnector.tar.ranges import GAP_BYTES, RUN_BYTES, Ranges
from osstorchconnector.tar.runs import FIRST_BYTES, MemberRun, Window, runs_of
from osstorchconnector.uri import MemberUri

BLOCK_BYTES = 512
SIZES = st.sampled_from([BLOCK_BYTES, 100 * BLOCK_BYTES, RUN_BYTES // 2, RUN_BYTES, 3 * RUN_BYTES, FIRST_BYTES])


def members(sizes: Sequence[int], tar: str = "a.tar") -> list[ObjectInfo]:
    """Return members of these sizes, headers included, that lie side by side."""
    infos, start = [], 0
    for number, size in enumerate(sizes):
        uri = MemberUri("bucket", f"{number}", tar, start, start + size)
        infos.append(ObjectInfo(uri, size - BLOCK_BYTES, "", "etag"))
        start += size
    return infos


def given_out(runs: Sequence[MemberRun]) -> list[ObjectInfo]:
    """Return the members in the order in which they leave when the runs arrive in theirs."""
    found: list[ObjectInfo] = []
    window_of: dict[int, Window[ObjectInfo]] = {}
    for run in runs:
        if run.window is None:
            found += run.infos
        else:
            window = window_of.setdefault(id(run.window), Window())
            window.put(run.numbers, run.infos)
            found += window.ready()
    return found


@given(
    st.lists(SIZES, max_size=40),
    st.lists(SIZES, max_size=40),
    st.sampled_from(["listed", "shuffled", "every second"]),
    st.integers(0, 9),
    st.integers(0, 20),
    st.randoms(use_true_random=False),
)
def test_every_member_comes_once_by_a_range_that_holds_it(
    some: list[int], others: list[int], order: str, first_rows: int, chunk_rows: int, chance: random.Random
) -> None:
    infos = members(some) + members(others, "b.tar")
    if order == "shuffled":
        chance.shuffle(infos)
    wanted = infos[:: 2 if order == "every second" else 1]
    runs = list(runs_of(wanted, Ranges(), first_rows=first_rows if chunk_rows else 0, chunk_rows=chunk_rows))
    assert given_out(runs) == wanted
    for run in runs:
        places = [info.uri for info in run.infos if isinstance(info.uri, MemberUri)]
        assert run.size <= FIRST_BYTES
        assert {uri.tar for uri in places} == {run.uri}
        assert run.start == places[0].start
        for before, uri in itertools.pairwise(places):
            assert 0 <= uri.start - before.stop <= GAP_BYTES
            assert uri.stop - run.start <= RUN_BYTES


def test_neighbours_in_order_wait_for_no_window() -> None:
    rows = RUN_BYTES // (100 * BLOCK_BYTES)
    runs = list(runs_of(members([100 * BLOCK_BYTES] * 3 * rows), Ranges()))
    assert [(len(run.infos), run.window) for run in runs] == [(rows, None)] * 3


def test_members_of_a_chunk_are_gathered_and_come_together() -> None:
    infos = members([100 * BLOCK_BYTES] * 60)
    random.Random(3).shuffle(infos)
    runs = list(runs_of(infos, Ranges(), first_rows=20, chunk_rows=40))
    windows = list(dict.fromkeys(id(run.window) for run in runs))
    assert [sum(len(run.infos) for run in runs if id(run.window) == window) for window in windows] == [20, 40]
    assert len(runs) < 30
    assert all(run.is_of_chunk for run in runs)


def test_the_next_run_is_made_when_it_is_asked_for() -> None:
    infos = iter(members([RUN_BYTES] * 5))
    runs = runs_of(infos, Ranges())
    assert [len(next(runs).infos), len(list(infos))] == [1, 3]
