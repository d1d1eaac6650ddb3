from __future__ import annotations

import itertools
import json
import logging
import pickle
import shutil
import tempfile
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from datasets.ranks import run_ranks
from loaders import StatefulDataLoader, needs_stateful_loader
from torch.utils.data import DataLoader

from osstorchconnector.client.client import OssClient
from osstorchconnector.datapipes import OssObjectLister
from osstorchconnector.datasets import OssIterableDataset, ResumableSampler, merge_states
from osstorchconnector.errors import OssConfigError, OssUsageError
from osstorchconnector.index.orders import Share
from osstorchconnector.testing import OssBucket

COUNT = 25
KEYS = [f"a/{number:02}" for number in range(COUNT)]
NAME = attrgetter("name")
Place = tuple[str, dict[str, Any]]


@pytest.fixture
def place(oss_bucket: OssBucket) -> Place:
    for key in KEYS:
        oss_bucket.put(key, key.encode())
    return oss_bucket.uri, oss_bucket.options


def dataset_of(place: Place, **options: Any) -> OssIterableDataset:
    uri, access = place
    return OssIterableDataset.from_prefix(uri, **access, transform=NAME, shard_ranks=True, **options)


def epochs(rank: int, place: Place, workers: int) -> list[list[str]]:
    dataset = dataset_of(place, shuffle=True, relist="epoch")
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, persistent_workers=workers > 0)
    found = []
    for epoch in range(3):
        dataset.set_epoch(epoch)
        found.append(list(loader))
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_and_workers_together_yield_each_object_once_in_each_epoch(
    oss_bucket: OssBucket, place: Place, workers: int
) -> None:
    by_rank = run_ranks(2, epochs, place, workers)
    for epoch in range(3):
        shares = [by_rank[rank][epoch] for rank in range(2)]
        assert sorted(itertools.chain(*shares)) == KEYS
        assert sorted(map(len, shares)) == [12, 13]
    assert len({tuple(by_rank[0][epoch]) for epoch in range(3)}) == 3
    # One page of a listing for each epoch, whatever the number of processes.
    assert oss_bucket.server.counters().requests["ListObjectsV2"] == 3


def shares(rank: int, place: Place, folders: list[str]) -> dict[str, Any]:
    uri, access = place
    config = Path(folders[rank], "config.json")
    config.write_text(json.dumps({"indexDir": folders[rank]}))
    place = (uri, {**access, "config_path": str(config)})
    found: dict[str, Any] = {even: list(dataset_of(place, even=even)) for even in ("none", "drop", "repeat")}
    found["pipe"] = list(dataset_of(place, even="drop").datapipe())
    found["graph"] = list(dataset_of(place, even="repeat").datapipe().to_dataset())
    loader = StatefulDataLoader(dataset_of(place), batch_size=None, num_workers=rank, snapshot_every_n_steps=1)
    items = iter(loader)
    found["seen"] = [next(items) for _ in range(3 + rank)]
    found["state"] = pickle.dumps(loader.state_dict())
    return found


@needs_stateful_loader
def test_ranks_that_share_no_folder_get_rank_0s_listing_and_ranks_may_be_evened_out(
    oss_bucket: OssBucket, place: Place, tmp_path: Path
) -> None:
    elsewhere = tempfile.mkdtemp(dir="/dev/shm")  # another file system than the first rank's
    try:
        found = run_ranks(2, shares, place, [str(tmp_path), elsewhere])
    finally:
        left = list(Path(elsewhere).glob("osstorchconnector*")) + list(tmp_path.glob("osstorchconnector*"))
        shutil.rmtree(elsewhere)
    assert [rank["none"] for rank in found] == [KEYS[0::2], KEYS[1::2]]
    assert [rank["drop"] for rank in found] == [KEYS[0:24:2], KEYS[1::2]]
    assert [rank["repeat"] for rank in found] == [KEYS[0::2], [*KEYS[1::2], KEYS[0]]]
    for rank in found:
        assert (rank["pipe"], rank["graph"]) == (rank["drop"], rank["repeat"])
    assert oss_bucket.server.counters().requests["ListObjectsV2"] == 6
    assert left == []


def uneven(rank: int, place: Place) -> tuple[list[str], bytes]:
    loader = StatefulDataLoader(dataset_of(place), batch_size=None, num_workers=2, snapshot_every_n_steps=1)
    items = iter(loader)
    return [next(items) for _ in range(3 + 2 * rank)], pickle.dumps(loader.state_dict())


def the_rest(rank: int, place: Place, state: dict[str, Any]) -> list[str]:
    dataset = dataset_of(place)
    dataset.load_state_dict(state)
    return list(DataLoader(dataset, batch_size=None, num_workers=1))


