"""Run by test_nodes.py with torchdata 0.11 on the path: nodes, and StatefulDataLoader of that version."""

from __future__ import annotations

import gc
import io
import itertools
import json
import tarfile
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
import torchdata
from torch.testing._internal.distributed.fake_pg import FakeStore
from torchdata.nodes import Batcher, Loader
from torchdata.stateful_dataloader import StatefulDataLoader

from osstorchconnector.client.client import OssClient
from osstorchconnector.dataloader2 import OssReadingService
from osstorchconnector.datapipes.lister import OssObjectNames
from osstorchconnector.datapipes.tar_lister import OssTarLister
from osstorchconnector.datasets import OssIterableDataset
from osstorchconnector.errors import OssConfigError, OssUsageError
from osstorchconnector.nodes import OssFetcher, OssLister
from osstorchconnector.testing import OssBucket

COUNT = 30
KEYS = [f"a/{number:02}" for number in range(COUNT)]
NAME = attrgetter("name")


@pytest.fixture
def bucket(oss_bucket: OssBucket) -> OssBucket:
    for key in KEYS:
        oss_bucket.put(key, key.encode())
    return oss_bucket


def fetcher(bucket: OssBucket, **options: Any) -> OssFetcher:
    client = OssClient(**bucket.options)
    return OssFetcher(OssLister(bucket.uri + "a/", client, **options), client, transform=NAME)


def requests(bucket: OssBucket, operation: str) -> int:
    return bucket.server.counters().requests.get(operation, 0)


def test_this_is_the_version_that_is_meant() -> None:
    assert torchdata.__version__.startswith("0.11")


def test_it_has_no_dataloader2() -> None:
    with pytest.raises(OssConfigError, match=r"torchdata>=0\.8,<0\.10"):
        OssReadingService()


def test_objects_come_in_listing_order_and_are_listed_once(bucket: OssBucket) -> None:
    loader = Loader(fetcher(bucket))
    assert [list(loader), list(loader)] == [KEYS, KEYS]
    assert requests(bucket, "ListObjectsV2") == 1


def test_epochs_are_shuffled_and_ranks_have_their_shares(bucket: OssBucket) -> None:
    client = OssClient(**bucket.options)
    orders = []
    for epoch in range(2):
        shares = []
        for rank in range(2):
            lister = OssLister(bucket.uri + "a/", client, shuffle=True, seed=1, rank=rank, world_size=2)
            lister.set_epoch(epoch)
            shares.append(list(Loader(OssFetcher(lister, client, transform=NAME))))
        assert sorted(shares[0] + shares[1]) == KEYS
        orders.append(shares)
    assert orders[0] != orders[1]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("stop", [0, 3, 9])
def test_a_loader_goes_on_where_it_was_and_fetches_nothing_again(bucket: OssBucket, shuffle: bool, stop: int) -> None:
    whole = list(Loader(Batcher(fetcher(bucket, shuffle=shuffle), 3)))
    first = Loader(Batcher(fetcher(bucket, shuffle=shuffle), 3))
    items = iter(first)
    head = [next(items) for _ in range(stop)]
    state = json.loads(json.dumps(first.state_dict()))
    del items, first
    gc.collect()
    bucket.server.reset_counters()
    second = Loader(Batcher(fetcher(bucket, shuffle=shuffle), 3))
    second.load_state_dict(state)
    assert head + list(second) == whole
    assert requests(bucket, "GetObject") == COUNT - 3 * stop


def test_labels_are_numbers_of_folders(oss_bucket: OssBucket) -> None:
    for key in ("a/dog/1", "a/cat/1", "a/cat/2"):
        oss_bucket.put(key, b"picture")
    node = OssLister(oss_bucket.uri + "a/", **oss_bucket.options, labels="folders")
    assert [(info.uri.key, info.label) for info in Loader(node)] == [("a/cat/1", 0), ("a/cat/2", 0), ("a/dog/1", 1)]


