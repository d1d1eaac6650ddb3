"""Named corners of what loaders there are: real processes, each way to start them, few or many, on several ranks."""

from __future__ import annotations

import itertools
from operator import attrgetter
from typing import Any

import pytest
from datasets.ranks import run_ranks
from torch.utils.data import DataLoader

from osstorchconnector.client.client import OssClient
from osstorchconnector.datapipes import OssObjectLister
from osstorchconnector.datapipes.manifest import imagenet_manifest_parser
from osstorchconnector.datasets import OssIterableDataset, OssMapDataset, ResumableSampler
from osstorchconnector.testing import OssBucket

COUNT = 31
KEYS = [f"a/{number:02}" for number in range(COUNT)]
NAME = attrgetter("name")
Place = tuple[str, dict[str, Any]]


@pytest.fixture
def place(oss_bucket: OssBucket) -> Place:
    for key in KEYS:
        oss_bucket.put(key, key.encode())
    oss_bucket.put("manifest", "".join(f"{key}\tlabel\n" for key in KEYS).encode())
    return oss_bucket.uri, oss_bucket.options


def dataset_of(place: Place, source: str, kind: type[Any] = OssIterableDataset, **options: Any) -> Any:
    uri, access = place
    options = {**access, "transform": NAME, **options}
    if source == "prefix":
        return kind.from_prefix(uri + "a/", **options)
    if source == "names":
        return kind.from_objects([uri + key for key in KEYS], **options)
    if source == "manifest":
        return kind.from_manifest_file(uri + "manifest", imagenet_manifest_parser, uri, **options)
    assert source in ("few", "none")
    return kind.from_objects([uri + key for key in KEYS[: 2 if source == "few" else 0]], **options)


def requests(bucket: OssBucket, operation: str, key: str = "") -> int:
    return sum(entry.operation == operation and (not key or entry.key == key) for entry in bucket.server.counters().log)


def epochs(loader: Any, dataset: Any, count: int = 2) -> list[list[str]]:
    found = []
    for epoch in range(count):
        dataset.set_epoch(epoch)
        found.append(list(loader))
    return found


def test_seven_workers_that_live_on_read_one_listing_of_several_pages(oss_bucket: OssBucket) -> None:
    oss_bucket.server.fill(oss_bucket.name, "{:05}", 1900, b"x")
    dataset = OssIterableDataset.from_prefix(oss_bucket.uri, **oss_bucket.options, transform=NAME, shuffle=True)
    loader = DataLoader(dataset, batch_size=32, num_workers=7, persistent_workers=True)
    found = [list(itertools.chain(*batches)) for batches in epochs(loader, dataset)]
    assert [sorted(names) for names in found] == [[f"{number:05}" for number in range(1900)]] * 2
    assert found[0] != found[1]
    assert requests(oss_bucket, "ListObjectsV2") == 2


def test_seven_workers_for_two_objects(place: Place) -> None:
    assert list(DataLoader(dataset_of(place, "few"), batch_size=None, num_workers=7)) == KEYS[:2]


@pytest.mark.parametrize(
    ("source", "workers", "persistent"),
    [("names", 2, True), ("names", 3, False), ("manifest", 2, True), ("manifest", 3, False)],
)
def test_workers_that_are_not_forked_share_out_any_source(
    oss_bucket: OssBucket, place: Place, source: str, workers: int, persistent: bool
) -> None:
    dataset = dataset_of(place, source, shuffle=True)
    loader = DataLoader(
        dataset,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="forkserver",
        persistent_workers=persistent,
    )
    first, second = epochs(loader, dataset)
    assert sorted(first) == sorted(second) == KEYS
    assert first != second
    assert requests(oss_bucket, "ListObjectsV2") == 0
    assert requests(oss_bucket, "GetObject", "manifest") == (1 if source == "manifest" else 0)


def on_rank(rank: int, place: Place, workers: int, method: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for source in ("prefix", "names", "manifest"):
        dataset = dataset_of(place, source, shuffle=True, shard_ranks=True)
        loader = DataLoader(
            dataset,
            batch_size=None,
            num_workers=workers,
            multiprocessing_context=method,
            persistent_workers=workers > 0,
        )
        found[source] = epochs(loader, dataset)
    for source in ("few", "none"):
        found[source] = list(dataset_of(place, source, shard_ranks=True))
        found[f"{source}, evened"] = list(dataset_of(place, source, shard_ranks=True, even="repeat"))
    uri, access = place
    client = OssClient(**access)
    pipe = OssObjectLister(uri + "a/", client).share_listing().shard_oss_objects().fetch_oss_objects(client)
    found["pipe"] = list(DataLoader(pipe.map(NAME), batch_size=None, num_workers=workers))
    objects = dataset_of(place, "prefix", OssMapDataset, share_listing=True)
    found["map"] = list(DataLoader(objects, sampler=ResumableSampler(objects, shard_ranks=True), batch_size=None))
    return found


@pytest.mark.parametrize(("ranks", "workers", "method"), [(1, 2, "fork"), (2, 1, "forkserver"), (3, 0, None)])
@pytest.mark.timeout(600)
def test_ranks_share_out_any_source_and_list_once(
    oss_bucket: OssBucket, place: Place, ranks: int, workers: int, method: str | None
) -> None:
    by_rank = run_ranks(ranks, on_rank, place, workers, method)
    for source, epoch in itertools.product(("prefix", "names", "manifest"), range(2)):
        shares = [found[source][epoch] for found in by_rank]
        assert sorted(itertools.chain(*shares)) == KEYS
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert len({tuple(by_rank[0]["prefix"][epoch]) for epoch in range(2)}) == 2
    assert sorted(itertools.chain(*(found["few"] for found in by_rank))) == KEYS[:2]
    assert {len(found["few, evened"]) for found in by_rank} == {-(-2 // ranks)}
    assert [found["none"] + found["none, evened"] for found in by_rank] == [[]] * ranks
    for kind in ("map", "pipe"):
        assert sorted(itertools.chain(*(found[kind] for found in by_rank))) == KEYS
    # One page for each dataset or graph, whatever the number of processes.
    assert requests(oss_bucket, "ListObjectsV2") == 3
    assert requests(oss_bucket, "GetObject", "manifest") == 1
