"""Which objects count, what happens to those that can't be read, and indexes that are kept."""

from __future__ import annotations

import json
import logging
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from osstorchconnector.datapipes.manifest import imagenet_manifest_parser, jsonl_manifest_parser
from osstorchconnector.datasets import OssIterableDataset, OssMapDataset
from osstorchconnector.errors import (
    OssConfigError,
    OssError,
    OssNotFoundError,
    OssPermissionError,
    OssTransformError,
    OssUsageError,
)
from osstorchconnector.index.info import ObjectInfo
from osstorchconnector.testing import OssBucket

KEYS = [f"a/{number:02}{'.png' if number % 3 else '.txt'}" for number in range(12)]
NAME = attrgetter("name")


@pytest.fixture
def bucket(oss_bucket: OssBucket) -> OssBucket:
    for number, key in enumerate(KEYS):
        oss_bucket.put(key, bytes(number))
    return oss_bucket


def dataset_of(bucket: OssBucket, **options: Any) -> OssIterableDataset:
    return OssIterableDataset.from_prefix(bucket.uri + "a/", **bucket.options, transform=NAME, **options)


def gets(bucket: OssBucket) -> int:
    return bucket.server.counters().requests.get("GetObject", 0)


def is_even(info: ObjectInfo) -> bool:
    return int(info.uri.key[2:4]) % 2 == 0


@pytest.mark.parametrize(
    ("filter_", "kept"),
    [
        (".png", [key for key in KEYS if key.endswith(".png")]),
        ((".txt", "1.png"), [key for key in KEYS if key.endswith((".txt", "1.png"))]),
        (range(3, 6), KEYS[3:6]),
        (is_even, KEYS[::2]),
        (lambda info: info.size > 100, []),
    ],
)
def test_a_filter_says_which_objects_count_before_any_is_fetched(
    bucket: OssBucket, filter_: Any, kept: list[str]
) -> None:
    assert list(dataset_of(bucket, filter=filter_)) == kept
    assert gets(bucket) == len(kept)
    objects = OssMapDataset.from_prefix(bucket.uri + "a/", **bucket.options, transform=NAME, filter=filter_)
    assert [objects[number] for number in range(len(objects))] == kept


def test_names_and_manifests_are_filtered_too(bucket: OssBucket, tmp_path: Path) -> None:
    named = OssIterableDataset.from_objects([bucket.uri + key for key in KEYS], **bucket.options, filter=is_even)
    path = tmp_path / "manifest"
    path.write_text("".join(f"{key}\t{number}\n" for number, key in enumerate(KEYS)))
    listed = OssIterableDataset.from_manifest_file(
        path, imagenet_manifest_parser, bucket.uri, **bucket.options, filter=lambda info: int(info.label) > 9
    )
    assert [item.name for item in named] == KEYS[::2]
    assert [(item.name, item.label) for item in listed] == [(KEYS[10], "10"), (KEYS[11], "11")]


def test_a_filtered_dataset_shares_out_and_shuffles_what_is_left(bucket: OssBucket) -> None:
    dataset = dataset_of(bucket, filter=is_even, shuffle=True)
    assert sorted(DataLoader(dataset, batch_size=None, num_workers=2)) == KEYS[::2]


@pytest.mark.parametrize("wrong", [3, "", [], [3], b".png"])
def test_what_is_no_filter_is_refused(bucket: OssBucket, wrong: Any) -> None:
    with pytest.raises(OssConfigError, match="filter"):
        dataset_of(bucket, filter=wrong)


def test_a_filter_that_fails_names_the_object(bucket: OssBucket) -> None:
    with pytest.raises(OssTransformError, match=rf"filter failed on {bucket.uri}{KEYS[0]}: ZeroDivisionError"):
        list(dataset_of(bucket, filter=lambda info: 1 / info.size))
    with pytest.raises(OssUsageError, match="size of .* is not known"):
        OssIterableDataset.from_objects(bucket.uri + KEYS[0], **bucket.options, filter=range(5))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_can_not_be_read_may_be_left_out_logged_and_counted(
    bucket: OssBucket, caplog: pytest.LogCaptureFixture, workers: int
) -> None:
    dataset = dataset_of(bucket, on_error="skip")
    assert len(list(dataset)) == 12
    for key in KEYS[3:5]:
        bucket.delete(key)
    with caplog.at_level(logging.WARNING):
        found = list(DataLoader(dataset, batch_size=None, num_workers=workers))
    assert sorted(found) == KEYS[:3] + KEYS[5:]
    assert dataset.skipped_objects == 2
    if not workers:
        assert [f"{bucket.uri}{key}" in caplog.text for key in KEYS[3:5]] == [True] * 2


