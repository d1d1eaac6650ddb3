from __future__ import annotations

import json
import multiprocessing
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from scripts import NO_LOGS
from torch.utils.data import DataLoader

from osstorchconnector.datapipes.manifest import imagenet_manifest_parser
from osstorchconnector.datasets import OssIterableDataset
from osstorchconnector.errors import OssConfigError
from osstorchconnector.testing import OssBucket

COUNT = 30
KEYS = [f"a/{number:02}" for number in range(COUNT)]
NAME = attrgetter("name")


def dataset_of(bucket: OssBucket, **options: Any) -> OssIterableDataset:
    return OssIterableDataset.from_prefix(bucket.uri + "a/", **bucket.options, transform=NAME, **options)


def listings(bucket: OssBucket) -> int:
    return bucket.server.counters().requests.get("ListObjectsV2", 0)


def test_a_shuffled_epoch_has_each_object_once_and_is_the_same_again(bucket: OssBucket) -> None:
    orders = {}
    for epoch in (0, 1, 0, 1):
        dataset = dataset_of(bucket, shuffle=True, seed=3)
        dataset.set_epoch(epoch)
        found = list(dataset)
        assert sorted(found) == KEYS
        assert orders.setdefault(epoch, found) == found
    assert orders[0] != orders[1] != KEYS
    assert list(dataset_of(bucket, shuffle=True, seed=4)) != orders[0]


@pytest.mark.parametrize(
    ("workers", "options"),
    [
        (0, {}),
        (2, {}),
        (3, {"persistent_workers": True}),
        (2, {"persistent_workers": True, "multiprocessing_context": "forkserver"}),
        (1, {"persistent_workers": True, "multiprocessing_context": "spawn"}),
    ],
)
def test_workers_learn_of_the_epoch(bucket: OssBucket, workers: int, options: dict[str, Any]) -> None:
    dataset = dataset_of(bucket, shuffle=True)
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, **options)
    orders = []
    for epoch in range(3):
        dataset.set_epoch(epoch)
        orders.append(tuple(loader))
        assert sorted(orders[-1]) == KEYS
    assert len(set(orders)) == 3
    dataset.set_epoch(0)
    assert tuple(loader) == orders[0]
    assert listings(bucket) == 1


@pytest.mark.parametrize("source", ["names", "manifest"])
def test_names_and_manifests_are_shuffled_as_well(bucket: OssBucket, tmp_path: Path, source: str) -> None:
    if source == "names":
        uris = [bucket.uri + key for key in KEYS]
        dataset = OssIterableDataset.from_objects(uris, **bucket.options, transform=NAME, shuffle=True)
    else:
        path = tmp_path / "manifest"
        path.write_text("".join(f"{key}\tlabel\n" for key in KEYS))
        dataset = OssIterableDataset.from_manifest_file(
            path, imagenet_manifest_parser, bucket.uri, **bucket.options, transform=NAME, shuffle=True
        )
    loader = DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    first = list(loader)
    dataset.set_epoch(1)
    second = list(loader)
    assert first != second
    assert sorted(first) == sorted(second) == KEYS


def test_the_order_of_arrival_has_each_object_once(bucket: OssBucket) -> None:
    bucket.server.fail("GetObject", "stall_head", key=KEYS[0])
    names = iter(DataLoader(dataset_of(bucket, in_order=False), batch_size=None, num_workers=1))
    found = [next(names)]
    assert found[0] != KEYS[0]
    bucket.server.reset()  # hangs up on the request that stalls
    assert sorted([*found, *names]) == KEYS


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_may_begin_with_a_new_listing(bucket: OssBucket, tmp_path: Path, workers: int) -> None:
    config, tables = tmp_path / "config.json", tmp_path / "tables"
    tables.mkdir()
    config.write_text(json.dumps(NO_LOGS | {"indexDir": str(tables)}))
    dataset = dataset_of(bucket, relist="epoch", config_path=str(config))
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, persistent_workers=workers > 0)
    assert sorted(loader) == KEYS
    bucket.put("a/30", b"new")
    assert sorted(loader) == KEYS
    for epoch in (1, 1, 2):
        dataset.set_epoch(epoch)
        assert sorted(loader) == [*KEYS, "a/30"]
    assert listings(bucket) == 3
    assert len(list(tables.iterdir())) == 3  # the first table, the one in use, and the numbers that are shared
    del loader, dataset
    assert list(tables.iterdir()) == []


def names_of(dataset: OssIterableDataset, pipe: Any) -> None:
    pipe.send(list(dataset))


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_process_that_begins_an_epoch_when_another_has_ended_reads_the_same_listing(
    bucket: OssBucket, method: Any
) -> None:
    dataset = dataset_of(bucket, relist="epoch")
    context = multiprocessing.get_context(method)
    for epoch in (0, 1):
        dataset.set_epoch(epoch)
        for _ in range(2):  # one after the other, as workers of which one is late
            here, there = context.Pipe()
            child = context.Process(target=names_of, args=(dataset, there))
            child.start()
            assert here.recv() == KEYS
            child.join()
            bucket.put("a/30", b"between two workers of an epoch")
        bucket.server.delete(bucket.name, "a/30")
    assert listings(bucket) == 2


def test_the_graph_of_pipes_is_of_the_epoch_that_is_set(bucket: OssBucket) -> None:
    dataset = dataset_of(bucket, relist="epoch", shuffle=True)
    assert sorted(dataset) == KEYS
    bucket.put("a/30", b"new")
    assert sorted(dataset.datapipe()) == KEYS
    dataset.set_epoch(1)
    whole = list(dataset)
    assert sorted(whole) == [*KEYS, "a/30"]
    pipe: Any = dataset.datapipe()
    assert list(pipe) == list(pipe.to_dataset()) == whole
    assert pipe.to_dataset().epoch == 1
    assert listings(bucket) == 2


def test_without_that_the_listing_stays(bucket: OssBucket) -> None:
    dataset = dataset_of(bucket)
    assert list(dataset) == KEYS
    bucket.put("a/30", b"new")
    dataset.set_epoch(1)
    assert list(dataset) == KEYS
    with pytest.raises(OssConfigError, match="relist"):
        dataset_of(bucket, relist="always")
