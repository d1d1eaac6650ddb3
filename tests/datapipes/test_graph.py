from __future__ import annotations

import itertools
import pickle
from operator import attrgetter, methodcaller
from typing import Any

import pytest
import torch
from loaders import StatefulDataLoader
from torch.utils.data import DataLoader, IterDataPipe
from torch.utils.data.datapipes.iter import IterableWrapper
from torch.utils.data.graph import traverse_dps
from torch.utils.data.graph_settings import apply_random_seed, apply_shuffle_settings

from osstorchconnector.client.client import OssClient
from osstorchconnector.datapipes import OssObjectLister, OssObjectNames, merge_states
from osstorchconnector.errors import OssUsageError
from osstorchconnector.index.info import ObjectInfo
from osstorchconnector.testing import OssBucket

COUNT = 24
KEYS = [f"a/{number:02}" for number in range(COUNT)]
NAME = attrgetter("name")


@pytest.fixture
def client(bucket: OssBucket) -> OssClient:
    return OssClient(**bucket.options)


def listed(bucket: OssBucket, client: OssClient) -> OssObjectLister:
    return OssObjectLister(bucket.uri + "a/", client)


def gets(bucket: OssBucket) -> int:
    return bucket.server.counters().requests.get("GetObject", 0)


def shuffled(bucket: OssBucket, client: OssClient) -> IterDataPipe[Any]:
    pipe = listed(bucket, client).shuffle_oss_objects(seed=3).shard_oss_objects().fetch_oss_objects(client)
    found: IterDataPipe[Any] = pipe.map(NAME)
    return found


def is_late(info: ObjectInfo) -> bool:
    return info.uri.key > "a/10"


def test_stock_stages_chain_behind_ours(bucket: OssBucket, client: OssClient) -> None:
    pipe = listed(bucket, client).filter(is_late).fetch_oss_objects(client).map(NAME)
    assert list(pipe.batch(4)) == [KEYS[11:15], KEYS[15:19], KEYS[19:23], KEYS[23:]]
    assert sorted(listed(bucket, client).fetch_oss_objects(client).map(NAME).shuffle(buffer_size=5)) == KEYS
    first, second = listed(bucket, client).fetch_oss_objects(client).map(NAME).fork(2)
    assert list(first.zip(second)) == [(key, key) for key in KEYS]
    left, right = (listed(bucket, client).fetch_oss_objects(client).map(NAME) for _ in range(2))
    assert list(left.mux(right)) == [key for key in KEYS for _ in range(2)]


def test_the_whole_chain_is_one_graph_and_has_a_length_when_it_is_known(bucket: OssBucket, client: OssClient) -> None:
    pipe: Any = listed(bucket, client).shuffle_oss_objects().shard_oss_objects().fetch_oss_objects(client)
    names, graph = [], traverse_dps(pipe)
    while graph:
        ((stage, graph),) = graph.values()
        names.append(type(stage).__name__)
    ours = [name for name in names if name.startswith("Oss")]
    assert ours == ["OssObjectFetcher", "OssObjectSharder", "OssObjectShuffler", "OssObjectLister"]
    with pytest.raises(TypeError, match="not known before"):
        len(pipe)
    assert len(list(pipe)) == len(pipe) == COUNT
    assert len(OssObjectNames([bucket.uri + key for key in KEYS[:3]]).shard_oss_objects()) == 3


def test_a_new_iterator_begins_anew_and_ends_the_one_before(bucket: OssBucket, client: OssClient) -> None:
    pipe = shuffled(bucket, client)
    first = iter(pipe)
    head = [next(first), next(first)]
    assert list(itertools.islice(iter(pipe), 2)) == head
    with pytest.raises(RuntimeError, match="invalidated"):
        next(first)


def test_a_pickle_at_any_moment_begins_afresh(bucket: OssBucket, client: OssClient) -> None:
    pipe = shuffled(bucket, client)
    items = iter(pipe)
    head = next(items)
    copied = pickle.loads(pickle.dumps(pipe))
    assert list(copied) == [head, *items]


