from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torch.utils.data.datapipes.iter import IterableWrapper
from torch.utils.data.datapipes.iter.sharding import SHARDING_PRIORITIES
from torch.utils.data.graph_settings import apply_sharding

from osstorchconnector.datapipes.lister import OssObjectNames
from osstorchconnector.datapipes.numbered_objects import OssObjectSharder
from osstorchconnector.errors import OssUsageError
from osstorchconnector.index.info import ObjectInfo
from osstorchconnector.index.orders import Share, nested
from osstorchconnector.uri import OssUri


def infos(count: int) -> list[ObjectInfo]:
    return [ObjectInfo(OssUri("bucket", str(number))) for number in range(count)]


def numbered(count: int) -> OssObjectNames:
    return OssObjectNames(f"oss://bucket/{number}" for number in range(count))


def keys(pipe: OssObjectSharder) -> list[int]:
    return [int(info.uri.key) for info in pipe]


def test_unsharded_it_yields_everything() -> None:
    assert keys(numbered(5).shard_oss_objects()) == keys(OssObjectSharder(IterableWrapper(infos(5)))) == list(range(5))


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 30), st.booleans())
def test_ranks_and_workers_together_get_each_object_once(ranks: int, workers: int, count: int, by_index: bool) -> None:
    found = []
    for rank, worker in itertools.product(range(ranks), range(workers)):
        pipe = OssObjectSharder(numbered(count) if by_index else IterableWrapper(infos(count)))
        apply_sharding(pipe, ranks, rank, SHARDING_PRIORITIES.DISTRIBUTED)
        apply_sharding(pipe, workers, worker, SHARDING_PRIORITIES.MULTIPROCESSING)
        share = keys(pipe)
        assert share == sorted(share)
        assert all(number % ranks == rank for number in share)
        found += share
    assert sorted(found) == list(range(count))


@given(st.lists(st.integers(1, 5), max_size=4))
def test_nested_shares_are_as_many_as_their_product(steps: list[int]) -> None:
    shares = {
        nested(Share(first, step) for first, step in zip(firsts, steps, strict=True))
        for firsts in itertools.product(*map(range, steps))
    }
    (step,) = {share.step for share in shares}
    assert sorted(share.first for share in shares) == list(range(step))


def test_the_latest_share_of_a_group_counts() -> None:
    pipe = OssObjectSharder(numbered(6))
    apply_sharding(pipe, 3, 0, SHARDING_PRIORITIES.MULTIPROCESSING)
    apply_sharding(pipe, 2, 1, SHARDING_PRIORITIES.MULTIPROCESSING)
    assert keys(pipe) == [1, 3, 5]


def test_the_default_group_stands_alone() -> None:
    pipe = OssObjectSharder(numbered(6))
    apply_sharding(pipe, 3, 1)
    assert keys(pipe) == [1, 4]
    with pytest.raises(Exception, match="DEFAULT"):  # RuntimeError, but Exception in torch 2.1
        apply_sharding(pipe, 2, 0, SHARDING_PRIORITIES.DISTRIBUTED)
    assert keys(pipe) == [1, 4]


def test_a_share_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="smaller"):
        apply_sharding(numbered(3).shard_oss_objects(), 2, 2)


def test_where_the_ranks_share_is_taken_already_only_workers_may_share_out() -> None:
    pipe = OssObjectSharder(numbered(12))
    pipe.shard_ranks(Share(1, 2))
    apply_sharding(pipe, 3, 2, SHARDING_PRIORITIES.MULTIPROCESSING)
    assert keys(pipe) == [5, 11]
    apply_sharding(pipe, 2, 0, SHARDING_PRIORITIES.DISTRIBUTED)
    with pytest.raises(OssUsageError, match="shares out among ranks already"):
        keys(pipe)


def test_sharding_one_pipeline_twice_is_refused_by_torch() -> None:
    with pytest.raises(RuntimeError, match="Sharding twice"):
        apply_sharding(numbered(3).shard_oss_objects().shard_oss_objects(), 2, 0)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_dataloader_shards_the_raw_pipe(workers: int) -> None:
    loader = DataLoader(numbered(10).shard_oss_objects(), batch_size=None, num_workers=workers)
    assert [int(info.uri.key) for info in loader] == list(range(10))