def test_the_graph_of_pipes_leaves_out_as_its_dataset_does(bucket: OssBucket) -> None:
    dataset = dataset_of(bucket, on_error="skip")
    assert len(list(dataset)) == 12
    bucket.delete(KEYS[3])
    pipe: Any = dataset.datapipe()
    assert list(pipe) == KEYS[:3] + KEYS[4:]
    assert pipe.skipped_objects == 1


@pytest.mark.parametrize("workers", [0, 2])
def test_a_map_dataset_leaves_out_of_its_batches_what_can_not_be_read(bucket: OssBucket, workers: int) -> None:
    dataset = OssMapDataset.from_prefix(bucket.uri + "a/", **bucket.options, transform=NAME, on_error="skip")
    assert len(dataset) == 12
    bucket.delete(KEYS[3])
    loader = DataLoader(dataset, batch_size=4, num_workers=workers)
    assert list(loader) == [KEYS[:3], KEYS[4:8], KEYS[8:]]
    assert list(dataset) == KEYS[:3] + KEYS[4:]
    assert dataset.skipped_objects == 2
    with pytest.raises(OssNotFoundError, match=KEYS[3]):
        dataset[3]


def test_what_was_left_out_counts_as_consumed(bucket: OssBucket) -> None:
    dataset = dataset_of(bucket, on_error="skip")
    assert len(list(dataset)) == 12
    bucket.delete(KEYS[1])
    items = iter(dataset)
    assert [next(items), next(items)] == [KEYS[0], KEYS[2]]
    later = dataset_of(bucket, on_error="skip")
    assert dataset.state_dict()["consumed"] == 3
    dataset.load_state_dict(dataset.state_dict())
    assert list(dataset) == KEYS[3:]
    assert list(later) == [KEYS[0], *KEYS[2:]]


def test_a_function_may_decide_what_is_left_out(bucket: OssBucket) -> None:
    seen: list[tuple[str, type[OssError]]] = []

    def note(info: ObjectInfo, error: OssError) -> None:
        seen.append((info.uri.key, type(error)))
        if len(seen) > 1:
            raise error

    uris = [bucket.uri + key for key in ["x", KEYS[0], "y", KEYS[1]]]
    items = iter(OssIterableDataset.from_objects(uris, **bucket.options, on_error=note, transform=NAME))
    assert next(items) == KEYS[0]
    with pytest.raises(OssNotFoundError):
        next(items)
    assert seen == [("x", OssNotFoundError), ("y", OssNotFoundError)]


def stand_in(info: ObjectInfo, error: OssError) -> str:
    """Return what takes the place of a missing object."""
    assert isinstance(error, OssNotFoundError)
    return f"instead of {info.uri.key}"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_function_may_put_something_in_the_place_of_an_object(bucket: OssBucket, workers: int) -> None:
    options = {**bucket.options, "transform": NAME, "on_error": stand_in}
    dataset = OssMapDataset.from_prefix(bucket.uri + "a/", **options)
    assert len(dataset) == 12
    stream: Any = OssIterableDataset.from_index(saved(dataset, bucket), **options)
    bucket.delete(KEYS[3])
    expected = [*KEYS[:3], f"instead of {KEYS[3]}", *KEYS[4:]]
    loader = DataLoader(dataset, batch_size=4, num_workers=workers)
    assert list(loader) == [expected[:4], expected[4:8], expected[8:]]
    assert list(dataset) == expected
    assert dataset.__getitems__(indices=[3, 0]) == [expected[3], KEYS[0]]
    assert dataset.__getitem__(i=3) == expected[3]
    assert dataset.skipped_objects == 4
    assert sorted(DataLoader(stream, batch_size=None, num_workers=workers)) == sorted(expected)
    items = iter(stream)
    assert [next(items) for _ in range(5)] == expected[:5]
    assert stream.state_dict()["consumed"] == 5
    stream.load_state_dict(stream.state_dict())
    assert list(stream) == expected[5:]


def saved(dataset: OssMapDataset, bucket: OssBucket) -> str:
    dataset.save_index(bucket.uri + "kept/index")
    return bucket.uri + "kept/index"


