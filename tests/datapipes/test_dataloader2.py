"""Graphs of our pipes in torchdata's DataLoader2, with each of its reading services."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

import pytest
from datasets.ranks import run_ranks
from torch.utils.data import IterDataPipe
from torchdata.dataloader2 import (
    DataLoader2,
    DistributedReadingService,
    InProcessReadingService,
    MultiProcessingReadingService,
    SequentialReadingService,
)

from osstorchconnector.client.client import OssClient
from osstorchconnector.datapipes import OssObjectLister
from osstorchconnector.testing import OssBucket

COUNT = 21
KEYS = [f"a/{number:02}" for number in range(COUNT)]
NAME = attrgetter("name")
Place = tuple[str, dict[str, Any]]


@pytest.fixture
def place(oss_bucket: OssBucket) -> Place:
    for key in KEYS:
        oss_bucket.put(key, key.encode())
    return oss_bucket.uri, oss_bucket.options


def graph(place: Place) -> IterDataPipe[Any]:
    uri, options = place
    client = OssClient(**options)
    pipe = OssObjectLister(uri, client).shuffle_oss_objects().shard_oss_objects().fetch_oss_objects(client)
    found: IterDataPipe[Any] = pipe.map(NAME)
    return found


def listings(bucket: OssBucket) -> int:
    return bucket.server.counters().requests.get("ListObjectsV2", 0)


def epochs(loader: Any, count: int = 2, seed: int = 7) -> list[list[str]]:
    """Run epochs, each seeded: with worker processes torchdata would give all the same seed after one call."""
    found = []
    try:
        for epoch in range(count):
            loader.seed(seed + epoch)
            found.append(list(loader))
        return found
    finally:
        loader.shutdown()


def end_children() -> None:
    """End what `shutdown` left: torchdata's dispatching process now and then misses the request to end."""
    for child in multiprocessing.active_children():
        child.kill()
        child.join()


def services() -> Iterator[Any]:
    yield pytest.param(lambda: None, id="none")
    yield pytest.param(InProcessReadingService, id="in-process")
    yield pytest.param(lambda: MultiProcessingReadingService(num_workers=2), id="two-workers")
    yield pytest.param(
        lambda: MultiProcessingReadingService(num_workers=1, multiprocessing_context="spawn"), id="spawned"
    )
    yield pytest.param(lambda: SequentialReadingService(MultiProcessingReadingService(num_workers=1)), id="sequential")


@pytest.mark.parametrize("service", list(services()))
def test_each_reading_service_yields_each_object_once_in_an_order_of_each_epoch(
    oss_bucket: OssBucket, place: Place, service: Any
) -> None:
    orders = []
    for _ in range(2):
        loader = DataLoader2(graph(place), reading_service=service())
        orders.append(epochs(loader))
    assert orders[0] == orders[1]
    first, second = orders[0]
    assert sorted(first) == sorted(second) == KEYS
    assert (first != second) == (service() is not None)  # it is the reading service that sets the seeds
    assert listings(oss_bucket) == 2


def test_a_dispatching_process_lists_and_workers_fetch(oss_bucket: OssBucket, place: Place) -> None:
    from torch.utils.data.datapipes.iter.sharding import SHARDING_PRIORITIES

    uri, options = place
    client = OssClient(**options)
    pipe = OssObjectLister(uri, client).sharding_round_robin_dispatch(SHARDING_PRIORITIES.MULTIPROCESSING)
    service = MultiProcessingReadingService(num_workers=2)
    loader = DataLoader2(pipe.fetch_oss_objects(client).map(NAME), reading_service=service)
    first, second = epochs(loader)
    end_children()
    assert sorted(first) == sorted(second) == KEYS
    assert listings(oss_bucket) == 1


def test_the_state_at_the_start_of_an_epoch_round_trips(place: Place) -> None:
    loader = DataLoader2(graph(place), reading_service=InProcessReadingService())
    state = loader.state_dict()
    (whole,) = epochs(loader, 1)
    restored = DataLoader2.from_state(state, InProcessReadingService())
    assert epochs(restored, 1) == [whole]


def on_rank(rank: int, place: Place, workers: int) -> list[list[str]]:
    service: Any = DistributedReadingService()
    if workers:
        service = SequentialReadingService(service, MultiProcessingReadingService(num_workers=workers))
    loader = DataLoader2(graph(place), reading_service=service)
    return epochs(loader)


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_share_out_by_the_protocol(place: Place, workers: int) -> None:
    by_rank = run_ranks(2, on_rank, place, workers)
    for epoch in range(2):
        shares = [by_rank[rank][epoch] for rank in range(2)]
        # torchdata's service gives each rank as many: the one object that is over is left out of an epoch.
        assert len(set(shares[0] + shares[1])) == len(shares[0] + shares[1]) >= COUNT - 1
        assert set(shares[0] + shares[1]) <= set(KEYS)