@needs_stateful_loader
@pytest.mark.timeout(600)
def test_what_two_ranks_left_is_shared_out_among_three(oss_bucket: OssBucket, place: Place) -> None:
    found = run_ranks(2, uneven, place)
    merged = merge_states([pickle.loads(state) for _, state in found])
    rest = run_ranks(3, the_rest, place, merged)
    assert sorted(itertools.chain(*(seen for seen, _ in found), *rest)) == KEYS


def test_ranks_need_torch_distributed(place: Place) -> None:
    with pytest.raises(OssUsageError, match="init_process_group"):
        dataset_of(place)


def test_evening_out_needs_ranks(place: Place) -> None:
    uri, access = place
    with pytest.raises(OssConfigError, match="shard_ranks"):
        OssIterableDataset.from_prefix(uri, **access, even="drop")
    with pytest.raises(OssConfigError, match="even"):
        OssIterableDataset.from_prefix(uri, **access, even="fair")  # type: ignore[arg-type]


def doubly(rank: int, place: Place) -> list[str]:
    from torch.utils.data.datapipes.iter.sharding import SHARDING_PRIORITIES
    from torch.utils.data.graph_settings import apply_sharding

    errors = []
    for group in (SHARDING_PRIORITIES.DISTRIBUTED, SHARDING_PRIORITIES.DEFAULT):
        try:
            list(apply_sharding(dataset_of(place).datapipe(), 2, rank, group))
        except OssUsageError as error:
            errors.append(str(error))
    for workers in (0, 1):
        try:
            list(DataLoader(dataset_of(place).datapipe(), batch_size=None, num_workers=workers))
        except OssUsageError as error:
            errors.append(str(error))
    uri, access = place
    try:
        OssIterableDataset.from_objects([f"{uri}{rank}"], **access, shard_ranks=True)
    except OssUsageError as error:
        errors.append(str(error))
    return errors


def test_sharing_out_twice_and_different_names_are_errors(place: Place) -> None:
    for *twice, names in run_ranks(2, doubly, place):
        assert len(twice) == 4
        assert all("shares out among ranks already" in error for error in twice)
        assert "different objects" in names


def undecided(place: Place, kind: str, **options: Any) -> Any:
    """Make something that each rank reads wholly, unless somebody says otherwise."""
    uri, access = place
    if kind == "sampler":
        return ResumableSampler(COUNT, **options)
    if kind == "graph":
        client = OssClient(**access)
        sharder = OssObjectLister(uri, client).shard_oss_objects()
        if options:
            sharder.shard_ranks(Share())
        return sharder.fetch_oss_objects(client).map(NAME).to_dataset()
    return OssIterableDataset.from_prefix(uri, **access, transform=NAME, **options)


def warnings_of(
    rank: int, place: Place, log: str, kind: str, method: str, options: dict[str, Any]
) -> tuple[list[str], int]:
    logging.getLogger("osstorchconnector").addHandler(logging.FileHandler(f"{log}-{rank}"))
    made = undecided(place, kind, **options)
    counts = set()
    for _ in range(2):
        if kind == "sampler":
            loader: Any = DataLoader(range(COUNT), sampler=made)  # type: ignore[arg-type]
        else:
            workers: Any = {"num_workers": 2, "multiprocessing_context": method} if method else {}
            loader = DataLoader(made, batch_size=None, **workers)
        counts.add(len(list(loader)))
    (count,) = counts
    return Path(f"{log}-{rank}").read_text().splitlines(), count


@pytest.mark.parametrize(
    ("kind", "method", "options"),
    [
        ("dataset", "", {}),
        ("dataset", "fork", {}),
        ("dataset", "forkserver", {}),
        ("graph", "fork", {}),
        ("sampler", "", {}),
        ("dataset", "fork", {"shard_ranks": False}),
        ("graph", "", {"shard_ranks": False}),
        ("sampler", "", {"shard_ranks": False}),
    ],
)
def test_ranks_that_each_read_everything_are_told_once(
    place: Place, tmp_path: Path, kind: str, method: str, options: dict[str, Any]
) -> None:
    found = run_ranks(2, warnings_of, place, str(tmp_path / "log"), kind, method, options)
    assert [count for _, count in found] == [COUNT, COUNT]
    lines = [line for lines, _ in found for line in lines if "every rank" in line]
    assert len(lines) == (0 if options else 1)
    assert all("shard_ranks" in line for line in lines)


def test_one_rank_is_not_told(place: Place, tmp_path: Path) -> None:
    ((lines, count),) = run_ranks(1, warnings_of, place, str(tmp_path / "log"), "dataset", "", {})
    assert (lines, count) == ([], COUNT)
