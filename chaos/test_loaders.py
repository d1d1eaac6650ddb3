"""All numbers of workers, start methods and sources: each object once, in a fixed order, listed once, resumable.

Seven spawned workers take twenty seconds to start on two cores, so `make test` has only a few of these combinations.
"""

from __future__ import annotations

import itertools
from operator import attrgetter
from typing import Any

import pytest
from torchdata.stateful_dataloader import StatefulDataLoader

from osstorchconnector.datapipes import imagenet_manifest_parser, merge_states
from osstorchconnector.datasets import OssIterableDataset
from osstorchconnector.testing import OssBucket

COUNT, STEPS = 53, 9
KEYS = [f"a/{number:02}" for number in range(COUNT)]


def dataset_of(bucket: OssBucket, source: str) -> OssIterableDataset:
    options: dict[str, Any] = {**bucket.options, "transform": attrgetter("name"), "shuffle": True}
    if source == "prefix":
        return OssIterableDataset.from_prefix(bucket.uri + "a/", **options)
    if source == "names":
        return OssIterableDataset.from_objects([bucket.uri + key for key in KEYS], **options)
    manifest = bucket.uri + "manifest"
    return OssIterableDataset.from_manifest_file(manifest, imagenet_manifest_parser, bucket.uri, **options)


def loader_of(dataset: OssIterableDataset, workers: int, method: str, persistent: bool) -> StatefulDataLoader[str]:
    return StatefulDataLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=method if workers else None,
        persistent_workers=persistent and workers > 0,
        snapshot_every_n_steps=1,
    )


@pytest.mark.parametrize("source", ["prefix", "names", "manifest"])
@pytest.mark.parametrize("persistent", [False, True])
@pytest.mark.parametrize(
    ("workers", "method"),
    [(0, "fork"), *itertools.product((1, 2, 3, 7), ("fork", "forkserver", "spawn"))],
)
@pytest.mark.timeout(300)
def test_every_loader_keeps_every_promise(
    oss_bucket: OssBucket, workers: int, method: str, persistent: bool, source: str
) -> None:
    for key in KEYS:
        oss_bucket.put(key, key.encode())
    oss_bucket.put("manifest", "".join(f"{key}\tlabel\n" for key in KEYS).encode())

    dataset = dataset_of(oss_bucket, source)
    loader = loader_of(dataset, workers, method, persistent)
    orders = []
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        orders.append(list(loader))
        assert sorted(orders[-1]) == KEYS
    assert orders[0] == orders[2] != orders[1]
    log = oss_bucket.server.counters().log
    assert sum(entry.operation == "ListObjectsV2" for entry in log) == (source == "prefix")
    assert sum(entry.key == "manifest" for entry in log) == (source == "manifest")

    head: list[str] = []
    state: dict[str, Any] = {}
    dataset.set_epoch(1)
    for name in loader:
        if len(head) < STEPS:
            head.append(name)
            state = loader.state_dict()
    del loader
    oss_bucket.server.reset_counters()
    later = loader_of(dataset_of(oss_bucket, source), workers, method, persistent)
    later.load_state_dict(state)
    assert head + list(later) == orders[1]
    fetched = [entry.key for entry in oss_bucket.server.counters().log if entry.operation == "GetObject"]
    assert sorted(set(fetched) - {"manifest"}) == sorted(orders[1][STEPS:])

    elastic = dataset_of(oss_bucket, source)
    elastic.load_state_dict(merge_states([state]))
    assert sorted(head + list(loader_of(elastic, 2, "fork", False))) == KEYS
