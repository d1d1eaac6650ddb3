"""States that are none, are damaged, or that somebody else has written: `OssUsageError`, and nothing else."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from loaders import NEED_DATALOADER2
from torch.utils.data import IterDataPipe

from osstorchconnector.client.client import OssClient
from osstorchconnector.dataloader2 import OssReadingService
from osstorchconnector.datapipes import OssObjectNames
from osstorchconnector.datapipes.resumable import ResumableDataset
from osstorchconnector.datapipes.state import EpochState, merge_states
from osstorchconnector.datasets import OssIterableDataset, ResumableSampler
from osstorchconnector.errors import OssUsageError
from osstorchconnector.index.info import ObjectInfo
from osstorchconnector.index.orders import Share

COUNT = 12
URIS = [f"oss://bucket/{number:02}" for number in range(COUNT)]
CLIENT = OssClient("http://127.0.0.1:9")
NUMBERS = st.integers() | st.sampled_from([-1, 0, 1, 2, COUNT, 10**6, 1 << 62, (1 << 63) - 1, 1 << 63, 1 << 200])
JSON_LIKE = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
HOSTILE = JSON_LIKE | st.binary() | st.just(object) | st.builds(object) | st.tuples(NUMBERS, NUMBERS, NUMBERS)


class Infos(ResumableDataset):
    """What is known of the objects: nothing is fetched."""

    def __init__(self, *, seed: int | None = None, balance: Any = "none", rank: Share = Share()) -> None:  # noqa: B008
        names = OssObjectNames(URIS)
        assert names.index is not None
        super().__init__(names.index, names.identity, folder="", seed=seed, balance=balance, rank=rank)

    def _items(self, run: Any) -> Any:
        return run.remaining()


def iterable_dataset(seed: int | None = None) -> OssIterableDataset:
    return OssIterableDataset.from_objects(URIS, CLIENT, shuffle=seed is not None, seed=seed or 0)


def graph() -> IterDataPipe[Any]:
    names: Any = OssObjectNames(URIS)
    found: IterDataPipe[Any] = names.shuffle_oss_objects().shard_oss_objects()
    return found


def service() -> tuple[OssReadingService, IterDataPipe[Any]]:
    if NEED_DATALOADER2:
        pytest.skip("needs a torchdata with DataLoader2, from 0.8 on")
    return OssReadingService(), graph()


def sampler_of(shuffle: bool = True) -> ResumableSampler:
    return ResumableSampler(COUNT, shuffle=shuffle)


def restore(state: Any) -> None:
    made, pipes = service()
    if isinstance(state, dict | list):
        state = json.dumps(state, default=repr, skipkeys=True).encode()
    made.restore(pipes, state or b"{}")  # without bytes it is that between epochs


LOADERS: dict[str, Callable[[Any], Any]] = {
    "dataset": lambda state: iterable_dataset().load_state_dict(state),
    "graph": lambda state: graph().to_dataset().load_state_dict(state),
    "sampler": lambda state: sampler_of().load_state_dict(state),
    "merge_states": merge_states,
    "merge_states of one": lambda state: merge_states([state]),
    "reading service": restore,
}


def broken_off(dataset: Any, count: int) -> dict[str, Any]:
    items = iter(dataset)
    for _ in range(count):
        next(items)
    found: dict[str, Any] = dataset.state_dict()
    return found


def merged(seed: int | None, counts: list[int]) -> dict[str, Any]:
    states = [broken_off(Infos(seed=seed, rank=Share(first, len(counts))), count) for first, count in enumerate(counts)]
    return merge_states(states)


REAL = [
    broken_off(Infos(), 5),
    broken_off(Infos(seed=3), 5),
    Infos().state_dict(),
    merged(None, [3, 0, 1]),
    merged(3, [2, 4]),
    broken_off(sampler_of(), 5),
    sampler_of().state_dict(),
]


def without_check(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state as the first version wrote it."""
    return {name: value for name, value in state.items() if name != "check"} | {"osstorchconnector_epoch": 1}


