"""Our pipes and datasets with a torch that has no DataPipes. `test_own_pipes.py` runs this apart."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import pytest
import torch.utils.data  # noqa: F401 - before its parts are taken away

# torch's own DataLoader imports its DataPipes from elsewhere, and goes on to do so here.
for gone in ("torch.utils.data.datapipes.iter", "torch.utils.data.graph"):
    sys.modules[gone] = None  # type: ignore[assignment]

from torch.utils.data import DataLoader  # noqa: E402

from osstorchconnector import (  # noqa: E402
    OssClient,
    OssIterableDataset,
    OssMapDataset,
    OssUsageError,
    imagenet_manifest_parser,
)
from osstorchconnector.datapipes import OssObjectLister, OssObjectNames, own_pipes  # noqa: E402
from osstorchconnector.datapipes.torch_pipes import (  # noqa: E402
    SHARDING_PRIORITIES,
    IterDataPipe,
    MapDataPipe,
    ShardingFilter,
    functional_datapipe,
)
from osstorchconnector.index.orders import Share  # noqa: E402
from osstorchconnector.testing import OssBucket  # noqa: E402

COUNT = 12
KEYS = [f"a/{number:02}" for number in range(COUNT)]
NAME = attrgetter("name")


@pytest.fixture
def client(oss_bucket: OssBucket) -> OssClient:
    for key in KEYS:
        oss_bucket.put(key, key.encode())
    return OssClient(**oss_bucket.options)


def loaded(dataset: Any, workers: int = 0) -> list[Any]:
    return list(DataLoader(dataset, batch_size=None, num_workers=workers))


def test_these_are_our_own() -> None:
    assert IterDataPipe is own_pipes.IterDataPipe  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("workers", [0, 2])
def test_datasets_need_no_pipes_of_torch(workers: int, oss_bucket: OssBucket, client: OssClient) -> None:
    uri = oss_bucket.uri + "a/"
    assert sorted(loaded(OssIterableDataset.from_prefix(uri, client, transform=NAME), workers)) == KEYS
    shuffled = OssIterableDataset.from_prefix(uri, client, transform=NAME, shuffle=True)
    assert sorted(loaded(shuffled, workers)) == KEYS != loaded(shuffled, workers)
    mapped = OssMapDataset.from_prefix(uri, client, transform=NAME)
    assert loaded(mapped, workers) == KEYS == list(mapped)
    assert loaded(mapped + mapped, workers) == KEYS * 2


def test_an_epoch_is_resumed(oss_bucket: OssBucket, client: OssClient) -> None:
    dataset = OssIterableDataset.from_prefix(oss_bucket.uri, client, transform=NAME, shuffle=True)
    items = iter(dataset)
    head = [next(items) for _ in range(5)]
    state = dataset.state_dict()
    dataset.load_state_dict(state)
    assert sorted(head + list(dataset)) == KEYS


def test_a_graph_by_hand(oss_bucket: OssBucket, client: OssClient) -> None:
    graph = OssObjectLister(oss_bucket.uri, client).shuffle_oss_objects(seed=3).shard_oss_objects()
    pipe = graph.fetch_oss_objects(client).as_named_streams().map(lambda pair: pair[1].name)
    assert sorted(pipe) == KEYS
    assert len(pipe) == COUNT
    dataset = pipe.to_dataset()
    assert sorted(dataset) == KEYS
    first = next(iter(dataset))
    state = dataset.state_dict()
    dataset.load_state_dict(state)
    assert sorted([first, *dataset]) == KEYS
    numbers = OssObjectNames([oss_bucket.uri + key for key in KEYS]).index_oss_objects().fetch_oss_objects(client)
    assert [NAME(item) for item in numbers[[3, 1]]] == [KEYS[3], KEYS[1]]
    assert NAME(copy.copy(numbers)[2]) == KEYS[2]


def test_a_graph_pickles(oss_bucket: OssBucket, client: OssClient) -> None:
    pipe = OssObjectLister(oss_bucket.uri, client).shard_oss_objects().fetch_oss_objects(client).map(NAME)
    assert list(pickle.loads(pickle.dumps(pipe))) == list(copy.deepcopy(pipe)) == KEYS


def test_workers_share_a_graph_out(oss_bucket: OssBucket, client: OssClient) -> None:
    pipe = OssObjectLister(oss_bucket.uri, client).shard_oss_objects().fetch_oss_objects(client).map(NAME)
    assert sorted(loaded(pipe, workers=2)) == KEYS
    filtered = OssObjectLister(oss_bucket.uri, client).sharding_filter().fetch_oss_objects(client).map(NAME)
    assert sorted(loaded(filtered, workers=2)) == KEYS


def test_ranks_are_shared_out_by_hand(oss_bucket: OssBucket, client: OssClient) -> None:
    pipe = OssObjectLister(oss_bucket.uri, client).shard_oss_objects()
    pipe.shard_ranks(Share(1, 3))
    assert [info.uri.key for info in pipe] == KEYS[1::3]
    assert sorted(loaded(pipe.fetch_oss_objects(client).map(NAME), workers=2)) == KEYS[1::3]


def test_shares_are_taken_one_within_the_other() -> None:
    pipe = ShardingFilter(range(COUNT))  # type: ignore[arg-type]
    pipe.apply_sharding(2, 1, SHARDING_PRIORITIES.DISTRIBUTED)
    pipe.apply_sharding(3, 2, SHARDING_PRIORITIES.MULTIPROCESSING)
    of_rank = list(range(COUNT))[1::2]
    assert list(pipe) == of_rank[2::3]


def test_a_manifest_and_saved_objects(oss_bucket: OssBucket, client: OssClient) -> None:
    oss_bucket.put("manifest", b"a/03\tcat\na/01\tdog\n")
    uri = oss_bucket.uri
    dataset = OssMapDataset.from_manifest_file(uri + "manifest", imagenet_manifest_parser, uri, client)
    assert [(item.name, item.label) for item in dataset] == [("a/03", "cat"), ("a/01", "dog")]
    saved = IterDataPipe.functions["save_oss_objects"]([("b/1", b"one")], client, oss_base_uri=uri)
    assert [info.uri.key for info in saved] == ["b/1"]
    assert oss_bucket.get("b/1") == b"one"


def test_a_branch_is_refused(oss_bucket: OssBucket, client: OssClient) -> None:
    class Both(IterDataPipe[Any]):
        def __init__(self, *sources: IterDataPipe[Any]) -> None:
            self.sources = sources

        def __iter__(self) -> Iterator[Any]:
            for source in self.sources:
                yield from source

    pipes = [OssObjectLister(oss_bucket.uri, client).shard_oss_objects() for _ in range(2)]
    with pytest.raises(OssUsageError, match="branches"):
        IterDataPipe.functions["to_dataset"](Both(*pipes))


def test_names_that_nobody_registered_and_names_that_are_taken(oss_bucket: OssBucket, client: OssClient) -> None:
    lister: Any = OssObjectLister(oss_bucket.uri, client)
    with pytest.raises(AttributeError, match=r"'OssObjectLister' object has no attribute 'nothing'"):
        lister.nothing()
    with pytest.raises(AttributeError, match="'OssObjectTable' object has no attribute"):
        lister.index_oss_objects().nothing()

    class Another(MapDataPipe[Any]):
        pass

    with pytest.raises(ValueError, match="fetch_oss_objects is taken"):
        functional_datapipe("fetch_oss_objects")(Another)
