"""How many answers of OSS an operation waits for, one after another: each costs it the way to OSS and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from dcp.ranks import Place, run_ranks
from round_trips import RoundTrips

from osstorchconnector import OssCheckpoint, OssClient
from osstorchconnector.dcp import OssCheckpointManager, OssStorageReader, OssStorageWriter
from osstorchconnector.testing import OssBucket

MIB = 1 << 20
PART = 5 * MIB  # not smaller on a machine so busy that OSS seems to be far away

# what a save checks before it publishes, and the publishing itself
LOOK = {"ListObjectsV2": 1, "HeadObject": 1}
PUBLISH = {"PutObject": 1}


@pytest.fixture
def round_trips() -> RoundTrips:
    return RoundTrips()


@pytest.fixture
def client(oss_bucket: OssBucket, round_trips: RoundTrips, tmp_path: Path) -> OssClient:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"partSize": PART, "logPath": "", "auditPath": ""}))
    return OssClient(**oss_bucket.options, config_path=str(config), transport=round_trips)


def state(size_bytes: int, count: int = 1) -> dict[str, torch.Tensor]:
    return {f"weight {number}": torch.zeros(size_bytes, dtype=torch.uint8) for number in range(count)}


# one object


def test_a_small_object_takes_one_round_trip(client: OssClient, oss_bucket: OssBucket, round_trips: RoundTrips) -> None:
    with round_trips.expect({"PutObject": 1}), OssCheckpoint(client).writer(oss_bucket.uri + "one") as writer:
        torch.save(state(1000), writer)
    with round_trips.expect({"GetObject": 1}), OssCheckpoint(client).reader(oss_bucket.uri + "one") as reader:
        torch.load(reader)


def test_a_large_object_takes_three_and_its_parts_are_sent_together(
    client: OssClient, oss_bucket: OssBucket, round_trips: RoundTrips
) -> None:
    rounds = {"InitiateMultipartUpload": 1}, {"UploadPart": 4}, {"CompleteMultipartUpload": 1}
    with round_trips.expect(*rounds), OssCheckpoint(client).writer(oss_bucket.uri + "one") as writer:
        torch.save(state(3 * PART), writer)


def test_a_large_object_is_loaded_in_two_when_its_directory_is_read_with_its_first_tensors(
    client: OssClient, oss_bucket: OssBucket, round_trips: RoundTrips
) -> None:
    with OssCheckpoint(client).writer(oss_bucket.uri + "one") as writer:
        torch.save(state(MIB), writer)
    with (
        round_trips.expect({"GetObject": 1}, {"GetObject": 3}),
        OssCheckpoint(client).reader(oss_bucket.uri + "one") as reader,
    ):
        torch.load(reader)


# distributed checkpoints


def test_a_save_waits_twice_to_publish(client: OssClient, oss_bucket: OssBucket, round_trips: RoundTrips) -> None:
    with round_trips.expect({"PutObject": 1}, LOOK, PUBLISH):
        dcp.save(state(1000), storage_writer=OssStorageWriter(client, oss_bucket.uri + "ckpt"))


def test_the_files_of_a_save_are_created_sent_and_completed_together(
    client: OssClient, oss_bucket: OssBucket, round_trips: RoundTrips
) -> None:
    rounds = {"InitiateMultipartUpload": 3}, {"UploadPart": 6}, {"CompleteMultipartUpload": 3}
    with round_trips.expect(*rounds, LOOK, PUBLISH):
        writer = OssStorageWriter(client, oss_bucket.uri + "ckpt", thread_count=3)
        dcp.save(state(PART + MIB, 3), storage_writer=writer)


def test_a_save_that_replaces_another_takes_the_lock_and_removes_while_it_gives_it_back(
    client: OssClient, oss_bucket: OssBucket, round_trips: RoundTrips
) -> None:
    writer = OssStorageWriter(client, oss_bucket.uri + "ckpt")
    dcp.save(state(1000), storage_writer=writer)
    tidy = {"DeleteMultipleObjects": 1, "DeleteObject": 1}
    with round_trips.expect({"PutObject": 1}, LOOK, {"PutObject": 1}, {"GetObject": 1}, PUBLISH, tidy):
        dcp.save(state(1000), storage_writer=writer)


def test_a_save_that_replaces_the_metadata_of_ranks_reads_all_of_it_at_once(
    client: OssClient, oss_bucket: OssBucket, round_trips: RoundTrips
) -> None:
    writer = OssStorageWriter(client, oss_bucket.uri + "ckpt")
    dcp.save(state(1000), storage_writer=writer, use_collectives=False)
    oss_bucket.put("ckpt/__1.metadata", oss_bucket.get("ckpt/__0.metadata"))
    tidy = {"DeleteMultipleObjects": 1, "DeleteObject": 1}
    with round_trips.expect({"PutObject": 1}, LOOK, {"PutObject": 1}, {"GetObject": 3}, PUBLISH, tidy):
        dcp.save(state(1000), storage_writer=writer)


@pytest.mark.parametrize(("thread_count", "ranges"), [(1, 9), (4, 12)])
def test_a_load_asks_for_all_ranges_of_all_files_when_it_has_read_the_metadata(
    client: OssClient, oss_bucket: OssBucket, round_trips: RoundTrips, thread_count: int, ranges: int
) -> None:
    uri = oss_bucket.uri + "ckpt"
    dcp.save(state(2 * MIB, 4), storage_writer=OssStorageWriter(client, uri, thread_count=thread_count))
    with round_trips.expect({"GetObject": 1}, {"GetObject": ranges}):
        dcp.load(state(2 * MIB, 4), storage_reader=OssStorageReader(client, uri))


def two_ranks(place: Place) -> None:
    """Save on two ranks: they send their files at the same time, and one of them publishes."""
    round_trips = RoundTrips()
    writer = OssStorageWriter(OssClient(**place.options, transport=round_trips), place.uri + "ckpt")
    of_first = [LOOK, PUBLISH] if dist.get_rank() == 0 else []
    with round_trips.expect({"PutObject": 1}, *of_first):
        dcp.save({f"weight {dist.get_rank()}": torch.ones(1000)}, storage_writer=writer)


def test_two_ranks_wait_no_more_often_than_one(oss_bucket: OssBucket, tmp_path: Path) -> None:
    run_ranks(2, two_ranks, Place(oss_bucket.uri, oss_bucket.options), tmp_path)


# the checkpoints of a run


def test_a_manager_looks_for_older_branches_while_data_is_sent(
    client: OssClient, oss_bucket: OssBucket, round_trips: RoundTrips
) -> None:
    manager = OssCheckpointManager(client, oss_bucket.uri + "run")
    save = {"PutObject": 1, "ListObjectsV2": 1}, LOOK, PUBLISH
    with round_trips.expect(*save, {"GetObject": 1}):
        manager.save(1, state(1000))


def test_a_manager_removes_in_four_round_trips_what_is_too_much(
    client: OssClient, oss_bucket: OssBucket, round_trips: RoundTrips
) -> None:
    for step in range(1, 4):
        OssCheckpointManager(client, oss_bucket.uri + "run").save(step, state(1000))
    manager = OssCheckpointManager(client, oss_bucket.uri + "run", keep=2)
    save = {"PutObject": 1, "ListObjectsV2": 1}, LOOK, PUBLISH
    find = {"GetObject": 1, "ListObjectsV2": 1}, {"HeadObject": 4}
    remove = {"DeleteObject": 2, "ListObjectsV2": 2}, {"DeleteMultipleObjects": 2}
    with round_trips.expect(*save, *find, *remove):
        manager.save(4, state(1000))
    assert manager.steps() == [3, 4]


def test_the_newest_is_loaded_in_four_round_trips(
    client: OssClient, oss_bucket: OssBucket, round_trips: RoundTrips
) -> None:
    manager = OssCheckpointManager(client, oss_bucket.uri + "run")
    for step in (1, 2):
        manager.save(step, state(1000))
    with round_trips.expect(
        {"GetObject": 1, "ListObjectsV2": 1}, {"HeadObject": 2}, {"GetObject": 1}, {"GetObject": 1}
    ):
        assert manager.load(state(1000)) == 2