def test_named_objects_are_a_source_too(bucket: OssBucket) -> None:
    client = OssClient(**bucket.options)
    lister = OssLister(OssObjectNames([bucket.uri + key for key in KEYS[:4]]), client)
    assert list(Loader(OssFetcher(lister, client, transform=NAME))) == KEYS[:4]
    assert requests(bucket, "ListObjectsV2") == 0


MEMBERS = [f"{key}.{kind}" for key in KEYS for kind in ("jpg", "txt")]


def tar_of(names: list[str]) -> bytes:
    """Return a tar of files that contain their names."""
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as file:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = len(name)
            file.addfile(member, io.BytesIO(name.encode()))
    return memory.getvalue()


@pytest.fixture
def tar(oss_bucket: OssBucket) -> str:
    return oss_bucket.put("a.tar", tar_of(MEMBERS))


def text(item: Any) -> str:
    return str(item.read().decode())


def members(bucket: OssBucket, tar: str, **options: Any) -> OssFetcher:
    client = OssClient(**bucket.options)
    return OssFetcher(OssLister(OssTarLister(tar, client), client, **options), client, transform=text)


def test_members_of_tars_come_by_ranges(oss_bucket: OssBucket, tar: str) -> None:
    loader = Loader(members(oss_bucket, tar))
    assert [list(loader), list(loader)] == [MEMBERS, MEMBERS]
    oss_bucket.server.reset_counters()
    assert sorted(loader) == MEMBERS
    assert requests(oss_bucket, "GetObject") == 1


def test_ranks_share_members_by_groups_of_neighbours(oss_bucket: OssBucket) -> None:
    names = [f"{number:03}" for number in range(300)]
    tar = oss_bucket.put("b.tar", tar_of(names))
    for options in ({}, {"shuffle": "chunks", "shuffle_chunk_size": 50}):
        shares = [list(Loader(members(oss_bucket, tar, rank=rank, world_size=2, **options))) for rank in range(2)]
        assert sorted(itertools.chain(*shares)) == names
        if not options:
            assert [share[:128] for share in shares] == [names[:128], names[128:256]]
            continue
        ring = sorted((int(name) - int(shares[0][0])) % len(names) for name in shares[0][:50])
        steps = [(after - before) % len(names) for before, after in itertools.pairwise([*ring, ring[0]])]
        assert sorted(steps)[:-1] == [1] * 49  # neighbours, on a ring


def test_samples_of_members(oss_bucket: OssBucket, tar: str) -> None:
    client = OssClient(**oss_bucket.options)
    lister = OssLister(OssTarLister(tar, client, group_by="basename"), client)
    samples = list(Loader(OssFetcher(lister, client)))
    assert [[data.key for data in sample.values()] for sample in samples] == [
        [f"{key}.jpg", f"{key}.txt"] for key in KEYS
    ]


@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"shuffle": "chunks", "shuffle_chunk_size": 7}])
@pytest.mark.parametrize("stop", [0, 3, 9, 19])
def test_a_loader_of_members_goes_on_where_it_was(
    oss_bucket: OssBucket, tar: str, options: dict[str, Any], stop: int
) -> None:
    whole = list(Loader(Batcher(members(oss_bucket, tar, **options), 3)))
    assert sorted(itertools.chain(*whole)) == MEMBERS
    first, second = (Loader(Batcher(members(oss_bucket, tar, **options), 3)) for _ in range(2))
    items = iter(first)
    head = [next(items) for _ in range(stop)]
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert head + list(second) == whole


def test_what_can_not_be_read_may_be_left_out(bucket: OssBucket) -> None:
    def loader() -> tuple[Any, OssFetcher]:
        client = OssClient(**bucket.options)
        lister = OssLister(OssObjectNames([bucket.uri + key for key in KEYS[:8]]), client)
        node = OssFetcher(lister, client, transform=NAME, on_error="skip")
        return Loader(node), node

    bucket.delete(KEYS[2])
    bucket.delete(KEYS[5])
    first, node = loader()
    items = iter(first)
    head = [next(items) for _ in range(3)]
    state = first.state_dict()
    assert head + list(items) == [*KEYS[:2], *KEYS[3:5], *KEYS[6:8]]
    assert node.skipped_objects == 2
    second, _ = loader()
    second.load_state_dict(state)
    assert list(second) == [KEYS[4], *KEYS[6:8]]


