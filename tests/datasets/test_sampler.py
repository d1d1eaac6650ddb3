from __future__ import annotations

import itertools
import json
from operator import attrgetter
from typing import Any

import pytest
from datasets.ranks import run_ranks
from hypothesis import given
from hypothesis import strategies as st
from loaders import StatefulDataLoader
from torch.utils.data import DataLoader

from osstorchconnector import OssMapDataset, ResumableSampler, merge_states
from osstorchconnector.errors import OssConfigError, OssUsageError
from osstorchconnector.testing import OssBucket

COUNT = 26


@given(st.integers(0, 50), st.booleans(), st.integers(0, 5), st.integers(0, 60))
def test_it_goes_on_where_it_was(count: int, shuffle: bool, epoch: int, stop: int) -> None:
    def sampler() -> ResumableSampler:
        made = ResumableSampler(count, shuffle=shuffle, seed=2)
        made.set_epoch(epoch)
        return made

    whole = list(sampler())
    assert sorted(whole) == list(range(count)) and len(sampler()) == count
    first = sampler()
    head = list(itertools.islice(iter(first), stop))
    second = ResumableSampler(count, shuffle=shuffle, seed=2)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    second.set_epoch(epoch)
    assert head + list(second) == whole
    assert list(second) == whole


@given(st.integers(0, 40), st.lists(st.integers(0, 9), max_size=4))
def test_a_merged_state_leaves_what_was_not_given_out(count: int, stops: list[int]) -> None:
    found: list[int] = []
    state: dict[str, Any] | None = None
    for stop in stops:
        sampler = ResumableSampler(count)
        if state is not None:
            sampler.load_state_dict(state)
        found += itertools.islice(iter(sampler), stop)
        state = merge_states([sampler.state_dict()])
    last = ResumableSampler(count)
    if state is not None:
        last.load_state_dict(state)
    assert sorted(found + list(last)) == list(range(count))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_map_dataset_goes_on_where_it_was_in_a_stateful_dataloader(oss_bucket: OssBucket, workers: int) -> None:
    for number in range(COUNT):
        oss_bucket.put(f"{number:02}", b"x")

    def loader() -> Any:
        dataset = OssMapDataset.from_prefix(oss_bucket.uri, **oss_bucket.options, transform=attrgetter("name"))
        sampler = ResumableSampler(dataset, seed=4)
        return StatefulDataLoader(dataset, batch_size=4, sampler=sampler, num_workers=workers, snapshot_every_n_steps=1)

    whole = list(loader())
    first = loader()
    items = iter(first)
    head = [next(items) for _ in range(3)]
    state = first.state_dict()
    del items, first
    oss_bucket.server.reset_counters()
    second = loader()
    second.load_state_dict(state)
    assert head + list(second) == whole
    assert oss_bucket.server.counters().requests["GetObject"] == COUNT - 12
    assert sorted(itertools.chain(*second)) == sorted(itertools.chain(*whole))


def test_another_epoch_is_another_order_in_a_plain_dataloader() -> None:
    sampler = ResumableSampler(20)
    loader: Any = DataLoader(range(20), sampler=sampler, batch_size=None)  # type: ignore[arg-type]
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        orders.append(tuple(int(number) for number in loader))
        assert sorted(orders[-1]) == list(range(20))
    assert len(set(orders)) == 3


def numbers(rank: int) -> list[tuple[list[int], int]]:
    found = []
    for even in ("none", "drop", "repeat"):
        sampler = ResumableSampler(9, shuffle=False, shard_ranks=True, even=even)
        found.append((list(sampler), len(sampler)))
    return found


def test_ranks_share_out() -> None:
    first, second = run_ranks(2, numbers)
    assert first == [([0, 2, 4, 6, 8], 5), ([0, 2, 4, 6], 4), ([0, 2, 4, 6, 8], 5)]
    assert second == [([1, 3, 5, 7], 4), ([1, 3, 5, 7], 4), ([1, 3, 5, 7, 0], 5)]


def test_mistakes_are_errors() -> None:
    with pytest.raises(OssConfigError, match="even"):
        ResumableSampler(3, even="fair")  # type: ignore[arg-type]
    with pytest.raises(OssUsageError, match="init_process_group"):
        ResumableSampler(3, shard_ranks=True)
    state = ResumableSampler(3).state_dict()
    with pytest.raises(OssUsageError, match="another sampler"):
        ResumableSampler(4).load_state_dict(state)
    of_two = {**state, "share": [1, 2], "osstorchconnector_epoch": 1}
    with pytest.raises(OssUsageError, match="rank 1 of 2"):
        ResumableSampler(3).load_state_dict(of_two)
