from __future__ import annotations

import itertools
import multiprocessing
import os
import pickle
import signal
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from loaders import StatefulDataLoader, needs_stateful_loader
from torch.utils.data import DataLoader

from osstorchconnector.datasets import OssIterableDataset, merge_states
from osstorchconnector.errors import OssUsageError
from osstorchconnector.testing import OssBucket

COUNT = 40
KEYS = [f"a/{number:02}" for number in range(COUNT)]
NAME = attrgetter("name")


def dataset_of(bucket: OssBucket, **options: Any) -> OssIterableDataset:
    return OssIterableDataset.from_prefix(bucket.uri + "a/", **bucket.options, transform=NAME, **options)


def fetched(bucket: OssBucket) -> set[str]:
    """Return the keys that were asked for since the counters were reset."""
    return {entry.key for entry in bucket.server.counters().log if entry.operation == "GetObject"}


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("stop", [0, 1, 17, COUNT])
def test_an_epoch_goes_on_with_the_next_object_and_fetches_nothing_before(
    bucket: OssBucket, shuffle: bool, stop: int
) -> None:
    dataset = dataset_of(bucket, shuffle=shuffle, seed=5)
    dataset.set_epoch(2)
    whole = list(dataset)
    items = iter(dataset)
    before = list(itertools.islice(items, stop))
    state = pickle.loads(pickle.dumps(dataset.state_dict()))
    del items
    bucket.server.reset_counters()
    later = dataset_of(bucket, shuffle=shuffle, seed=5)
    later.load_state_dict(state)
    assert before + list(later) == whole
    assert fetched(bucket) == set(whole[stop:])
    assert list(later) == whole


def test_the_state_may_be_taken_at_every_step_and_counts_only_what_was_given_out(bucket: OssBucket) -> None:
    dataset = dataset_of(bucket)
    consumed = [dataset.state_dict()["consumed"] for _ in dataset]
    assert consumed == list(range(1, COUNT + 1))


def test_a_state_of_another_dataset_is_refused(bucket: OssBucket) -> None:
    state = dataset_of(bucket).state_dict()
    for other in (
        dataset_of(bucket, shuffle=True),
        dataset_of(bucket, filter="1"),
        OssIterableDataset.from_prefix(bucket.uri, **bucket.options),
        OssIterableDataset.from_objects([bucket.uri + KEYS[0]], **bucket.options),
    ):
        with pytest.raises(OssUsageError, match="another dataset"):
            other.load_state_dict(state)
    with pytest.raises(OssUsageError, match="not the state"):
        dataset_of(bucket).load_state_dict({"position": 3})


def test_a_state_of_one_process_is_not_that_of_a_worker(bucket: OssBucket) -> None:
    dataset = dataset_of(bucket)
    next(iter(dataset))
    state = dataset.state_dict()
    dataset.load_state_dict(state)
    loader = DataLoader(dataset, batch_size=None, num_workers=2)
    with pytest.raises(OssUsageError, match=r"share 0 of 1.*merge_states") as caught:
        list(loader)
    caught.value.__context__ = caught.value.__traceback__ = None


def test_an_order_of_arrival_has_no_position(bucket: OssBucket) -> None:
    dataset = dataset_of(bucket, in_order=False)
    assert sorted(dataset) == KEYS
    with pytest.raises(OssUsageError, match="in_order"):
        dataset.state_dict()


def test_a_listing_that_changed_is_noticed(bucket: OssBucket) -> None:
    dataset = dataset_of(bucket)
    list(itertools.islice(iter(dataset), 5))
    state = dataset.state_dict()
    bucket.put("a/000", b"new")
    later = dataset_of(bucket)
    later.load_state_dict(state)
    with pytest.raises(OssUsageError, match="another listing"):
        next(iter(later))


def stateful(dataset: OssIterableDataset, workers: int, **options: Any) -> StatefulDataLoader:
    return StatefulDataLoader(dataset, num_workers=workers, snapshot_every_n_steps=1, **options)


