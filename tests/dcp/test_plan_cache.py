"""Planners that keep their plans (`enable_plan_caching`): what stands in a plan may be of another save or writer."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.conftest import names
from dcp.states import differences
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner

from osstorchconnector.dcp import HashedPrefixes, OssDCPFileSystem
from osstorchconnector.testing import OssBucket


@pytest.fixture(autouse=True)
def empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test caches of its own: torch keeps them with the class, for the whole process."""
    for name in [name for name in vars(SavePlanner) if name.startswith("_cached_")]:
        monkeypatch.setattr(SavePlanner, name, {})


def state(number: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((10,), float(number))}


def save(writer: Any, number: float, **options: Any) -> Metadata:
    planner = DefaultSavePlanner(enable_plan_caching=True)
    metadata = dcp.save(state(number), storage_writer=writer, planner=planner, **options)
    assert isinstance(metadata, Metadata)
    return metadata


def loaded(reader: Any) -> dict[str, torch.Tensor]:
    target = state(-1)
    dcp.load(target, storage_reader=reader)
    return target


def test_plans_out_of_the_cache_write_to_new_objects(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    uri = oss_bucket.uri + "ckpt"
    written = set()
    for number in range(3):
        save(fs.writer(uri), number)
        written |= set(names(oss_bucket, ".distcp"))
        assert differences(state(number), loaded(fs.reader(uri))) == []
    assert len(written) == 3
    assert len(names(oss_bucket, ".distcp")) == 1


@pytest.mark.parametrize("order", ["torch ours", "ours torch", "torch ours torch ours ours"])
def test_writers_of_several_kinds_take_turns(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, tmp_path: Path, order: str
) -> None:
    for number, whose in enumerate(order.split()):
        folder, uri = tmp_path / str(number), f"{oss_bucket.uri}{number}"
        save(dcp.FileSystemWriter(folder) if whose == "torch" else fs.writer(uri), number)
        reader = dcp.FileSystemReader(folder) if whose == "torch" else fs.reader(uri)
        assert differences(state(number), loaded(reader)) == []


def test_with_and_without_collectives_take_turns(fs: OssDCPFileSystem, oss_bucket: OssBucket, tmp_path: Path) -> None:
    for number, uses in enumerate((False, True, False)):
        save(fs.writer(f"{oss_bucket.uri}{number}"), number, use_collectives=uses)
        assert differences(state(number), loaded(fs.reader(f"{oss_bucket.uri}{number}"))) == []
    assert names(oss_bucket, ".metadata") == ["0/__0.metadata", "1/.metadata", "2/__0.metadata"]


def test_a_cached_plan_is_written_where_this_writer_puts_its_files(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    save(fs.writer(oss_bucket.uri + "0"), 0)
    save(fs.writer(oss_bucket.uri + "1", prefix_strategy=HashedPrefixes(3)), 1)
    (name,) = [name for name in names(oss_bucket, ".distcp") if name.startswith("1/")]
    assert name.startswith(f"1/{HashedPrefixes(3)(0)}/__0_")


def test_plans_with_what_a_planner_of_the_users_left_in_them(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    class Planner(DefaultSavePlanner):
        def finish_plan(self, new_plan: SavePlan) -> SavePlan:
            plan = super().finish_plan(new_plan)
            return SavePlan(plan.items, storage_data="something of the user's", planner_data=plan.planner_data)

    dcp.save(state(5), storage_writer=fs.writer(oss_bucket.uri + "ckpt"), planner=Planner())
    assert differences(state(5), loaded(fs.reader(oss_bucket.uri + "ckpt"))) == []


def test_saves_side_by_side_that_share_cached_metadata_publish_their_own(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    """The second save ends while the first is about to publish: both were given one and the same metadata."""
    save(fs.writer(oss_bucket.uri + "before"), 0)
    oss_bucket.server.fail("ListObjectsV2", "503", query={"prefix": "first/__"})
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(save, fs.writer(oss_bucket.uri + "first"), 1)
        while not oss_bucket.server.counters(with_log=False).faults["503"]:
            assert not first.done()
        save(fs.writer(oss_bucket.uri + "second"), 2)
        oss_bucket.server.clear_faults()
        first.result()
    for name, number in (("first", 1), ("second", 2)):
        assert differences(state(number), loaded(fs.reader(oss_bucket.uri + name))) == []


def test_the_metadata_that_a_save_returns_is_what_was_published(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    metadata = dcp.save(state(1), storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    assert metadata == pickle.loads(oss_bucket.get("ckpt/.metadata"))
