"""What a load asks for, and how much memory it takes beside the tensors."""

from __future__ import annotations

import contextlib
import gc
import json
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.states import blank, differences
from hypothesis import given
from hypothesis import strategies as st
from scripts import NO_LOGS
from torch.distributed.checkpoint.metadata import MetadataIndex
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, ReadItem

from osstorchconnector.client.client import OssClient
from osstorchconnector.client.engine import engine
from osstorchconnector.dcp import OssDCPFileSystem, loading
from osstorchconnector.errors import OssPermissionError
from osstorchconnector.testing import OssBucket

MIB = 1 << 20


class Taken:
    """Memory that a load takes for itself: in all, and the most at any time."""

    def __init__(self) -> None:
        self.all_bytes = self.now_bytes = self.most_bytes = 0

    def new(self, size_bytes: int) -> memoryview:
        array = np.empty(size_bytes, np.uint8)
        self._change(size_bytes)
        self.all_bytes += size_bytes
        weakref.finalize(array, self._change, -size_bytes)
        return memoryview(array)

    def _change(self, more_bytes: int) -> None:
        self.now_bytes += more_bytes
        self.most_bytes = max(self.most_bytes, self.now_bytes)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Taken:
    noted = Taken()
    monkeypatch.setattr(loading, "new_buffer", noted.new)
    return noted


def saved(fs: OssDCPFileSystem, oss_bucket: OssBucket, state: dict[str, torch.Tensor]) -> str:
    """Save a checkpoint, forget how that went, and return where it is."""
    uri = oss_bucket.uri + "ckpt"
    dcp.save(state, storage_writer=fs.writer(uri))
    oss_bucket.server.reset_counters()
    return uri


def load(fs: OssDCPFileSystem, uri: str, state: dict[str, torch.Tensor], **options: Any) -> None:
    target = blank(state)
    dcp.load(target, storage_reader=fs.reader(uri, **options))
    assert differences(state, target) == []


