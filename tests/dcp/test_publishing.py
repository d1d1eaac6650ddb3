"""What is published is there, and what it replaces goes, also when several saves and loads share one id."""

from __future__ import annotations

import itertools
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.conftest import names
from dcp.states import differences
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import LoadPlan

from osstorchconnector.client.client import OssClient
from osstorchconnector.dcp import HashedPrefixes, OssDCPFileSystem, OssStorageReader, RoundRobinPrefixes
from osstorchconnector.dcp.folder import METADATA_LOCK, CheckpointFolder
from osstorchconnector.dcp.metadata import load_metadata
from osstorchconnector.dcp.publishing import MOST_PATIENCE_SECONDS, PATIENCE_SECONDS, Publisher
from osstorchconnector.errors import OssIntegrityError, OssNotFoundError, OssObjectChangedError
from osstorchconnector.testing import OssBucket


def state(number: float, count: int = 3) -> dict[str, torch.Tensor]:
    return {f"weight {name}": torch.full((200, 200), float(number)) for name in range(count)}


def loaded(fs: OssDCPFileSystem, uri: str) -> dict[str, torch.Tensor]:
    target = state(-1)
    dcp.load(target, storage_reader=fs.reader(uri))
    return target


def named_in(bucket: OssBucket, metadata: str) -> list[str]:
    found = load_metadata(bucket.get(metadata), metadata)
    folder = metadata.rpartition("/")[0]
    return sorted({f"{folder}/{info.relative_path}" for info in found.storage_data.values()})


# what is published is there


class Interfering(OssDCPFileSystem):
    """Its writers are interfered with when all of their data is stored, and nothing published."""

    def __init__(self, client: OssClient, interfere: Any) -> None:
        super().__init__(client)
        self.interfere = interfere

    def save(self, uri: str, number: float, **options: Any) -> None:
        writer = self.writer(uri, **options)
        finish = writer.finish

        def later(*arguments: Any, **named: Any) -> None:
            self.interfere()
            finish(*arguments, **named)

        writer.finish = later  # type: ignore[method-assign]
        dcp.save(state(number), storage_writer=writer)


@pytest.mark.parametrize(
    "options",
    [{}, {"thread_count": 3}, {"prefix_strategy": HashedPrefixes()}, {"prefix_strategy": RoundRobinPrefixes(["x/y"])}],
    ids=str,
)
@pytest.mark.parametrize("harm", ["removed", "cut"])
def test_a_save_whose_data_was_harmed_fails_and_leaves_the_old_checkpoint(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, options: dict[str, Any], harm: str
) -> None:
    uri = oss_bucket.uri + "ckpt"
    dcp.save(state(1), storage_writer=fs.writer(uri, **options))
    old = names(oss_bucket, ".distcp")

    def interfere() -> None:
        key = next(key for key in names(oss_bucket, ".distcp") if key not in old)
        oss_bucket.put(key, oss_bucket.get(key)[:-1]) if harm == "cut" else oss_bucket.delete(key)

    words = "bytes, not" if harm == "cut" else "is gone"
    with pytest.raises(CheckpointException, match=rf"ckpt was not published: .*{words}"):
        Interfering(fs.client, interfere).save(uri, 2, **options)
    assert differences(state(1), loaded(fs, uri)) == []


