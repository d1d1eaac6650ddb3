from __future__ import annotations

import copy
import json
import pickle
import threading
from collections.abc import Callable
from operator import attrgetter, methodcaller
from pathlib import Path
from typing import Any

import pytest
from scripts import NO_LOGS

from osstorchconnector import emulator
from osstorchconnector.client.client import OssClient
from osstorchconnector.datapipes.manifest import imagenet_manifest_parser, jsonl_manifest_parser
from osstorchconnector.datasets import OssIterableDataset
from osstorchconnector.errors import (
    OssConfigError,
    OssManifestError,
    OssNotFoundError,
    OssTimeoutError,
    OssTransformError,
    OssUriError,
)
from osstorchconnector.files.data_object import DataObject
from osstorchconnector.testing import OssBucket

KEYS = [f"images/{number:02}.png" for number in range(25)]
MIB = 1 << 20


def content(key: str) -> bytes:
    return f"what is in {key}".encode() * 3


@pytest.fixture
def bucket(oss_bucket: OssBucket) -> OssBucket:
    for key in KEYS:
        oss_bucket.put(key, content(key))
    oss_bucket.put("other/file", b"not asked for")
    return oss_bucket


def keys(dataset: OssIterableDataset) -> list[str]:
    return [item.name for item in dataset]


def requests(bucket: OssBucket, operation: str) -> int:
    return bucket.server.counters().requests.get(operation, 0)


def from_prefix(bucket: OssBucket, prefix: str = "images/", **options: Any) -> OssIterableDataset:
    return OssIterableDataset.from_prefix(bucket.uri + prefix, **bucket.options, **options)


def test_every_object_below_the_prefix_comes_once_in_listing_order(bucket: OssBucket) -> None:
    items = list(from_prefix(bucket))
    assert [item.key for item in items] == [f"/{bucket.name}/{key}" for key in KEYS]
    assert [item.read() for item in items] == list(map(content, KEYS))
    assert {(item.size, item.label) for item in items} == {(len(content(KEYS[0])), "")}
    assert requests(bucket, "GetObject") == len(KEYS)


def test_a_bucket_alone_is_a_prefix_of_everything_in_it(bucket: OssBucket) -> None:
    assert keys(OssIterableDataset.from_prefix(f"oss://{bucket.name}", **bucket.options)) == [*KEYS, "other/file"]


def test_the_region_may_be_left_out_for_an_address(bucket: OssBucket) -> None:
    options = {**bucket.options, "region": ""}
    assert keys(OssIterableDataset.from_prefix(bucket.uri + "images/", **options)) == KEYS


def test_it_may_be_iterated_again_without_another_listing(bucket: OssBucket) -> None:
    dataset = from_prefix(bucket)
    assert [keys(dataset) for _ in range(3)] == [KEYS] * 3
    assert requests(bucket, "ListObjectsV2") == 1


def test_several_iterators_at_once_do_not_disturb_each_other(bucket: OssBucket) -> None:
    dataset = from_prefix(bucket)
    assert [(a.name, b.name) for a, b in zip(dataset, dataset, strict=True)] == [(key, key) for key in KEYS]


def test_an_epoch_may_be_broken_off_and_begun_again(bucket: OssBucket) -> None:
    dataset = from_prefix(bucket)
    for item in dataset:
        assert item.name == KEYS[0]
        break
    assert keys(dataset) == KEYS


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda dataset: pickle.loads(pickle.dumps(dataset))])
def test_a_copy_reads_the_same_listing(
    bucket: OssBucket, duplicate: Callable[[OssIterableDataset], OssIterableDataset]
) -> None:
    dataset = from_prefix(bucket)
    assert keys(duplicate(dataset)) == keys(dataset) == KEYS
    assert requests(bucket, "ListObjectsV2") == 1


def test_a_client_may_stand_for_endpoint_and_access(bucket: OssBucket) -> None:
    client = OssClient(**bucket.options)
    assert keys(OssIterableDataset.from_prefix(bucket.uri + "images/", client)) == KEYS
    with pytest.raises(OssConfigError, match="a client has its credentials"):
        OssIterableDataset.from_prefix(bucket.uri, client, region="cn-test")


