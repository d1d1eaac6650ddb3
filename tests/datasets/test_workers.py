"""What holds in every DataLoader: each object once, in an order that is always the same, from one listing."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Callable
from operator import attrgetter, methodcaller
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts import NO_LOGS
from torch.utils.data import DataLoader

from osstorchconnector.datapipes.manifest import imagenet_manifest_parser
from osstorchconnector.datasets import OssIterableDataset, OssMapDataset
from osstorchconnector.errors import OssNotFoundError, OssTransformError
from osstorchconnector.files.data_object import DataObject
from osstorchconnector.index.orders import Share
from osstorchconnector.testing import OssBucket

COUNT = 23
KEYS = [f"images/{number:02}" for number in range(COUNT)]
NAME = attrgetter("name")

Build = Callable[[type[Any], OssBucket, Path], Any]


def by_prefix(kind: type[Any], bucket: OssBucket, folder: Path) -> Any:
    return kind.from_prefix(bucket.uri + "images/", **bucket.options, transform=NAME)


def by_names(kind: type[Any], bucket: OssBucket, folder: Path) -> Any:
    return kind.from_objects([bucket.uri + key for key in KEYS], **bucket.options, transform=NAME)


def by_manifest(kind: type[Any], bucket: OssBucket, folder: Path) -> Any:
    path = folder / "manifest"
    path.write_text("".join(f"{key}\t{key}\n" for key in KEYS))
    return kind.from_manifest_file(path, imagenet_manifest_parser, bucket.uri, **bucket.options, transform=NAME)


def listings(bucket: OssBucket) -> int:
    return bucket.server.counters().requests.get("ListObjectsV2", 0)


def error_of(loader: DataLoader[Any]) -> Exception:
    """Return what an epoch ends with, free of the frames that would keep the workers waiting."""
    try:
        items = list(loader)
    except Exception as error:
        error.__context__ = error.__cause__ = None
        return error.with_traceback(None)
    raise AssertionError(f"no error, but {items}")


def by_worker(workers: int, batch_size: int = 1) -> list[str]:
    """The order in which a DataLoader gives out strided shares: a batch of each worker in turn."""
    shares = [KEYS[worker :: max(workers, 1)] for worker in range(max(workers, 1))]
    batches = [[share[i : i + batch_size] for i in range(0, len(share), batch_size)] for share in shares]
    rounds = itertools.zip_longest(*batches, fillvalue=[])
    return [key for batch in itertools.chain(*rounds) for key in batch]


@pytest.mark.parametrize("build", [by_prefix, by_names, by_manifest])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_workers_together_yield_each_object_once_in_a_fixed_order(
    bucket: OssBucket, tmp_path: Path, build: Build, workers: int
) -> None:
    loader = DataLoader(build(OssIterableDataset, bucket, tmp_path), batch_size=None, num_workers=workers)
    assert [list(loader) for _ in range(2)] == [by_worker(workers)] * 2
    assert listings(bucket) == (1 if build is by_prefix else 0)


def test_batches_are_made_of_each_workers_share(bucket: OssBucket, tmp_path: Path) -> None:
    loader = DataLoader(by_prefix(OssIterableDataset, bucket, tmp_path), batch_size=4, num_workers=2)
    assert list(itertools.chain(*loader)) == by_worker(2, 4)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset])
def test_datasets_travel_to_workers_that_are_not_forked(
    bucket: OssBucket, tmp_path: Path, method: str, kind: type[Any]
) -> None:
    dataset = by_manifest(kind, bucket, tmp_path) if method == "spawn" else by_prefix(kind, bucket, tmp_path)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=method)
    assert list(loader) == KEYS
    assert listings(bucket) == (0 if method == "spawn" else 1)


def test_persistent_workers_read_the_listing_again(bucket: OssBucket, tmp_path: Path) -> None:
    dataset = by_prefix(OssIterableDataset, bucket, tmp_path)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    assert [list(loader) for _ in range(3)] == [KEYS] * 3
    assert listings(bucket) == 1


def test_more_workers_than_objects_yield_each_object_once(oss_bucket: OssBucket) -> None:
    oss_bucket.put("a/0", b"")
    oss_bucket.put("a/1", b"")
    dataset = OssIterableDataset.from_prefix(oss_bucket.uri, **oss_bucket.options, transform=NAME)
    assert list(DataLoader(dataset, batch_size=None, num_workers=3)) == ["a/0", "a/1"]


def test_no_objects_are_no_batches_in_every_worker(oss_bucket: OssBucket) -> None:
    dataset = OssIterableDataset.from_prefix(oss_bucket.uri, **oss_bucket.options, allow_empty=True)
    assert list(DataLoader(dataset, batch_size=None, num_workers=2)) == []


def test_as_many_listings_as_there_are_pages_for_any_number_of_workers(oss_bucket: OssBucket) -> None:
    oss_bucket.server.fill(oss_bucket.name, "{:05}", 1900, b"x")
    dataset = OssIterableDataset.from_prefix(oss_bucket.uri, **oss_bucket.options, transform=NAME)
    loader = DataLoader(dataset, batch_size=32, num_workers=3)
    for _ in range(2):
        assert sorted(itertools.chain(*loader)) == [f"{number:05}" for number in range(1900)]
    assert listings(oss_bucket) == 2


def test_a_dataset_read_before_the_workers_start_is_not_listed_again(bucket: OssBucket, tmp_path: Path) -> None:
    dataset = by_prefix(OssIterableDataset, bucket, tmp_path)
    assert next(iter(dataset)) == KEYS[0]
    assert list(DataLoader(dataset, batch_size=None, num_workers=2)) == KEYS
    assert listings(bucket) == 1


def test_whole_objects_cross_from_workers(bucket: OssBucket) -> None:
    dataset = OssIterableDataset.from_prefix(bucket.uri, **bucket.options)
    items = list(DataLoader(dataset, batch_size=None, num_workers=2))
    assert [(item.name, item.read()) for item in items] == [(key, key.encode()) for key in KEYS]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shuffled_map_dataset_yields_each_object_once(bucket: OssBucket, tmp_path: Path, workers: int) -> None:
    dataset = by_prefix(OssMapDataset, bucket, tmp_path)
    loader = DataLoader(dataset, batch_size=5, num_workers=workers, shuffle=True)
    for _ in range(2):
        found = list(itertools.chain(*loader))
        assert sorted(found) == KEYS
        assert found != KEYS
    assert listings(bucket) == 1


def test_workers_that_are_the_first_to_need_a_map_datasets_listing_share_it(bucket: OssBucket) -> None:
    dataset = OssMapDataset.from_prefix(bucket.uri, **bucket.options, transform=NAME)
    loader = DataLoader(dataset, sampler=range(COUNT), batch_size=None, num_workers=3)
    assert list(loader) == KEYS
    assert listings(bucket) == 1


def test_a_missing_object_is_an_error_of_its_type_from_a_worker(bucket: OssBucket) -> None:
    uris = [bucket.uri + KEYS[0], bucket.uri + "absent"]
    dataset = OssIterableDataset.from_objects(uris, **bucket.options, transform=NAME)
    error = error_of(DataLoader(dataset, batch_size=None, num_workers=2))
    assert isinstance(error, OssNotFoundError)
    assert f"{bucket.uri}absent" in str(error)


def test_an_error_of_the_transform_names_object_and_cause_from_a_worker(bucket: OssBucket) -> None:
    dataset = OssIterableDataset.from_prefix(bucket.uri, **bucket.options, transform=attrgetter("colour"))
    error = error_of(DataLoader(dataset, batch_size=None, num_workers=1))
    assert isinstance(error, OssTransformError)
    assert f"the transform failed on {bucket.uri}{KEYS[0]}: AttributeError: 'DataObject' object has no" in str(error)


def test_a_listing_that_fails_is_an_error_whichever_worker_listed(oss_bucket: OssBucket) -> None:
    dataset = OssIterableDataset.from_prefix("oss://no-such-bucket/", **oss_bucket.options)
    error = error_of(DataLoader(dataset, batch_size=None, num_workers=2))
    assert isinstance(error, OssNotFoundError)
    assert "NoSuchBucket" in str(error)


def test_breaking_off_an_epoch_leaves_the_next_one_whole(bucket: OssBucket, tmp_path: Path) -> None:
    loader = DataLoader(by_prefix(OssIterableDataset, bucket, tmp_path), batch_size=None, num_workers=2)
    assert next(iter(loader)) == KEYS[0]
    assert list(loader) == KEYS


def kill_a_worker(data: DataObject) -> str:
    if data.name == KEYS[5]:
        os.kill(os.getpid(), signal.SIGKILL)
    return data.name


def test_a_killed_worker_is_an_error_and_not_a_shorter_epoch(bucket: OssBucket) -> None:
    dataset = OssIterableDataset.from_prefix(bucket.uri, **bucket.options, transform=kill_a_worker)
    error = error_of(DataLoader(dataset, batch_size=None, num_workers=2))
    assert "exited unexpectedly" in str(error) or "is killed by signal" in str(error)


def test_workers_leave_no_file_behind_when_the_dataset_goes(bucket: OssBucket, tmp_path: Path) -> None:
    config, tables = tmp_path / "config.json", tmp_path / "tables"
    tables.mkdir()
    config.write_text(json.dumps(NO_LOGS | {"indexDir": str(tables)}))
    dataset = OssIterableDataset.from_prefix(
        bucket.uri, **bucket.options, config_path=str(config), transform=methodcaller("read")
    )
    assert len(list(DataLoader(dataset, batch_size=None, num_workers=2))) == COUNT
    assert len(list(tables.iterdir())) == 2  # the table, and the numbers that are shared
    del dataset
    assert list(tables.iterdir()) == []


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 40))
def test_shares_within_shares_are_disjoint_and_together_all(ranks: int, workers: int, count: int) -> None:
    shares = [Share(worker, workers).within(Share(rank, ranks)) for rank in range(ranks) for worker in range(workers)]
    found = [number for share in shares for number in range(count)[share.first :: share.step]]
    assert sorted(found) == list(range(count))