def test_a_clean_up_that_removes_a_living_saves_data_makes_it_fail(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    interfering = Interfering(fs.client, lambda: fs.clean(oss_bucket.uri, older_than=0))
    with pytest.raises(CheckpointException, match="Something else removes or changes objects"):
        interfering.save(oss_bucket.uri + "ckpt", 1)
    assert names(oss_bucket) == []


def test_a_rank_that_publishes_for_itself_looks_too(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    publisher = Publisher(CheckpointFolder(fs.client, oss_bucket.uri + "ckpt"))
    dcp.save(state(1), storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    metadata = load_metadata(oss_bucket.get("ckpt/.metadata"), "")
    oss_bucket.delete(names(oss_bucket, ".distcp")[0])
    with pytest.raises(OssIntegrityError, match="is gone"):
        publisher.publish_rank(metadata, 0)


@pytest.mark.parametrize("count", [1, 40])
def test_one_listing_finds_all_files(fs: OssDCPFileSystem, oss_bucket: OssBucket, count: int) -> None:
    oss_bucket.server.reset_counters()
    dcp.save(state(1, count), storage_writer=fs.writer(oss_bucket.uri + "ckpt", thread_count=count))
    assert len(names(oss_bucket, ".distcp")) == count
    requests = oss_bucket.server.counters().requests
    assert requests["ListObjectsV2"] == 1
    assert requests["HeadObject"] == 1  # whether there is a checkpoint to be replaced


def test_what_else_stands_in_the_folder_is_not_listed(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    oss_bucket.server.fill(oss_bucket.name, "ckpt/images/{:06}", 3000, b"x")
    oss_bucket.server.fill(oss_bucket.name, "ckpt/other/{:06}", 3000, b"x")
    oss_bucket.server.reset_counters()
    dcp.save(state(1), storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    assert oss_bucket.server.counters().requests["ListObjectsV2"] == 1


# one replaces another


def test_the_data_of_ranks_goes_with_their_metadata(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    dcp.save(state(1), storage_writer=fs.writer(oss_bucket.uri + "ckpt"), use_collectives=False)
    dcp.save(state(2), storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    assert names(oss_bucket) == ["ckpt/.metadata", *named_in(oss_bucket, "ckpt/.metadata")]


@pytest.mark.parametrize("name", [".metadata", "./.metadata", "other/.metadata"])
def test_metadata_is_not_removed_though_what_it_replaces_names_it_as_data(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, name: str
) -> None:
    uri = oss_bucket.uri + "ckpt"
    dcp.save(state(1), storage_writer=fs.writer(uri))
    dcp.save(state(3), storage_writer=fs.writer(uri + "/other"))
    metadata = pickle.loads(oss_bucket.get("ckpt/.metadata"))
    for info in metadata.storage_data.values():
        info.relative_path = name
    oss_bucket.put("ckpt/.metadata", pickle.dumps(metadata))
    dcp.save(state(2), storage_writer=fs.writer(uri))
    assert differences(state(2), loaded(fs, uri)) == []
    assert differences(state(3), loaded(fs, uri + "/other")) == []


def test_a_first_save_that_another_one_beat_removes_what_that_left(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    """The other one is published between its look whether there is a checkpoint, and its own `.metadata`."""
    uri = oss_bucket.uri + "ckpt"
    oss_bucket.server.fail("HeadObject", "503", key="ckpt/.metadata")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(dcp.save, state(1), storage_writer=fs.writer(uri))
        while not oss_bucket.server.counters(with_log=False).faults["503"]:
            assert not first.done()
        dcp.save(state(2), storage_writer=fs.writer(uri, overwrite=False))
        oss_bucket.server.clear_faults()
        oss_bucket.server.fail("HeadObject", "404", key="ckpt/.metadata", times=1)  # as it was when it looked
        first.result()
    assert differences(state(1), loaded(fs, uri)) == []
    assert names(oss_bucket) == ["ckpt/.metadata", *named_in(oss_bucket, "ckpt/.metadata")]


def test_a_writer_clears_away_what_it_has_not_published_though_another_has(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    uri, writer = oss_bucket.uri + "ckpt", fs.writer(oss_bucket.uri + "ckpt")
    oss_bucket.server.fail("PutObject", "AccessDenied", key="ckpt/.metadata", times=1)
    with pytest.raises(CheckpointException):
        dcp.save(state(1), storage_writer=writer)
    dcp.save(state(2), storage_writer=fs.writer(uri))
    writer.reset(oss_bucket.uri + "next")
    assert names(oss_bucket) == ["ckpt/.metadata", *named_in(oss_bucket, "ckpt/.metadata")]


class Watch:
    """A clock that goes on when somebody sleeps; `at` some time something happens."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, 0
        self.at: dict[int, Any] = {}
        self.always: Any = lambda: None
        self.step_seconds = 0.0  # or as long as asked for

    def sleep(self, seconds: float) -> None:
        self.now += self.step_seconds or seconds
        self.slept += 1
        self.at.get(self.slept, self.always)()


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def published(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> Metadata:
    """What an earlier save has published, and what is about to be published in its place."""
    dcp.save(state(1), storage_writer=fs.writer(oss_bucket.uri + "ckpt"))
    metadata = pickle.loads(oss_bucket.get("ckpt/.metadata"))
    assert isinstance(metadata, Metadata)
    return metadata


def publisher(fs: OssDCPFileSystem, oss_bucket: OssBucket, watch: Watch) -> Publisher:
    folder = CheckpointFolder(fs.client, oss_bucket.uri + "ckpt")
    return Publisher(folder, clock=lambda: watch.now, sleep=watch.sleep)


def test_who_replaces_waits_for_who_is_replacing(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, watch: Watch, published: Metadata, caplog: Any
) -> None:
    caplog.set_level("INFO", "osstorchconnector")
    lock = f"ckpt/{METADATA_LOCK}"
    oss_bucket.put(lock, b"another save")
    watch.at[3] = lambda: oss_bucket.delete(lock)
    publisher(fs, oss_bucket, watch).publish(published, "this", overwrite=True)
    assert watch.slept == 3
    assert caplog.text.count("is being replaced by another save: waiting") == 1
    assert names(oss_bucket) == ["ckpt/.metadata", *named_in(oss_bucket, "ckpt/.metadata")]


def test_a_lock_whose_holder_was_killed_holds_up_the_next_one_for_a_while(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, watch: Watch, published: Metadata, caplog: Any
) -> None:
    oss_bucket.put(f"ckpt/{METADATA_LOCK}", b"a dead one")
    watch.at[10] = lambda: oss_bucket.put(f"ckpt/{METADATA_LOCK}", b"another dead one, that came between")
    publisher(fs, oss_bucket, watch).publish(published, "this", overwrite=True)
    assert PATIENCE_SECONDS < watch.now < 2 * PATIENCE_SECONDS
    assert "its lock is removed" in caplog.text
    assert names(oss_bucket) == ["ckpt/.metadata", *named_in(oss_bucket, "ckpt/.metadata")]


def test_saves_that_have_the_lock_all_the_time_hold_up_nobody_for_ever(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, watch: Watch, published: Metadata, caplog: Any
) -> None:
    lock = f"ckpt/{METADATA_LOCK}"
    oss_bucket.put(lock, b"0")
    watch.always = lambda: oss_bucket.put(lock, str(watch.slept).encode())
    watch.step_seconds = 5.0
    publisher(fs, oss_bucket, watch).publish(published, "this", overwrite=True)
    assert watch.now == MOST_PATIENCE_SECONDS
    assert "other saves have it all the time" in caplog.text
    assert lock in names(oss_bucket)  # which is not ours to remove


def test_without_a_lock_a_save_is_published_all_the_same(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, watch: Watch, published: Metadata, caplog: Any
) -> None:
    oss_bucket.server.fail("PutObject", "AccessDenied", key=f"ckpt/{METADATA_LOCK}")
    publisher(fs, oss_bucket, watch).publish(published, "this", overwrite=True)
    assert "is replaced without a lock" in caplog.text
    assert watch.slept == 0


def test_a_lock_that_can_not_be_removed_is_not_waited_for_again_and_again(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, watch: Watch, published: Metadata, caplog: Any
) -> None:
    oss_bucket.put(f"ckpt/{METADATA_LOCK}", b"a dead one")
    oss_bucket.server.fail("DeleteObject", "AccessDenied", key=f"ckpt/{METADATA_LOCK}")
    publisher(fs, oss_bucket, watch).publish(published, "this", overwrite=True)
    assert PATIENCE_SECONDS <= watch.now < PATIENCE_SECONDS + 1
    assert caplog.text.count("its lock is removed") == 1
    assert "is replaced without a lock" in caplog.text
    assert oss_bucket.get(f"ckpt/{METADATA_LOCK}") == b"a dead one"


def test_clean_removes_a_lock_that_was_left(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    oss_bucket.put(f"ckpt/{METADATA_LOCK}", b"a dead one")
    assert fs.clean(oss_bucket.uri) == []
    oss_bucket.server.set_clock(25 * 3600.0)
    assert fs.clean(oss_bucket.uri) == [f"{oss_bucket.uri}ckpt/{METADATA_LOCK}"]
    assert names(oss_bucket) == []


# loads beside saves


class Replacing(OssStorageReader):
    """Saves come between its look at the metadata and its reading of the data."""

    saves: Iterator[Any]

    def read_data(self, plan: LoadPlan, planner: Any) -> Any:
        next(self.saves)()
        return super().read_data(plan, planner)


def replacing(fs: OssDCPFileSystem, uri: str, *saves: Any) -> Replacing:
    reader = Replacing(fs, uri)
    reader.saves = iter(saves)
    return reader


def test_a_checkpoint_replaced_while_it_is_loaded_is_loaded_as_it_is_now(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, caplog: Any
) -> None:
    caplog.set_level("INFO", "osstorchconnector")
    uri, target = oss_bucket.uri + "ckpt", state(-1) | {"step": 0}
    dcp.save(state(1) | {"step": 1}, storage_writer=fs.writer(uri))
    again = lambda: dcp.save(state(2) | {"step": 2}, storage_writer=fs.writer(uri))  # noqa: E731
    dcp.load(target, storage_reader=replacing(fs, uri, again))
    assert differences(state(2) | {"step": 2}, target) == []
    assert "was replaced by another save while it was loaded, so all of the new one is loaded" in caplog.text


def test_a_rank_that_loads_its_own_part_goes_over_as_well(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    uri, target = oss_bucket.uri + "ckpt", state(-1)
    dcp.save(state(1), storage_writer=fs.writer(uri), use_collectives=False)

    def again() -> None:
        for key in names(oss_bucket):
            oss_bucket.delete(key)
        dcp.save(state(2), storage_writer=fs.writer(uri), use_collectives=False)

    dcp.load(target, storage_reader=replacing(fs, uri, again))
    assert differences(state(2), target) == []


@pytest.mark.parametrize("files", [".distcp", ""])
def test_data_that_is_gone_though_nothing_took_its_place_is_missing(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, files: str
) -> None:
    dcp.save(state(1), storage_writer=fs.writer(oss_bucket.uri + "ckpt"))

    def remove() -> None:
        for key in names(oss_bucket, files):
            oss_bucket.delete(key)

    with pytest.raises(CheckpointException) as raised:
        dcp.load(state(-1), storage_reader=replacing(fs, oss_bucket.uri + "ckpt", remove))
    assert isinstance(raised.value.failures[0][0], OssNotFoundError)


def test_one_of_other_contents_is_not_loaded_in_its_place(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    uri = oss_bucket.uri + "ckpt"
    dcp.save(state(1), storage_writer=fs.writer(uri))
    other = lambda: dcp.save(state(2, count=2), storage_writer=fs.writer(uri))  # noqa: E731
    with pytest.raises(CheckpointException, match="was replaced .* by one of other contents: load it again"):
        dcp.load(state(-1), storage_reader=replacing(fs, uri, other))


def test_ranks_that_have_read_different_metadata_load_nothing(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    uri, plans = oss_bucket.uri + "ckpt", []
    for number in range(2):
        dcp.save(state(number), storage_writer=fs.writer(uri))
        reader = fs.reader(uri)
        reader.set_up_storage_reader(reader.read_metadata(), number == 0)
        plans.append(reader.prepare_local_plan(LoadPlan([])))
    with pytest.raises(OssObjectChangedError, match="ranks have read different metadata. Load it again"):
        reader.prepare_global_plan(plans)


def test_one_of_several_ranks_does_not_go_over_to_the_new_one_by_itself(
    fs: OssDCPFileSystem, oss_bucket: OssBucket
) -> None:
    uri, planner, target = oss_bucket.uri + "ckpt", DefaultLoadPlanner(), state(-1)
    dcp.save(state(1), storage_writer=fs.writer(uri))
    reader = fs.reader(uri)
    metadata = reader.read_metadata()
    reader.set_up_storage_reader(metadata, True)
    planner.set_up_planner(dict(target), metadata, True)
    plan = reader.prepare_local_plan(planner.create_local_plan())
    mine, _ = reader.prepare_global_plan([plan, plan])
    dcp.save(state(2), storage_writer=fs.writer(uri))
    with pytest.raises(OssObjectChangedError, match="while it was loaded by 2 ranks: load it again"):
        reader.read_data(mine, planner)


# two jobs under one id


def test_two_jobs_that_save_and_load_under_one_id_all_the_time(
    fs: OssDCPFileSystem, oss_bucket: OssBucket, tmp_path: Path
) -> None:
    uri = oss_bucket.uri + "ckpt"
    numbers, ended = itertools.count(1), threading.Event()
    dcp.save(state(0), storage_writer=fs.writer(uri))

    def save() -> None:
        job = OssDCPFileSystem(OssClient(**oss_bucket.options))
        for _ in range(25):
            dcp.save(state(next(numbers)), storage_writer=job.writer(uri))

    def load() -> int:
        job, count = OssDCPFileSystem(OssClient(**oss_bucket.options)), 0
        while not ended.is_set():
            found = {int(tensor.unique().item()) for tensor in loaded(job, uri).values()}  # of one save each
            assert len(found) == 1
            count += 1
        return count

    with ThreadPoolExecutor(3) as pool:
        loading = pool.submit(load)
        for saving in [pool.submit(save), pool.submit(save)]:
            error = saving.exception()
            if error is not None:
                ended.set()
                raise error
        ended.set()
        assert loading.result()
    assert names(oss_bucket) == ["ckpt/.metadata", *named_in(oss_bucket, "ckpt/.metadata")]