def test_named_objects_come_in_the_order_given_and_nothing_is_listed(bucket: OssBucket) -> None:
    names = [KEYS[3], KEYS[1], KEYS[3], "other/file"]
    uris = [f"oss://{bucket.name}/{names[0]}", f"/{bucket.name}/{names[1]}", *(bucket.uri + name for name in names[2:])]
    for given in (uris, iter(uris)):
        assert keys(OssIterableDataset.from_objects(given, **bucket.options)) == names
    assert keys(OssIterableDataset.from_objects(uris[0], **bucket.options)) == names[:1]
    assert keys(OssIterableDataset.from_objects([], **bucket.options)) == []
    assert requests(bucket, "ListObjectsV2") == 0


def test_a_missing_object_is_an_error_at_its_place(bucket: OssBucket) -> None:
    uris = [bucket.uri + key for key in [KEYS[0], "absent", KEYS[1]]]
    items = iter(OssIterableDataset.from_objects(uris, **bucket.options))
    assert next(items).name == KEYS[0]
    with pytest.raises(OssNotFoundError, match=f"{bucket.uri}absent") as caught:
        next(items)
    assert caught.value.code == "NoSuchKey"


def test_an_object_deleted_after_the_listing_is_an_error(bucket: OssBucket) -> None:
    dataset = from_prefix(bucket)
    assert len(keys(dataset)) == 25
    bucket.delete(KEYS[7])
    with pytest.raises(OssNotFoundError, match=KEYS[7]):
        keys(dataset)


def test_a_missing_bucket_is_an_error(oss_bucket: OssBucket) -> None:
    with pytest.raises(OssNotFoundError, match="NoSuchBucket"):
        keys(OssIterableDataset.from_prefix("oss://no-such-bucket/", **oss_bucket.options))


def test_a_prefix_of_nothing_is_an_empty_dataset_only_if_that_is_allowed(bucket: OssBucket) -> None:
    assert keys(from_prefix(bucket, "absent/", allow_empty=True)) == []
    with pytest.raises(OssNotFoundError, match="no object under"):
        keys(from_prefix(bucket, "absent/"))


def test_empty_objects_are_objects_and_folder_markers_are_counted(oss_bucket: OssBucket) -> None:
    for key in ("a/", "a/empty", "a/sub/", "a/sub/file", "b/"):
        oss_bucket.put(key, b"x" if key == "a/sub/file" else b"")
    oss_bucket.put("a/full/", b"an object in spite of its name")
    dataset = from_prefix(oss_bucket, "a/")
    assert [(item.name, len(item.read())) for item in dataset] == [("a/empty", 0), ("a/full/", 30), ("a/sub/file", 1)]
    assert dataset.skipped_folder_markers == 2
    kept = from_prefix(oss_bucket, "a/", keep_folder_markers=True)
    assert keys(kept) == ["a/", "a/empty", "a/full/", "a/sub/", "a/sub/file"]
    assert kept.skipped_folder_markers == 0


def test_more_objects_than_a_page_holds_are_listed_page_by_page(oss_bucket: OssBucket) -> None:
    oss_bucket.server.fill(oss_bucket.name, "many/{:05}", 1900, b"data")
    names = [f"many/{number:05}" for number in range(1900)]
    assert keys(from_prefix(oss_bucket, "many/")) == names
    assert requests(oss_bucket, "ListObjectsV2") == 2


def test_the_first_object_is_out_before_the_listing_is_done(oss_bucket: OssBucket) -> None:
    oss_bucket.server.fill(oss_bucket.name, "many/{:05}", 1100, b"data")
    oss_bucket.server.fail("ListObjectsV2", "stall", after=1)
    items = iter(from_prefix(oss_bucket, "many/"))
    assert [next(items).name for _ in range(10)] == [f"many/{number:05}" for number in range(10)]


HOSTILE = ["a b", "a+b", "a%20b", "a'\"b", "ключ/日本語", "a//b", "tab\tnew\nline", "x" * 1016, "a&b<c>", "\x01\x7f"]


def test_hostile_keys_come_through_listing_names_and_manifest(oss_bucket: OssBucket, tmp_path: Path) -> None:
    names = sorted((f"hostile/{key}"[:1023] for key in HOSTILE), key=str.encode)
    for name in names:
        oss_bucket.put(name, content(name))
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps({"key": name, "label": name}) + "\n" for name in names))
    datasets = [
        from_prefix(oss_bucket, "hostile/"),
        OssIterableDataset.from_objects([oss_bucket.uri + name for name in names], **oss_bucket.options),
        OssIterableDataset.from_manifest_file(manifest, jsonl_manifest_parser, oss_bucket.uri, **oss_bucket.options),
    ]
    for dataset in datasets:
        assert [(item.name, item.read()) for item in dataset] == [(name, content(name)) for name in names]


def manifest_text() -> str:
    return "".join(f"{key}\tlabel of {key}\n" for key in KEYS)


