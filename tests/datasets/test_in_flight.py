"""How many requests a dataset keeps in flight: as many as pay, counted by the server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from osstorchconnector import OssIterableDataset, OssMapDataset
from osstorchconnector.client.limiter import FAR_FIRST_LIMITS, FIRST_LIMITS, allowed_descriptors, usable_cores
from osstorchconnector.client.limits import most_in_flight
from osstorchconnector.testing import OssBucket

FIRST, FAR_FIRST = FIRST_LIMITS["objects"], FAR_FIRST_LIMITS["objects"]
NO_LOGS = {"logPath": "", "auditPath": ""}


def fill(bucket: OssBucket, count: int, *, latency_seconds: float) -> list[str]:
    bucket.server.fill(bucket.name, "far/{:05}", count, b"data")
    if latency_seconds:
        bucket.server.fail("GetObject", "latency", seconds=latency_seconds)
    return [f"far/{number:05}" for number in range(count)]


def most_under_way(bucket: OssBucket) -> int:
    most = bucket.server.counters().max_concurrency["GetObject"]
    bucket.server.reset_counters()
    return most


def bound(processes: int = 1) -> int:
    retries = 2 * 1000  # with all that may ever be saved
    return most_in_flight(cores=usable_cores(), processes=processes, descriptors=allowed_descriptors(), retries=retries)


def test_where_it_is_far_more_are_in_flight_and_the_order_stays(oss_bucket: OssBucket) -> None:
    keys = fill(oss_bucket, 3000, latency_seconds=0.1)
    dataset = OssIterableDataset.from_prefix(oss_bucket.uri + "far/", **oss_bucket.options)
    assert [item.name for item in dataset] == keys
    assert FIRST < most_under_way(oss_bucket) <= bound()


def test_a_second_epoch_begins_with_what_the_first_one_found(oss_bucket: OssBucket) -> None:
    fill(oss_bucket, 3000, latency_seconds=0.1)
    dataset = OssIterableDataset.from_prefix(oss_bucket.uri + "far/", **oss_bucket.options)
    assert len(list(dataset)) == 3000
    oss_bucket.server.reset_counters()
    iterator = iter(dataset)
    next(iterator)
    iterator.close()
    assert most_under_way(oss_bucket) > FIRST


def test_workers_of_the_next_epoch_begin_with_what_the_last_ones_found(oss_bucket: OssBucket) -> None:
    fill(oss_bucket, 3000, latency_seconds=0.1)
    dataset = OssIterableDataset.from_prefix(oss_bucket.uri + "far/", **oss_bucket.options, transform=len_of)
    for _ in range(2):
        assert len(list(DataLoader(dataset, num_workers=1, batch_size=None))) == 3000
    assert FIRST < most_under_way(oss_bucket) <= bound()


def len_of(data: object) -> int:
    return 1


def test_batches_of_a_map_learn_from_each_other(oss_bucket: OssBucket) -> None:
    fill(oss_bucket, 640, latency_seconds=0.1)
    dataset = OssMapDataset.from_prefix(oss_bucket.uri + "far/", **oss_bucket.options)
    for start in range(0, 640, 64):
        dataset.__getitems__(range(start, start + 64))
    assert FIRST < most_under_way(oss_bucket) <= 64


def test_a_consumer_that_is_slower_than_the_network_does_not_make_it_grow(oss_bucket: OssBucket) -> None:
    fill(oss_bucket, 300, latency_seconds=0)
    for _ in OssIterableDataset.from_prefix(oss_bucket.uri + "far/", **oss_bucket.options):
        while oss_bucket.server.counters().concurrency["GetObject"]:
            pass  # it takes the next object when nothing is under way
    assert most_under_way(oss_bucket) <= FAR_FIRST  # FIRST, unless this machine was busy for some milliseconds


@pytest.mark.parametrize("sizes_are_known", [True, False])
def test_where_no_answer_comes_at_once_the_first_requests_are_more(
    oss_bucket: OssBucket, sizes_are_known: bool
) -> None:
    keys = fill(oss_bucket, 2 * FAR_FIRST, latency_seconds=0.5)
    if sizes_are_known:
        dataset = OssIterableDataset.from_prefix(oss_bucket.uri + "far/", **oss_bucket.options)
    else:
        uris = [oss_bucket.uri + key for key in keys]
        dataset = OssIterableDataset.from_objects(uris, **oss_bucket.options)
    iterator = iter(dataset)
    assert next(iterator).name == keys[0]
    iterator.close()
    assert most_under_way(oss_bucket) == min(FAR_FIRST, bound())


def test_few_objects_are_asked_for_once_each(oss_bucket: OssBucket) -> None:
    keys = fill(oss_bucket, 3, latency_seconds=0.1)
    dataset = OssIterableDataset.from_prefix(oss_bucket.uri + "far/", **oss_bucket.options)
    assert [item.name for item in dataset] == keys
    assert most_under_way(oss_bucket) == 3


def test_a_server_that_refuses_more_than_some_a_second_gets_no_more_at_a_time(oss_bucket: OssBucket) -> None:
    keys = fill(oss_bucket, 1000, latency_seconds=0)
    oss_bucket.server.fail("GetObject", "503", above_rate=300)
    dataset = OssIterableDataset.from_prefix(oss_bucket.uri + "far/", **oss_bucket.options)
    assert [item.name for item in dataset] == keys
    counters = oss_bucket.server.counters()
    assert counters.max_concurrency["GetObject"] <= bound()
    assert counters.errors["GetObject"] < 1000, "the retries suffice"


@pytest.mark.parametrize("configured", [24, 30])
def test_a_number_in_the_config_stays(oss_bucket: OssBucket, tmp_path: Path, configured: int) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(NO_LOGS | {"datasetConfig": {"prefetchConcurrency": configured}}))
    fill(oss_bucket, 500, latency_seconds=0.05)
    dataset = OssIterableDataset.from_prefix(oss_bucket.uri + "far/", **oss_bucket.options, config_path=str(config))
    assert len(list(dataset)) == 500
    assert most_under_way(oss_bucket) == configured