def mixed(groups: int, small_bytes: int, large_bytes: int) -> dict[str, torch.Tensor]:
    """Return a state of many tensors that are copied, and after each group of them one that lands, and is long."""
    state = {}
    for number in range(groups):
        for which in range(small_bytes // 40_000):
            state[f"{number} small {which}"] = torch.full((10_000,), float(number * 1000 + which))
        state[f"{number} large"] = torch.full((large_bytes // 4,), float(number))
    return state


class Place(NamedTuple):
    """Where an item stands."""

    start: int
    stop: int


places = st.lists(st.tuples(st.integers(0, 100_000), st.integers(0, 300)), max_size=2000).map(
    lambda pairs: sorted(Place(start, start + size) for start, size in pairs)
)


@given(places)
def test_items_are_planned_in_batches_that_do_not_overlap(items: list[Place]) -> None:
    found = [list(batch) for batch in loading.batches(items)]  # type: ignore[arg-type]
    assert [number for batch in found for number in batch] == list(range(len(items)))
    reached = 0
    for batch in filter(None, found):
        assert items[batch[0]].start >= reached
        reached = max(reached, *[items[number].stop for number in batch])


def test_the_first_batch_is_small_and_the_others_are_not() -> None:
    items = [Place(number, number + 1) for number in range(1000)]
    sizes = [len(batch) for batch in loading.batches(items)]  # type: ignore[arg-type]
    assert sizes[0] == loading.FIRST_BATCH_ITEMS
    assert set(sizes[1:-1]) == {loading.BATCH_ITEMS}


@pytest.mark.parametrize("elements", [40_000, 200_000])
def test_tensors_that_land_where_they_belong_come_several_with_a_request(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, taken: Taken, elements: int
) -> None:
    state = {f"weight {number}": torch.full((elements,), float(number)) for number in range(8_000_000 // elements)}
    load(fs, saved(fs, oss_bucket, state), state)
    ranges_of_1_mib = -(-8_000_000 * 4 // MIB)
    assert oss_bucket.server.counters().requests["GetObject"] <= ranges_of_1_mib + 4
    assert taken.all_bytes < 0.05 * 8_000_000 * 4, "only what stands around them"


@pytest.mark.parametrize("memory_bytes", [8 * MIB, 96 * MIB])
@pytest.mark.parametrize(("small_bytes", "large_bytes"), [(2_200_000, 6_000_000), (600_000, 7_600_000)])
def test_memory_keeps_to_its_limit_though_large_tensors_go_on_in_the_next_range(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, taken: Taken, memory_bytes: int, small_bytes: int, large_bytes: int
) -> None:
    state = mixed(12, small_bytes, large_bytes)
    uri = saved(fs, oss_bucket, state)
    oss_bucket.server.fail("GetObject", "latency", probability=0.5, seconds=0.02, seed=3)
    load(fs, uri, state, memory_bytes=memory_bytes)
    assert taken.most_bytes <= memory_bytes


def test_memory_is_used_again(fs: OssDCPFileSystem, oss_bucket: OssBucket, taken: Taken) -> None:
    state = mixed(20, 2_200_000, 160_000)
    load(fs, saved(fs, oss_bucket, state), state, memory_bytes=8 * MIB)
    assert taken.all_bytes <= 10 * MIB


def test_the_first_range_of_a_large_file_is_small(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    state = {"weight": torch.arange(2_000_000.0)}
    load(fs, saved(fs, oss_bucket, state), state)
    asked = [entry.headers.get("range", "") for entry in oss_bucket.server.counters().log if "distcp" in entry.key]
    assert "bytes=0-65535" in asked
    assert len(asked) > 5


class IntoEach(dcp.DefaultLoadPlanner):
    """Loads the one item of a checkpoint into several tensors."""

    def __init__(self, targets: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self._targets = targets

    def create_local_plan(self) -> LoadPlan:
        assert self.metadata is not None
        index = next(iter(self.metadata.storage_data))
        zeros = torch.Size([0])
        return LoadPlan(
            [
                ReadItem(LoadItemType.TENSOR, MetadataIndex(name), zeros, index, zeros, target.size())
                for name, target in self._targets.items()
            ]
        )

    def resolve_tensor(self, read_item: ReadItem) -> torch.Tensor:
        return self._targets[read_item.dest_index.fqn]

    def commit_tensor(self, read_item: ReadItem, tensor: torch.Tensor) -> None:
        pass


def test_what_several_want_is_fetched_once_where_all_of_it_is_copied(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, taken: Taken
) -> None:
    weight = torch.arange(1_500_000.0)
    uri = saved(fs, oss_bucket, {"weight": weight})
    targets = {str(number): torch.zeros(1_500_000, dtype=torch.float64) for number in range(4)}
    dcp.load(targets, storage_reader=fs.reader(uri), planner=IntoEach(targets))
    assert all(torch.equal(target, weight.double()) for target in targets.values())
    assert taken.all_bytes < 1.1 * weight.nbytes
    assert oss_bucket.server.counters().requests["GetObject"] > 5, "in ranges"


def test_one_element_of_a_larger_tensor_is_filled(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    uri = saved(fs, oss_bucket, {"one": torch.full((1,), 3.0, dtype=torch.bfloat16)})
    whole = torch.zeros(1, 2, dtype=torch.bfloat16)
    dcp.load({"one": whole[:, 0]}, storage_reader=fs.reader(uri))
    assert whole.tolist() == [[3.0, 0.0]]


async def no_work() -> None:
    """Do nothing."""


def test_a_load_that_fails_lets_go_of_the_tensors(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    """Without the garbage collector, which runs rarely, and not in a job that has disabled it."""
    state = {"weight": torch.arange(4_000_000.0)}
    uri = saved(fs, oss_bucket, state)
    metadata = fs.reader(uri).read_metadata()
    planner = dcp.DefaultLoadPlanner()
    target = blank(state)
    planner.set_up_planner(target, metadata, is_coordinator=True)
    plan = planner.create_local_plan()
    reader = fs.reader(uri)
    reader.set_up_storage_reader(reader.read_metadata(), is_coordinator=True)
    lives = weakref.ref(target["weight"])
    oss_bucket.server.fail("GetObject", "AccessDenied")
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(OssPermissionError):
            reader.read_data(plan, planner)
        for thread in engine.running():
            thread.run(no_work())  # the requests that were given up have ended
        del target, planner
        assert lives() is None
    finally:
        gc.enable()


def test_connections_are_opened_while_the_metadata_is_read(oss_bucket: OssBucket, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**NO_LOGS, "checkpointConfig": {"prefetchConcurrency": 12}}))
    fs = OssDCPFileSystem(OssClient(**{**oss_bucket.options, "config_path": str(config)}))
    uri, state = saved(fs, oss_bucket, {"weight": torch.ones(10)}), {"weight": torch.ones(10)}
    load(fs, uri, state)
    while oss_bucket.server.counters().open_connections < 12:
        pass