@pytest.mark.parametrize("place", ["local", "oss"])
def test_a_manifest_gives_objects_and_labels_in_its_order(bucket: OssBucket, tmp_path: Path, place: str) -> None:
    path: str | Path = tmp_path / "manifest"
    if place == "local":
        Path(path).write_text(manifest_text())
    else:
        path = bucket.put("manifest", manifest_text().encode())
    dataset = OssIterableDataset.from_manifest_file(path, imagenet_manifest_parser, bucket.uri, **bucket.options)
    for _ in range(2):
        assert [(item.name, item.label) for item in dataset] == [(key, f"label of {key}") for key in KEYS]
    assert requests(bucket, "ListObjectsV2") == 0
    assert requests(bucket, "GetObject") == 2 * len(KEYS) + (place == "oss")


def test_a_transform_makes_the_items(bucket: OssBucket) -> None:
    assert list(from_prefix(bucket, transform=methodcaller("read"))) == list(map(content, KEYS))


def test_an_error_of_the_transform_names_the_object_and_keeps_its_cause(bucket: OssBucket) -> None:
    def divide(data: DataObject) -> float:
        return 1 / (data.name != KEYS[4])

    items = iter(from_prefix(bucket, transform=divide))
    assert [next(items) for _ in range(4)] == [1.0] * 4
    with pytest.raises(
        OssTransformError, match=f"{bucket.uri}{KEYS[4]}: ZeroDivisionError: division by zero"
    ) as caught:
        next(items)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_transform_that_stops_iteration_does_not_end_the_epoch(bucket: OssBucket) -> None:
    with pytest.raises(OssTransformError, match="StopIteration"):
        list(from_prefix(bucket, transform=lambda data: next(iter([]))))


def test_an_oss_error_within_the_transform_stays_what_it_is(bucket: OssBucket) -> None:
    def slow(data: DataObject) -> None:
        raise OssTimeoutError("reading took too long")

    with pytest.raises(OssTimeoutError, match="^reading took too long$"):
        list(from_prefix(bucket, transform=slow))


