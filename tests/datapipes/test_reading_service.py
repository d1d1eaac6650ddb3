"""Our own reading service for DataLoader2: it goes on in mid-epoch."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
from operator import attrgetter
from typing import Any

import pytest
from torch.utils.data import IterDataPipe
from torchdata.dataloader2 import DataLoader2

from osstorchconnector.client.client import OssClient
from osstorchconnector.dataloader2 import OssReadingService
from osstorchconnector.datapipes import OssObjectLister
from osstorchconnector.errors import OssNotFoundError, OssUsageError
from osstorchconnector.testing import OssBucket

COUNT = 20
KEYS = [f"a/{number:02}" for number in range(COUNT)]
NAME = attrgetter("name")


def graph(bucket: OssBucket) -> IterDataPipe[Any]:
    client = OssClient(**bucket.options)
    pipe = OssObjectLister(bucket.uri, client).shuffle_oss_objects().shard_oss_objects().fetch_oss_objects(client)
    found: IterDataPipe[Any] = pipe.map(NAME)
    return found


def loader_of(bucket: OssBucket, workers: int, **options: Any) -> DataLoader2[str]:
    loader: DataLoader2[str] = DataLoader2(graph(bucket), reading_service=OssReadingService(workers, **options))
    loader.seed(5)
    return loader


def restored(state: dict[str, Any], workers: int) -> DataLoader2[str]:
    loader: DataLoader2[str] = DataLoader2.from_state(pickle.loads(pickle.dumps(state)), OssReadingService(workers))
    return loader


def broken_off(loader: DataLoader2[str], stop: int) -> tuple[list[str], dict[str, Any]]:
    """Run an epoch; return what came up to a step, and the state then. All requests are answered when it returns."""
    head: list[str] = []
    state: dict[str, Any] = {}
    for item in loader:
        if len(head) < stop:
            head.append(item)
            state = loader.state_dict()
    return head, state


def error_of(loader: DataLoader2[str]) -> str:
    """Run an epoch that ends with a missing object; return what the error says, for its frames would hold workers."""
    try:
        list(loader)
    except OssNotFoundError as error:
        error.__context__ = error.__cause__ = None
        return str(error.with_traceback(None))
    return ""


def gets(bucket: OssBucket) -> int:
    return bucket.server.counters().requests.get("GetObject", 0)


@pytest.mark.parametrize("workers", [0, 2])
def test_each_epoch_has_an_order_of_its_own_which_the_seed_decides(bucket: OssBucket, workers: int) -> None:
    runs = []
    for _ in range(2):
        with loader_of(bucket, workers) as loader:
            runs.append([list(loader) for _ in range(2)])
    first, second = runs[0]
    assert sorted(first) == sorted(second) == KEYS
    assert runs[0] == runs[1]
    assert first != second
    assert bucket.server.counters().requests["ListObjectsV2"] == 2


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("stop", [1, 7, COUNT])
def test_an_epoch_that_is_broken_off_goes_on_and_so_do_those_after_it(
    bucket: OssBucket, workers: int, stop: int
) -> None:
    with loader_of(bucket, workers) as loader:
        whole = [list(loader) for _ in range(3)]
    with loader_of(bucket, workers) as loader:
        assert list(loader) == whole[0]
        head, state = broken_off(loader, stop)
    bucket.server.reset_counters()
    with restored(state, workers) as later:
        assert head + list(later) == whole[1]
        assert gets(bucket) == COUNT - stop
        assert list(later) == whole[2]


@pytest.mark.parametrize(("before", "after"), [(2, 1), (0, 2), (3, 0)])
def test_what_is_left_is_shared_out_among_another_number_of_workers(bucket: OssBucket, before: int, after: int) -> None:
    with loader_of(bucket, before) as loader:
        head, state = broken_off(loader, 7)
    bucket.server.reset_counters()
    with restored(state, after) as later:
        rest = list(later)
        assert sorted(head + rest) == KEYS
        assert gets(bucket) == len(rest) == COUNT - 7
        assert sorted(later) == KEYS


@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_between_epochs_begins_the_next_one(bucket: OssBucket, workers: int) -> None:
    with loader_of(bucket, workers) as loader:
        states = [loader.state_dict()]
        first = list(loader)
        states.append(loader.state_dict())
        second = list(loader)
    for state, whole in zip(states, (first, second), strict=True):
        with restored(state, workers) as later:
            assert list(later) == whole


def test_spawned_workers_go_on_as_well(bucket: OssBucket) -> None:
    with loader_of(bucket, 1, multiprocessing_context="spawn") as loader:
        items = iter(loader)
        head = [next(items) for _ in range(5)]
        state = loader.state_dict()
    with restored(state, 1) as later:
        assert sorted(head + list(later)) == KEYS


def test_a_graph_without_a_position_is_refused_when_it_begins(bucket: OssBucket) -> None:
    for pipe, reason in (
        (graph(bucket).batch(2), "no position behind"),
        (OssObjectLister(bucket.uri, OssClient(**bucket.options)), "shard_oss_objects"),
    ):
        with (
            DataLoader2(pipe, reading_service=OssReadingService()) as loader,
            pytest.raises(OssUsageError, match=reason),
        ):
            next(iter(loader))


def no_children_but(others: set[Any]) -> None:
    """Wait for the workers' end, which a busy machine takes a while to get to."""
    for child in set(multiprocessing.active_children()) - others:
        child.join(100)
    assert set(multiprocessing.active_children()) <= others


def test_shutting_down_ends_the_workers_and_errors_arrive(bucket: OssBucket) -> None:
    others = set(multiprocessing.active_children())
    loader = loader_of(bucket, 2)
    next(iter(loader))
    loader.shutdown()
    gc.collect()
    no_children_but(others)
    failing = loader_of(bucket, 1)
    assert len(list(failing)) == COUNT
    bucket.delete(KEYS[3])
    assert KEYS[3] in error_of(failing)
    gc.collect()
    no_children_but(others)