@st.composite
def mutated(draw: Any, *states: dict[str, Any]) -> dict[str, Any]:
    """A real state in which something, anywhere, is another value, is missing or is more."""
    state: Any = copy.deepcopy(draw(st.sampled_from(states)))
    before = copy.deepcopy(state)
    for _ in range(draw(st.integers(1, 3))):
        place, key = state, draw(st.sampled_from(sorted(state) or ["epoch"]))
        while isinstance(place.get(key) if isinstance(place, dict) else place[key], list) and draw(st.booleans()):
            inner = place[key]
            if not inner:
                break
            place, key = inner, draw(st.integers(0, len(inner) - 1))
        if isinstance(place, dict) and draw(st.integers(0, 3)) == 0:
            place.pop(key, None)
        else:
            place[key] = draw(HOSTILE)
    return state if state != before or type(state.get("epoch")) is not int else {}


@pytest.mark.parametrize("name", LOADERS)
@given(HOSTILE)
def test_what_is_no_state_is_refused(name: str, state: Any) -> None:
    with pytest.raises(OssUsageError):
        LOADERS[name](state)


@pytest.mark.parametrize("name", LOADERS)
@given(mutated(*REAL))
def test_a_state_in_which_anything_was_changed_is_refused(name: str, state: dict[str, Any]) -> None:
    with pytest.raises(OssUsageError):
        LOADERS[name](state)


@given(st.sampled_from([None, 3]), mutated(*map(without_check, REAL[:5])))
def test_a_changed_state_of_the_first_version_is_refused_or_has_something_left(
    seed: int | None, state: dict[str, Any]
) -> None:
    dataset = Infos(seed=seed)
    try:
        dataset.load_state_dict(state)
        rest = [info.uri.key for info in dataset]
    except OssUsageError:
        return
    assert len(set(rest)) == len(rest)
    given_out = EpochState.from_dict(state)
    assert rest or given_out.consumed >= COUNT or (given_out.taken and sum(map(sum, given_out.taken)) >= COUNT)


@given(mutated(*map(without_check, REAL[5:])))
def test_a_changed_state_of_a_sampler_of_the_first_version_is_refused_or_has_something_left(
    state: dict[str, Any],
) -> None:
    sampler = sampler_of()
    try:
        sampler.load_state_dict(state)
    except OssUsageError:
        return
    rest = list(sampler)
    assert len(set(rest)) == len(rest)
    given_out = EpochState.from_dict(state)
    assert rest or given_out.consumed >= COUNT or (given_out.taken and sum(map(sum, given_out.taken)) >= COUNT)


@pytest.mark.parametrize("state", REAL[:5])
def test_states_of_both_versions_go_on_where_they_were_taken(state: dict[str, Any]) -> None:
    seed = 3 if state["dataset"] == REAL[1]["dataset"] else None
    whole = list(Infos(seed=seed))
    for kept in (state, without_check(state), json.loads(json.dumps(state)), pickle.loads(pickle.dumps(state))):
        dataset = Infos(seed=seed)
        dataset.load_state_dict(kept)
        rest: list[ObjectInfo] = list(dataset)
        assert len(rest) == COUNT - state["consumed"] - sum(map(sum, state["taken"]))
        assert set(rest) <= set(whole)


@pytest.mark.parametrize("consumed", [COUNT + 2, 10**6, (1 << 63) - 1])
@pytest.mark.parametrize("anchor", [None, "kept"])
def test_more_given_out_than_there_is_is_not_a_silent_end(consumed: int, anchor: str | None) -> None:
    state = {**without_check(REAL[0]), "consumed": consumed}
    dataset, sampler = Infos(), sampler_of()
    dataset.load_state_dict(state if anchor else {**state, "anchor": None})
    with pytest.raises(OssUsageError, match="damaged"):
        list(dataset)
    with pytest.raises(OssUsageError, match="damaged"):
        sampler.load_state_dict({**without_check(REAL[5]), "consumed": consumed})


def test_states_within_themselves_and_of_unthinkably_many_processes_are_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(OssUsageError, match="nested"):
        merge_states(endless)
    many = {**without_check(REAL[0]), "share": [0, 1 << 40]}
    with pytest.raises(OssUsageError, match=r"shares \[1, 2.*\.\.\.\] of|are missing"):
        merge_states([many])


@pytest.mark.parametrize("epoch", ["1", None, 1.5, 1 << 63, -(1 << 64), object()])
def test_an_epoch_that_is_no_number_is_refused(epoch: Any) -> None:
    names: Any = OssObjectNames(URIS)
    for numbered in (Infos(), iterable_dataset(3), sampler_of(), names.shuffle_oss_objects()):
        with pytest.raises(OssUsageError, match="epoch"):
            numbered.set_epoch(epoch)