def test_a_large_object_is_read_on_demand(oss_bucket: OssBucket) -> None:
    data = bytes(range(256)) * (17 * MIB // 256)
    oss_bucket.put("large", data)
    for dataset in (
        from_prefix(oss_bucket, "large"),
        OssIterableDataset.from_objects(oss_bucket.uri + "large", **oss_bucket.options),
    ):
        (item,) = dataset
        assert (item.size, item.key) == (17 * MIB, f"/{oss_bucket.name}/large")
        assert item.read() == data
        assert pickle.loads(pickle.dumps(item)).read(10) == b""


def test_a_small_object_of_unknown_size_takes_one_request(bucket: OssBucket) -> None:
    (item,) = OssIterableDataset.from_objects(bucket.uri + KEYS[0], **bucket.options)
    assert item.read() == content(KEYS[0])
    assert sum(bucket.server.counters().requests.values()) == 1


@pytest.mark.parametrize("source", ["prefix", "names"])
def test_an_empty_object_takes_one_request(oss_bucket: OssBucket, source: str) -> None:
    oss_bucket.put("empty", b"")
    if source == "names":
        dataset = OssIterableDataset.from_objects(oss_bucket.uri + "empty", **oss_bucket.options)
    else:
        dataset = OssIterableDataset.from_prefix(oss_bucket.uri, **oss_bucket.options)
    assert [(item.size, item.read()) for item in dataset] == [(0, b"")]
    requests = oss_bucket.server.counters().requests
    assert {name: requests[name] for name in requests if name != "ListObjectsV2"} == {"GetObject": 1}
    oss_bucket.put("empty", b"not any more")
    assert [item.read() for item in dataset] == [b"not any more"]
    oss_bucket.delete("empty")
    with pytest.raises(OssNotFoundError):
        list(dataset)


@pytest.mark.parametrize("size", [0, 10, 100_000])
def test_an_object_replaced_after_the_listing_is_read_as_it_is_now(bucket: OssBucket, size: int) -> None:
    dataset = from_prefix(bucket, KEYS[0])
    assert keys(dataset) == [KEYS[0]]
    bucket.put(KEYS[0], bytes(size))
    assert [item.read() for item in dataset] == [bytes(size)]


def test_requests_in_flight_are_as_many_as_configured(oss_bucket: OssBucket, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps(NO_LOGS | {"datasetConfig": {"prefetchConcurrency": 3, "prefetchWorker": 2}}))
    oss_bucket.server.fill(oss_bucket.name, "a/{:03}", 60, b"data")
    oss_bucket.server.fail("GetObject", "latency", seconds=0.01)
    assert len(keys(from_prefix(oss_bucket, "a/", config_path=str(config)))) == 60
    assert oss_bucket.server.counters().max_concurrency["GetObject"] == 3


def test_errors_of_the_server_are_mended_without_loss_or_repeat(bucket: OssBucket) -> None:
    bucket.server.fail("GetObject", "500", probability=0.3, seed=1)
    bucket.server.fail("ListObjectsV2", "503", times=1)
    assert keys(from_prefix(bucket)) == KEYS


def test_a_dropped_iterator_ends_the_listing_even_when_the_server_is_silent(oss_bucket: OssBucket) -> None:
    oss_bucket.server.fill(oss_bucket.name, "many/{:05}", 1100, b"")
    oss_bucket.server.fail("ListObjectsV2", "stall", after=1)
    items = iter(from_prefix(oss_bucket, "many/"))
    next(items)
    del items
    for thread in threading.enumerate():
        if thread.name == "oss-index":
            thread.join()
    oss_bucket.server.clear_faults()
    assert next(iter(from_prefix(oss_bucket, "many/"))).name == "many/00000"


def test_the_graph_of_pipes_gives_the_same_objects_from_the_same_listing(bucket: OssBucket) -> None:
    dataset = from_prefix(bucket, transform=attrgetter("name"))
    assert list(dataset.datapipe()) == list(dataset) == KEYS
    assert list(dataset.datapipe().map(len)) == list(map(len, KEYS))
    assert requests(bucket, "ListObjectsV2") == 1


@pytest.mark.parametrize("uri", ["bucket/key", "oss:/bucket", "http://bucket/key", "oss://", "oss://B_ucket/x", "", 3])
def test_a_malformed_prefix_is_refused_before_any_request(oss_bucket: OssBucket, uri: Any) -> None:
    with pytest.raises(OssUriError):
        OssIterableDataset.from_prefix(uri, **oss_bucket.options)


@pytest.mark.parametrize("uris", [["oss://bucket/a", "oss://bucket/"], "bucket", [3], ["oss://b/x"]])
def test_a_malformed_name_is_refused_before_any_request(oss_bucket: OssBucket, uris: Any) -> None:
    with pytest.raises(OssUriError):
        OssIterableDataset.from_objects(uris, **oss_bucket.options)


def test_names_that_are_no_names_are_refused(oss_bucket: OssBucket) -> None:
    with pytest.raises(OssConfigError, match="object_uris"):
        OssIterableDataset.from_objects(7, **oss_bucket.options)  # type: ignore[arg-type]


def test_a_transform_or_parser_that_can_not_be_called_is_refused(oss_bucket: OssBucket) -> None:
    with pytest.raises(OssConfigError, match="transform"):
        from_prefix(oss_bucket, transform="resize")
    with pytest.raises(OssConfigError, match="manifest_parser"):
        OssIterableDataset.from_manifest_file("m", None, oss_bucket.uri, **oss_bucket.options)  # type: ignore[arg-type]


def test_a_wrong_manifest_line_is_named_when_it_is_reached(bucket: OssBucket, tmp_path: Path) -> None:
    path = tmp_path / "manifest"
    path.write_text(f"{KEYS[0]}\tone\n\ttwo\n")
    dataset = OssIterableDataset.from_manifest_file(path, imagenet_manifest_parser, bucket.uri, **bucket.options)
    with pytest.raises(OssManifestError, match=f"{path}, line 2"):
        list(dataset)


def test_connections_are_opened_while_the_prefix_is_listed_and_not_again(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**NO_LOGS, "datasetConfig": {"prefetchConcurrency": 30}}))
    with emulator.serve(buckets=["b-1"]) as oss:  # a server of its own: clients of other tests are still connected
        oss.fill("b-1", "key-{}", 10)
        access = {"cred_path": oss.credentials_file(tmp_path), "region": oss.region, "config_path": str(config)}
        dataset = OssIterableDataset.from_prefix("oss://b-1/", oss.endpoint, **access)
        assert len(list(dataset)) == 10
        with_ours = 31  # the one that asks for the counters is counted, too
        while oss.counters().open_connections < with_ours:  # more than there are objects
            pass
        list(dataset)
        # Another 30 would be open if they were opened again. A few may be: a request waits for a new one only as long
        # as none becomes free.
        assert oss.counters().open_connections < with_ours + 20