def test_loaders_seed_the_shuffle_and_may_turn_it_off(bucket: OssBucket, client: OssClient) -> None:
    def order(seed: int) -> list[str]:
        return list(apply_random_seed(shuffled(bucket, client), torch.Generator().manual_seed(seed)))

    assert order(1) == order(1) != order(2)
    assert sorted(order(2)) == KEYS
    assert list(apply_shuffle_settings(shuffled(bucket, client), False)) == KEYS


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_dataloader_runs_the_graph(bucket: OssBucket, client: OssClient, workers: int) -> None:
    loader = DataLoader(shuffled(bucket, client), batch_size=None, num_workers=workers, shuffle=True)
    torch.manual_seed(0)
    first, second = list(loader), list(loader)
    assert sorted(first) == sorted(second) == KEYS
    assert first != second


@pytest.mark.parametrize("workers", [0, 2])
def test_a_graph_as_a_dataset_goes_on_where_it_was(bucket: OssBucket, client: OssClient, workers: int) -> None:
    def loader() -> StatefulDataLoader:
        dataset = shuffled(bucket, client).map(methodcaller("upper")).to_dataset()
        return StatefulDataLoader(dataset, batch_size=None, num_workers=workers, snapshot_every_n_steps=1)

    whole = list(loader())
    assert sorted(whole) == [key.upper() for key in KEYS]
    first = loader()
    items = iter(first)
    head = [next(items) for _ in range(7)]
    state = first.state_dict()
    del items, first
    bucket.server.reset_counters()
    second = loader()
    second.load_state_dict(state)
    assert head + list(second) == whole
    assert gets(bucket) == COUNT - 7
    merged = shuffled(bucket, client).map(methodcaller("upper")).to_dataset()
    merged.load_state_dict(merge_states([state]))
    assert sorted(head + list(DataLoader(merged, batch_size=None, num_workers=3 - workers))) == sorted(whole)


def test_a_graph_as_a_dataset_may_be_iterated_several_times_at_once(bucket: OssBucket, client: OssClient) -> None:
    dataset = shuffled(bucket, client).to_dataset()
    assert [left == right for left, right in zip(dataset, dataset, strict=True)] == [True] * COUNT


@pytest.mark.parametrize("stage", ["shuffle", "batch", "filter"])
def test_stages_that_have_no_position_are_named(bucket: OssBucket, client: OssClient, stage: str) -> None:
    argument = {"shuffle": (), "batch": (2,), "filter": (str.islower,)}[stage]
    dataset = getattr(shuffled(bucket, client), stage)(*argument).to_dataset()
    assert len(list(dataset)) == (COUNT // 2 if stage == "batch" else COUNT)
    with pytest.raises(OssUsageError, match="no position behind"):
        dataset.state_dict()


def test_order_of_arrival_and_leaving_out_have_no_position(bucket: OssBucket, client: OssClient) -> None:
    for options in ({"in_order": False}, {"on_error": "skip"}):
        dataset = listed(bucket, client).shard_oss_objects().fetch_oss_objects(client, **options).to_dataset()
        with pytest.raises(OssUsageError, match="in_order=False or on_error"):
            dataset.state_dict()


def test_a_graph_that_is_no_chain_from_our_sharder_is_no_dataset(bucket: OssBucket, client: OssClient) -> None:
    with pytest.raises(OssUsageError, match="shard_oss_objects"):
        listed(bucket, client).fetch_oss_objects(client).to_dataset()
    with pytest.raises(OssUsageError, match="branches"):
        listed(bucket, client).zip(listed(bucket, client)).to_dataset()
    with pytest.raises(OssUsageError, match="numbers"):
        IterableWrapper([bucket.uri]).list_oss_objects(client).shuffle_oss_objects()


def test_what_a_fetcher_left_out_is_counted_over_all_workers(bucket: OssBucket, client: OssClient) -> None:
    uris = [bucket.uri + key for key in ["x", KEYS[0], "y", KEYS[1]]]
    pipe = OssObjectNames(uris).shard_oss_objects().fetch_oss_objects(client, on_error="skip", transform=NAME)
    assert sorted(DataLoader(pipe, batch_size=None, num_workers=2)) == KEYS[:2]
    assert pipe.skipped_objects == 2
