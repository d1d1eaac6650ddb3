from __future__ import annotations

import pickle
from operator import attrgetter, methodcaller
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import Subset

from osstorchconnector.datapipes.manifest import imagenet_manifest_parser
from osstorchconnector.datasets import OssMapDataset
from osstorchconnector.errors import OssConfigError, OssNotFoundError, OssTransformError
from osstorchconnector.testing import OssBucket

KEYS = [f"images/{number:02}.png" for number in range(12)]


@pytest.fixture
def dataset(bucket: OssBucket) -> OssMapDataset:
    return OssMapDataset.from_prefix(bucket.uri + "images/", **bucket.options)


def requests(bucket: OssBucket, operation: str) -> int:
    return bucket.server.counters().requests.get(operation, 0)


def test_objects_have_numbers_in_listing_order(bucket: OssBucket, dataset: OssMapDataset) -> None:
    assert len(dataset) == 12
    assert [dataset[number].name for number in range(12)] == KEYS
    assert [dataset[number].read() for number in (-1, -12)] == [KEYS[11].encode(), KEYS[0].encode()]
    assert requests(bucket, "ListObjectsV2") == 1
    assert requests(bucket, "GetObject") == 14


def test_an_item_is_a_context_manager(dataset: OssMapDataset) -> None:
    with dataset[5] as item:
        assert item.size == len(item.read())
    assert item.closed


@pytest.mark.parametrize("number", [12, -13, 10**12])
def test_a_number_beyond_the_end_is_an_index_error(dataset: OssMapDataset, number: int) -> None:
    with pytest.raises(IndexError, match=f"no object {number}: the dataset has 12"):
        dataset[number]


def test_a_slice_is_refused_with_what_to_do_instead(dataset: OssMapDataset) -> None:
    with pytest.raises(TypeError, match="Subset"):
        dataset[1:3]  # type: ignore[index]
    assert [item.name for item in Subset(dataset, range(1, 3))] == KEYS[1:3]


@pytest.mark.parametrize("number", ["1", 1.0, None, ["1"], [None], {1}, (1, 2)])
def test_what_is_no_number_is_a_type_error(dataset: OssMapDataset, number: Any) -> None:
    with pytest.raises(TypeError):
        dataset[number]


def test_whatever_counts_as_an_integer_is_a_number(dataset: OssMapDataset) -> None:
    assert dataset[torch.tensor(3)].name == KEYS[3]  # type: ignore[index]


def test_a_batch_is_fetched_in_parallel_and_comes_in_its_order(bucket: OssBucket, dataset: OssMapDataset) -> None:
    bucket.server.fail("GetObject", "latency", seconds=0.5)
    numbers = [7, 0, -1, 7]
    assert [item.read() for item in dataset.__getitems__(numbers)] == [KEYS[number].encode() for number in numbers]
    assert bucket.server.counters().max_concurrency["GetObject"] == 4
    assert dataset.__getitems__([]) == []


def test_a_batch_with_a_missing_object_is_an_error(bucket: OssBucket, dataset: OssMapDataset) -> None:
    assert len(dataset) == 12
    bucket.delete(KEYS[3])
    with pytest.raises(OssNotFoundError, match=KEYS[3]):
        dataset.__getitems__([2, 3, 4])
    with pytest.raises(OssNotFoundError, match=KEYS[3]):
        dataset[3]


def test_it_may_be_iterated_over_again_and_again(bucket: OssBucket, dataset: OssMapDataset) -> None:
    for _ in range(2):
        assert [item.name for item in dataset] == KEYS
    assert requests(bucket, "ListObjectsV2") == 1


def test_a_transform_makes_the_items_however_they_are_asked_for(bucket: OssBucket) -> None:
    dataset = OssMapDataset.from_prefix(bucket.uri + "images/", **bucket.options, transform=methodcaller("read"))
    contents = [key.encode() for key in KEYS]
    assert list(dataset) == [dataset[number] for number in range(12)] == dataset.__getitems__(range(12)) == contents


def test_an_error_of_the_transform_names_the_object(bucket: OssBucket) -> None:
    dataset = OssMapDataset.from_prefix(bucket.uri + "images/", **bucket.options, transform=attrgetter("colour"))
    for ask in (lambda: dataset[2], lambda: dataset.__getitems__([2])):
        with pytest.raises(OssTransformError, match=f"{bucket.uri}{KEYS[2]}") as caught:
            ask()
        assert isinstance(caught.value.__cause__, AttributeError)


def test_labels_come_from_a_manifest(bucket: OssBucket, tmp_path: Path) -> None:
    path = tmp_path / "manifest"
    path.write_text("".join(f"{key}\tlabel of {key}\n" for key in reversed(KEYS)))
    dataset = OssMapDataset.from_manifest_file(path, imagenet_manifest_parser, bucket.uri, **bucket.options)
    assert (len(dataset), dataset[0].name, dataset[0].label) == (12, KEYS[11], f"label of {KEYS[11]}")


def test_named_objects_are_counted_without_a_request(bucket: OssBucket) -> None:
    dataset = OssMapDataset.from_objects([bucket.uri + key for key in KEYS[:3]], **bucket.options)
    assert len(dataset) == 3
    assert bucket.server.counters().requests == {}
    assert dataset[1].name == KEYS[1]


def test_an_empty_dataset_has_no_items(oss_bucket: OssBucket) -> None:
    dataset = OssMapDataset.from_prefix(oss_bucket.uri, **oss_bucket.options, allow_empty=True)
    assert (len(dataset), list(dataset)) == (0, [])
    with pytest.raises(IndexError):
        dataset[0]


def test_a_large_object_is_read_on_demand(oss_bucket: OssBucket) -> None:
    data = bytes(range(256)) * (17 << 12)
    oss_bucket.put("large", data)
    dataset = OssMapDataset.from_prefix(oss_bucket.uri, **oss_bucket.options)
    assert dataset[0].read() == data


def test_a_copy_reads_the_same_listing(bucket: OssBucket, dataset: OssMapDataset) -> None:
    assert len(pickle.loads(pickle.dumps(dataset))) == len(dataset) == 12
    assert requests(bucket, "ListObjectsV2") == 1


def test_the_graph_of_pipes_gives_the_same_objects(bucket: OssBucket) -> None:
    dataset = OssMapDataset.from_prefix(bucket.uri + "images/", **bucket.options, transform=attrgetter("name"))
    pipe = dataset.datapipe()
    assert len(pipe) == 12  # type: ignore[arg-type]
    assert [pipe[number] for number in range(12)] == KEYS
    assert list(pipe.map(len)) == list(map(len, KEYS))


def test_a_transform_that_can_not_be_called_is_refused(oss_bucket: OssBucket) -> None:
    with pytest.raises(OssConfigError, match="transform"):
        OssMapDataset.from_prefix(oss_bucket.uri, **oss_bucket.options, transform=3)  # type: ignore[arg-type]