@pytest.mark.parametrize(
    ("workers", "options"),
    [
        (0, {}),
        (1, {}),
        (2, {}),
        (3, {"persistent_workers": True}),
        (2, {"multiprocessing_context": "forkserver", "persistent_workers": True}),
        (1, {"multiprocessing_context": "forkserver"}),
    ],
)
def test_a_stateful_dataloader_goes_on_where_it_was(bucket: OssBucket, workers: int, options: dict[str, Any]) -> None:
    def loader() -> StatefulDataLoader:
        return stateful(dataset_of(bucket, shuffle=True), workers, batch_size=3, **options)

    whole = list(loader())
    first = loader()
    items = iter(first)
    before = [next(items) for _ in range(5)]
    state = pickle.loads(pickle.dumps(first.state_dict()))
    del items, first
    bucket.server.reset_counters()
    second = loader()
    second.load_state_dict(state)
    after = list(second)
    assert before + after == whole
    assert fetched(bucket) == set(itertools.chain(*after))
    assert list(second) == whole  # the next epoch is a whole one


def test_a_state_at_the_end_of_an_epoch_begins_the_next(bucket: OssBucket) -> None:
    first = stateful(dataset_of(bucket), 2, batch_size=None)
    assert len(list(first)) == COUNT
    second = stateful(dataset_of(bucket), 2, batch_size=None)
    second.load_state_dict(first.state_dict())
    assert len(list(second)) == COUNT


@pytest.mark.parametrize(("before", "after"), [(3, 2), (2, 0), (0, 3)])
@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_what_is_left_is_shared_out_among_another_number_of_workers(
    bucket: OssBucket, before: int, after: int, method: str
) -> None:
    if method == "forkserver" and after != 2:
        method = "fork"
    first = stateful(dataset_of(bucket, shuffle=True), before, batch_size=2)
    items = iter(first)
    seen = list(itertools.chain(*(next(items) for _ in range(7))))
    merged = merge_states([first.state_dict()])
    del items, first
    dataset = dataset_of(bucket, shuffle=True)
    dataset.load_state_dict(merged)
    bucket.server.reset_counters()
    context = method if after else None
    loader = StatefulDataLoader(dataset, batch_size=None, num_workers=after, multiprocessing_context=context)
    rest = list(loader)
    assert sorted(seen + rest) == KEYS
    assert fetched(bucket) == set(rest)
    assert sorted(loader) == KEYS  # the next epoch is a whole one


def test_a_merged_epoch_that_is_broken_off_again_goes_on_again(bucket: OssBucket) -> None:
    seen: list[str] = []
    state: dict[str, Any] | None = None
    for workers in (3, 2, 1, 3):
        dataset = dataset_of(bucket)
        if state is not None:
            dataset.load_state_dict(state)
        loader = stateful(dataset, workers, batch_size=None)
        items = iter(loader)
        seen += [next(items) for _ in range(7)]
        state = merge_states([loader.state_dict()])
        del items, loader
    assert state is not None
    last = dataset_of(bucket)
    last.load_state_dict(state)
    assert sorted(seen + list(last)) == KEYS


def train_until_killed(bucket: OssBucket, path: Path) -> None:
    loader = stateful(dataset_of(bucket, shuffle=True), 2, batch_size=None)
    for number, _ in enumerate(loader):
        beside = path.with_suffix(".new")
        beside.write_bytes(pickle.dumps(loader.state_dict()))
        beside.replace(path)
        if number == 10:
            os.kill(os.getpid(), signal.SIGKILL)


@needs_stateful_loader
def test_an_epoch_goes_on_after_its_process_was_killed(bucket: OssBucket, tmp_path: Path) -> None:
    path = tmp_path / "state"
    child = multiprocessing.get_context("fork").Process(target=train_until_killed, args=(bucket, path))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    whole = list(stateful(dataset_of(bucket, shuffle=True), 2, batch_size=None))
    loader = stateful(dataset_of(bucket, shuffle=True), 2, batch_size=None)
    loader.load_state_dict(pickle.loads(path.read_bytes()))
    bucket.server.reset_counters()
    assert list(loader) == whole[11:]
    assert fetched(bucket) == set(whole[11:])