def test_a_single_object_for_which_there_is_no_substitute_raises_its_error(bucket: OssBucket) -> None:
    seen: list[ObjectInfo] = []
    uris = [bucket.uri + "x", bucket.uri + KEYS[0]]
    dataset = OssMapDataset.from_objects(uris, **bucket.options, on_error=lambda info, _: seen.append(info))
    with pytest.raises(OssNotFoundError):
        dataset[0]
    assert [info.uri.key for info in seen] == ["x"]
    assert [item.name for item in dataset[[0, 1]]] == [KEYS[0]]
    assert dataset.skipped_objects == 2


def test_mistakes_are_never_left_out(bucket: OssBucket, tmp_path: Path) -> None:
    cred_path = tmp_path / "credentials.json"
    credentials = json.loads(Path(bucket.cred_path).read_text())
    cred_path.write_text(json.dumps({**credentials, "AccessKeySecret": "another"}))
    cred_path.chmod(0o600)
    with pytest.raises(OssTransformError):
        list(OssIterableDataset.from_prefix(bucket.uri, **bucket.options, transform=len, on_error="skip"))
    with pytest.raises(OssNotFoundError, match="NoSuchBucket"):
        list(OssIterableDataset.from_prefix("oss://no-such-bucket/", **bucket.options, on_error="skip"))
    with pytest.raises(OssNotFoundError, match="NoSuchBucket"):
        list(OssIterableDataset.from_objects("oss://no-such-bucket/a", **bucket.options, on_error="skip"))
    options = {**bucket.options, "cred_path": str(cred_path)}
    with pytest.raises(OssPermissionError, match="SignatureDoesNotMatch"):
        list(OssIterableDataset.from_objects(bucket.uri + KEYS[0], **options, on_error="skip"))
    with pytest.raises(OssConfigError, match="on_error"):
        dataset_of(bucket, on_error="ignore")


@pytest.mark.parametrize("place", ["local", "oss"])
def test_a_saved_index_spares_the_listing(bucket: OssBucket, tmp_path: Path, place: str) -> None:
    where = bucket.uri + "kept/index" if place == "oss" else tmp_path / "index"
    dataset_of(bucket, filter=".png").save_index(where)
    bucket.put("a/99.png", b"came later")
    bucket.server.reset_counters()
    for kind in (OssIterableDataset, OssMapDataset):
        dataset: Any = kind.from_index(where, **bucket.options)
        items = list(DataLoader(dataset, batch_size=None, num_workers=2))
        assert [item.name for item in items] == [key for key in KEYS if key.endswith(".png")]
    assert "ListObjectsV2" not in bucket.server.counters().requests
    assert [path.name for path in tmp_path.iterdir()] == ([] if place == "oss" else ["index"])


def test_a_saved_index_keeps_sizes_and_labels_and_more_rows_than_a_block(bucket: OssBucket, tmp_path: Path) -> None:
    manifest, where = tmp_path / "manifest", tmp_path / "index"
    entries = [{"key": f"a/ключ {number}", "label": {"n": [number, None]}} for number in range(2500)]
    manifest.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    options = {**bucket.options}
    OssMapDataset.from_manifest_file(manifest, jsonl_manifest_parser, bucket.uri, **options).save_index(where)
    loaded = OssMapDataset.from_index(where, **options)
    assert len(loaded) == 2500
    pipe: Any = loaded.datapipe()
    infos = [pipe._source[number] for number in (0, 999, 1000, 2499)]
    assert [(info.uri.key, info.label) for info in infos] == [
        (entries[number]["key"], entries[number]["label"]) for number in (0, 999, 1000, 2499)
    ]
    names = OssIterableDataset.from_objects([bucket.uri + key for key in KEYS], **options, transform=NAME)
    names.save_index(where)
    assert list(OssIterableDataset.from_index(where, **options, transform=NAME, shuffle=True, filter=is_even)) != KEYS


@pytest.mark.parametrize("damage", ["other", "cut", "garbled"])
def test_a_damaged_index_is_an_error(bucket: OssBucket, tmp_path: Path, damage: str) -> None:
    where = tmp_path / "index"
    dataset_of(bucket).save_index(where)
    data = where.read_bytes()
    where.write_bytes({"other": b"x" + data[1:], "cut": data[:-5], "garbled": data[:8] + bytes(len(data))}[damage])
    with pytest.raises(OssError, match="saved index"):
        list(OssIterableDataset.from_index(where, **bucket.options))
    with pytest.raises(OssConfigError, match="can't be opened"):
        list(OssIterableDataset.from_index(tmp_path / "absent", **bucket.options))
    with pytest.raises(OssConfigError, match="can't be saved"):
        dataset_of(bucket).save_index(tmp_path / "absent" / "index")
