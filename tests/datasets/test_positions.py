"""Sharing out, breaking off, going on: arithmetic, played through in one process for many sizes and topologies."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.datapipes.resumable import ObjectRun
from osstorchconnector.datapipes.state import EpochState, merge_states
from osstorchconnector.errors import OssUsageError
from osstorchconnector.index.fixed import FixedIndex
from osstorchconnector.index.layout import Batch
from osstorchconnector.index.orders import RankBalance, Share

SEEDS = st.none() | st.integers(0, 2)
TOPOLOGY = st.tuples(st.integers(1, 3), st.integers(1, 3))


def index_of(count: int, first: int = 0) -> FixedIndex:
    keys = [f"{number:03}" for number in range(first, first + count)]
    return FixedIndex([Batch("b/", keys, [1] * count)] if count else [])


def begun(
    index: FixedIndex,
    state: EpochState,
    share: Share,
    *,
    seed: int | None,
    ranks: int = 1,
    balance: RankBalance = "none",
) -> ObjectRun:
    return ObjectRun(index, state, share, seed=seed, ranks=ranks, balance=balance)


def shares(topology: tuple[int, int]) -> list[Share]:
    ranks, workers = topology
    return [Share(w, workers).within(Share(r, ranks)) for r in range(ranks) for w in range(workers)]


def run(position: ObjectRun, count: int | None = None) -> list[str]:
    """Have a process give out `count` objects, or all that are left."""
    found = [info.uri.key for info in itertools.islice(position.remaining(), count)]
    position.consumed += len(found)
    return found


def start(epoch: int = 0) -> EpochState:
    return EpochState("d", epoch, None)


def stored(state: EpochState) -> dict[str, Any]:
    """As it comes back from a file."""
    found: dict[str, Any] = json.loads(json.dumps(state.to_dict()))
    return found


@given(st.integers(0, 40), TOPOLOGY, SEEDS, st.data())
def test_an_epoch_that_is_broken_off_anywhere_goes_on_as_if_it_had_not_been(
    count: int, topology: tuple[int, int], seed: int | None, data: st.DataObject
) -> None:
    index = index_of(count)
    everything = []
    for share in shares(topology):
        whole = run(begun(index, start(), share, seed=seed))
        position = begun(index, start(), share, seed=seed)
        found: list[str] = []
        for _ in range(3):
            found += run(position, data.draw(st.integers(0, 8)))
            state = EpochState.from_dict(stored(position.state()))
            position = begun(index, state, share, seed=seed)
            position.check()
        assert found + run(position) == whole
        everything += whole
    assert sorted(everything) == [f"{number:03}" for number in range(count)]


@given(st.integers(0, 60), st.lists(TOPOLOGY, min_size=1, max_size=4), SEEDS, st.data())
def test_what_is_left_is_shared_out_anew_among_any_number_of_processes(
    count: int, topologies: list[tuple[int, int]], seed: int | None, data: st.DataObject
) -> None:
    index, state, found = index_of(count), start(3), []
    for topology in topologies:
        positions = [begun(index, state, share, seed=seed) for share in shares(topology)]
        for position in positions:
            position.check()
            found += run(position, data.draw(st.integers(0, 7)))
        state = EpochState.from_dict(merge_states([stored(position.state()) for position in positions]))
    for share in shares((2, 2)):
        found += run(begun(index, state, share, seed=seed))
    assert sorted(found) == [f"{number:03}" for number in range(count)]


@given(st.integers(0, 30), st.integers(1, 4), st.integers(1, 3), SEEDS, st.sampled_from(["drop", "repeat"]))
def test_evened_out_ranks_have_as_many_whatever_their_workers(
    count: int, ranks: int, workers: int, seed: int | None, balance: RankBalance
) -> None:
    index = index_of(count)
    by_rank = [
        [
            key
            for worker in range(workers)
            for key in run(
                begun(
                    index,
                    start(),
                    Share(worker, workers).within(Share(rank, ranks)),
                    seed=seed,
                    ranks=ranks,
                    balance=balance,
                )
            )
        ]
        for rank in range(ranks)
    ]
    assert len({len(keys) for keys in by_rank}) == 1
    found = list(itertools.chain(*by_rank))
    if balance == "drop":
        assert len(set(found)) == len(found) == count - count % ranks
    else:
        assert set(found) == {f"{number:03}" for number in range(count)}


def two_states(**changes: Any) -> Iterator[dict[str, Any]]:
    index = index_of(9)
    for worker in range(2):
        position = begun(index, start(), Share(worker, 2), seed=None)
        run(position, 2)
        state = stored(position.state())
        if worker and changes:
            del state["check"]  # as the first version has it, which does not tell that it was changed
            state |= {"osstorchconnector_epoch": 1, **changes}
        yield state


def test_states_are_small() -> None:
    index = index_of(1000)
    position = begun(index, start(), Share(1, 3), seed=7)
    run(position, 300)
    assert len(json.dumps(position.state().to_dict())) < 300


def test_merging_finds_states_in_what_loaders_put_around_them() -> None:
    first, second = two_states()
    merged = merge_states([first, second])
    assert merge_states([{"workers": [{"state": first}], "x": 1}, {"_steps_since_snapshot": 0, "y": second}]) == merged
    assert merge_states([merged]) == merged


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dataset": "another"}, "different datasets"),
        ({"epoch": 1}, "different datasets or epochs"),
        ({"share": [1, 3]}, "different numbers of ranks"),
        ({"share": [0, 2]}, "share 0 is there twice"),
        ({"osstorchconnector_epoch": 99}, "another version"),
        ({"osstorchconnector_epoch": "1"}, "not the state of a dataset"),
        ({"share": [1, 2, 3]}, "damaged"),
        ({"anchor": [1]}, "damaged"),
    ],
)
def test_states_that_do_not_belong_together_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(OssUsageError, match=reason):
        merge_states(two_states(**changes))


def test_a_missing_state_is_named() -> None:
    with pytest.raises(OssUsageError, match=r"shares \[1\] of 2 are missing"):
        merge_states(itertools.islice(two_states(), 1))
    with pytest.raises(OssUsageError, match="no state"):
        merge_states([{}])


def test_a_loaders_state_of_an_earlier_step_is_refused() -> None:
    with pytest.raises(OssUsageError, match="snapshot_every_n_steps=1"):
        merge_states([{"_steps_since_snapshot": 2, "states": list(two_states())}])


def test_a_listing_that_changed_before_the_position_is_noticed() -> None:
    position = begun(index_of(9), start(), Share(), seed=None)
    run(position, 4)
    state = position.state()
    begun(index_of(12), state, Share(), seed=None).check()  # what came behind the position is just more
    with pytest.raises(OssUsageError, match="another listing"):
        begun(index_of(9, first=1), state, Share(), seed=None).check()


def test_a_shuffled_epoch_can_not_go_on_with_more_objects() -> None:
    position = begun(index_of(9), start(), Share(), seed=1)
    run(position, 4)
    with pytest.raises(OssUsageError, match="9 objects and now there are 10"):
        begun(index_of(10), position.state(), Share(), seed=1).check()
