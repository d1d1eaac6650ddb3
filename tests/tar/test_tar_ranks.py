"""Ranks of torch.distributed share the members of tars, each by groups of neighbours, and states move between jobs."""

from __future__ import annotations

import itertools
import pickle
from operator import attrgetter
from typing import Any

import pytest
from datasets.ranks import run_ranks
from loaders import StatefulDataLoader, needs_stateful_loader
from tar.conftest import PutTar, tar_of
from torch.utils.data import DataLoader

from osstorchconnector import OssIterableDataset, merge_states
from osstorchconnector.testing import OssBucket

KEY = attrgetter("key")
FILES = {f"{number:03}": b"%d" % number for number in range(600)}
ORDERS: list[dict[str, Any]] = [{}, {"shuffle": True}, {"shuffle": "chunks", "shuffle_chunk_size": 50}]


def dataset_of(uri: str, access: dict[str, Any], **options: Any) -> OssIterableDataset:
    return OssIterableDataset.from_tar(uri, None, **access, transform=KEY, shard_ranks=True, **options)


def shares(rank: int, uri: str, access: dict[str, Any]) -> list[list[str]]:
    found = [list(dataset_of(uri, access, **order)) for order in ORDERS]
    loader = DataLoader(dataset_of(uri, access, even="repeat"), batch_size=None, num_workers=2)
    return [*found, list(loader)]


def begun(rank: int, uri: str, access: dict[str, Any]) -> list[tuple[list[str], bytes]]:
    found = []
    for order in ORDERS:
        loader = StatefulDataLoader(
            dataset_of(uri, access, **order), batch_size=None, num_workers=rank, snapshot_every_n_steps=1
        )
        found.append((list(itertools.islice(loader, 90 + 20 * rank)), pickle.dumps(loader.state_dict())))
    return found


def the_rest(rank: int, uri: str, access: dict[str, Any], states: list[dict[str, Any]]) -> list[list[str]]:
    found = []
    for order, state in zip(ORDERS, states, strict=True):
        dataset = dataset_of(uri, access, **order)
        dataset.load_state_dict(state)
        found.append(list(dataset))
    return found


@pytest.mark.timeout(300)
def test_ranks_together_yield_each_member_once_and_read_neighbours(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    uri = put_tar("a.tar", tar_of(FILES), "plain")
    names = list(FILES)
    first, second = run_ranks(2, shares, uri, oss_bucket.options)
    for share, other in list(zip(first, second, strict=True))[:-1]:
        assert sorted(share + other) == names
    assert [share[0][:128] for share in (first, second)] == [names[:128], names[128:256]]
    assert sorted({*first[-1], *second[-1]}) == names
    assert len(first[-1]) == len(second[-1])
    # One rank reads the index of each dataset.
    heads = oss_bucket.server.counters().requests["HeadObject"]
    assert heads == len(ORDERS) + 1


@needs_stateful_loader
@pytest.mark.timeout(300)
def test_what_two_ranks_left_is_shared_out_among_three(oss_bucket: OssBucket, put_tar: PutTar) -> None:
    uri = put_tar("a.tar", tar_of(FILES), "full")
    found = run_ranks(2, begun, uri, oss_bucket.options)
    merged = [merge_states([pickle.loads(rank[number][1]) for rank in found]) for number in range(len(ORDERS))]
    rest = run_ranks(3, the_rest, uri, oss_bucket.options, merged)
    for number in range(len(ORDERS)):
        seen = [name for rank in found for name in rank[number][0]]
        assert sorted(itertools.chain(seen, *(rank[number] for rank in rest))) == list(FILES)