def test_something_may_take_the_place_of_what_can_not_be_read(bucket: OssBucket) -> None:
    def loader() -> Any:
        client = OssClient(**bucket.options)
        lister = OssLister(OssObjectNames([bucket.uri + key for key in KEYS[:5]]), client)
        return Loader(OssFetcher(lister, client, transform=NAME, on_error=lambda info, _: f"no {info.uri.key}"))

    bucket.delete(KEYS[2])
    first, second, expected = loader(), loader(), [*KEYS[:2], f"no {KEYS[2]}", *KEYS[3:5]]
    items = iter(first)
    head = [next(items) for _ in range(3)]
    second.load_state_dict(first.state_dict())
    assert (head, list(second)) == (expected[:3], expected[3:])


def test_mistakes_are_errors(bucket: OssBucket) -> None:
    with pytest.raises(OssConfigError, match="rank"):
        OssLister(bucket.uri, rank=2, world_size=2, **bucket.options)
    for options in ({"shuffle": "all"}, {"shuffle_chunk_size": 0}):
        with pytest.raises(OssConfigError, match="shuffle"):
            OssLister(bucket.uri, **options, **bucket.options)
    first, second = fetcher(bucket), fetcher(bucket, shuffle=True)
    first.reset()
    with pytest.raises(OssUsageError, match="another dataset"):
        second.reset(first.state_dict())


@pytest.mark.parametrize("workers", [0, 2])
def test_stateful_dataloader_of_this_version_goes_on_where_it_was(bucket: OssBucket, workers: int) -> None:
    def loader() -> Any:
        dataset = OssIterableDataset.from_prefix(bucket.uri, **bucket.options, transform=NAME, shuffle=True)
        return StatefulDataLoader(dataset, batch_size=4, num_workers=workers, snapshot_every_n_steps=1)

    whole = list(loader())
    first = loader()
    items = iter(first)
    head = [next(items) for _ in range(3)]
    state = first.state_dict()
    del items, first
    bucket.server.reset_counters()
    second = loader()
    second.load_state_dict(state)
    assert head + list(second) == whole
    assert requests(bucket, "GetObject") == COUNT - 12


@pytest.mark.parametrize("state", [{}, {"source": 1}, {"source": {}}, {"source": {"epoch": "1"}}, [], "state"])
def test_what_is_no_state_is_refused(bucket: OssBucket, state: Any) -> None:
    node = fetcher(bucket)
    with pytest.raises(OssUsageError, match="state"):
        node.reset(state)
    if isinstance(state, dict):
        lister = OssLister(bucket.uri, OssClient(**bucket.options))
        with pytest.raises(OssUsageError, match="state"):
            lister.reset(state)


def test_a_state_that_was_changed_is_refused(bucket: OssBucket) -> None:
    node = fetcher(bucket)
    node.reset()
    node.next()
    state = node.state_dict()
    source = state["source"]
    for name in source:
        if name != "osstorchconnector_epoch":
            with pytest.raises(OssUsageError, match="state"):
                fetcher(bucket).reset({**state, "source": {**source, name: -5}})


@pytest.mark.parametrize(("world_size", "is_told"), [(None, True), (1, False)])
def test_a_rank_that_reads_everything_is_told(
    bucket: OssBucket, tmp_path: Path, caplog: pytest.LogCaptureFixture, world_size: int | None, is_told: bool
) -> None:
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        assert list(Loader(fetcher(bucket, world_size=world_size))) == KEYS
    finally:
        dist.destroy_process_group()
    told = [record.message for record in caplog.records if record.name.startswith("osstorchconnector")]
    assert any("world_size" in message for message in told) is is_told
