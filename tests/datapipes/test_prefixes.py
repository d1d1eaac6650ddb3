"""Prefixes that are probably mistakes: an error or a line in the log, never a silent epoch of nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from torch.utils.data import DataLoader
from torch.utils.data.datapipes.iter import IterableWrapper

from osstorchconnector.client.client import OssClient
from osstorchconnector.datapipes import OssObjectLister, OssObjectNames
from osstorchconnector.datapipes.lister import described_near
from osstorchconnector.datasets import OssIterableDataset, OssMapDataset
from osstorchconnector.errors import OssNotFoundError, OssTransformError
from osstorchconnector.index.filters import Filter
from osstorchconnector.protocol.values import ListPage
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import OssUri

KEYS = ["data/train/a", "data/train/b", "data/train-old/a", "data/val/a", "data/empty/", "Upper/a"]


@pytest.fixture
def bucket(oss_bucket: OssBucket) -> OssBucket:
    for key in KEYS:
        oss_bucket.put(key, b"" if key.endswith("/") else b"x")
    return oss_bucket


def listings(bucket: OssBucket) -> int:
    return bucket.server.counters().requests.get("ListObjectsV2", 0)


def error_of(work: Callable[[], Any]) -> str:
    with pytest.raises(OssNotFoundError) as caught:
        work()
    assert isinstance(caught.value, FileNotFoundError)
    return str(caught.value)


@pytest.mark.parametrize(
    ("prefix", "hint"),
    [
        ("data/trian/", "did you mean oss://{}/data/train/?"),
        ("data/Train/", "did you mean oss://{}/data/train/?"),
        ("data/0123456789/", "under oss://{}/data/ there are empty/, train-old/, train/, val/ ("),
        ("date/train/", "and none under oss://{}/date/ ("),
        ("upper/", "did you mean oss://{}/Upper/?"),
        ("data/train/a/", "did you mean oss://{}/data/train/a?"),
        ("data/train/c/", "; under oss://{}/data/train/ there are a, "),
        ("nothing/like/it", "and none under oss://{}/nothing/like/ ("),
        ("data/empty/", "only markers of folders (1), which keep_folder_markers=True keeps ("),
    ],
)
def test_a_prefix_without_objects_is_an_error_that_says_what_was_meant(
    bucket: OssBucket, prefix: str, hint: str
) -> None:
    text = error_of(lambda: list(OssIterableDataset.from_prefix(bucket.uri + prefix, **bucket.options)))
    assert f"no object under oss://{bucket.name}/{prefix}" in text
    assert hint.format(bucket.name) in text
    assert "allow_empty=True" in text
    assert listings(bucket) == (1 if prefix == "data/empty/" else 2)


def test_an_empty_bucket_is_called_so(oss_bucket: OssBucket) -> None:
    text = error_of(lambda: len(OssMapDataset.from_prefix(oss_bucket.uri, **oss_bucket.options)))
    assert "the bucket is empty" in text


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("workers", [0, 2])
def test_it_is_one_in_every_kind_of_reading(bucket: OssBucket, tmp_path: Any, workers: int, fast: bool) -> None:
    config = tmp_path / "config.json"
    config.write_text(f'{{"logPath": "", "auditPath": "", "datasetConfig": {{"enableFastList": {str(fast).lower()}}}}}')
    options: Any = {**bucket.options, "config_path": str(config)}
    uri = bucket.uri + "data/trian/"
    client = OssClient(**options)
    graph: Any = OssObjectLister(uri, client).shard_oss_objects().fetch_oss_objects(client)
    for made in (OssIterableDataset.from_prefix(uri, **options), graph, graph.to_dataset()):
        assert "did you mean" in error_of(lambda made=made: list(DataLoader(made, num_workers=workers)))
    assert "did you mean" in error_of(lambda: list(OssObjectLister(IterableWrapper([uri]), client)))
    assert "did you mean" in error_of(lambda: OssMapDataset.from_prefix(uri, **options)[0])


def test_one_of_several_prefixes_is_enough(bucket: OssBucket) -> None:
    client = OssClient(**bucket.options)
    prefixes = [bucket.uri + prefix for prefix in ("data/train/", "data/trian/", "data/val/")]
    infos = iter(OssObjectLister(prefixes, client))
    assert [next(infos).uri.key for _ in range(2)] == KEYS[:2]
    assert "data/trian/" in error_of(lambda: next(infos))
    lister = OssObjectLister(prefixes, client, allow_empty=True)
    assert [info.uri.key for info in lister] == ["data/train/a", "data/train/b", "data/val/a"]


def test_an_empty_prefix_may_be_allowed(bucket: OssBucket) -> None:
    for kind in (OssIterableDataset, OssMapDataset):
        dataset: Any = kind.from_prefix(bucket.uri + "data/trian/", **bucket.options, allow_empty=True)
        assert list(dataset) == []


def test_it_is_listed_again_when_objects_may_have_come(bucket: OssBucket) -> None:
    dataset = OssIterableDataset.from_prefix(bucket.uri + "late/", **bucket.options)
    error_of(lambda: list(dataset))
    bucket.put("late/a", b"x")
    assert [item.name for item in dataset] == ["late/a"]


def test_a_hint_that_can_not_be_had_is_left_out() -> None:
    assert described_near("a/", OssUri("b", ""), None) == ""


@pytest.mark.parametrize(("name", "is_meant"), [("zzz/", False), ("ckpt/", False), ("trian/", True), ("Vali/", True)])
def test_what_all_names_of_a_deep_folder_begin_with_does_not_make_them_alike(name: str, is_meant: bool) -> None:
    parent = OssUri("b", "datasets/2024/imagenet-processed/")
    page = ListPage([], [parent.key + "train/", parent.key + "val/"], "")
    assert ("did you mean" in described_near(parent.key + name, parent, page)) == is_meant


def test_many_names_are_not_all_told() -> None:
    page = ListPage([], [f"folder-{number}/" for number in range(9)], "")
    assert described_near("x", OssUri("b", ""), page).endswith("folder-4/, ...")


@pytest.mark.parametrize(
    ("prefix", "count", "is_told"),
    [
        ("data/train", 3, True),
        ("data/train/", 2, False),
        ("data/train-", 1, False),
        ("data/v", 1, False),
        ("data", 4, False),
        ("", 5, False),
    ],
)
def test_a_prefix_that_takes_in_siblings_is_told_once(
    bucket: OssBucket, caplog: pytest.LogCaptureFixture, prefix: str, count: int, is_told: bool
) -> None:
    with caplog.at_level(logging.WARNING):
        dataset = OssMapDataset.from_prefix(bucket.uri + prefix, **bucket.options)
        assert [len(dataset), len(dataset)] == [count, count]
    told = [record.getMessage() for record in caplog.records if "also takes" in record.getMessage()]
    assert len(told) == is_told
    if told:
        assert "data/train-old/a" in told[0]


@pytest.mark.parametrize(("filter", "is_told"), [("jpg", False), ("idx", True), (lambda info: True, True)])
def test_a_sibling_that_the_filter_leaves_out_is_not_told(
    oss_bucket: OssBucket, caplog: pytest.LogCaptureFixture, filter: Filter, is_told: bool
) -> None:
    for key in ("train.idx", "train/a.jpg", "train/b.jpg"):
        oss_bucket.put(key, b"x")
    with caplog.at_level(logging.WARNING):
        assert len(OssMapDataset.from_prefix(oss_bucket.uri + "train", **oss_bucket.options, filter=filter)) > 0
    assert ("also takes" in caplog.text) == is_told


def test_a_filter_that_fails_on_a_sibling_is_the_same_error_as_on_others(oss_bucket: OssBucket) -> None:
    for key in ("train.idx", "train/a.jpg"):
        oss_bucket.put(key, b"x")
    dataset = OssMapDataset.from_prefix(oss_bucket.uri + "train", **oss_bucket.options, filter=lambda info: 1 // 0)
    with pytest.raises(OssTransformError, match=r"the filter failed on .*train\.idx"):
        len(dataset)


def test_a_folder_in_the_midst_of_a_page_is_seen(oss_bucket: OssBucket, caplog: pytest.LogCaptureFixture) -> None:
    for key in ("train-old/a", "train/a", "train2/a"):
        oss_bucket.put(key, b"x")
    with caplog.at_level(logging.WARNING):
        assert len(OssMapDataset.from_prefix(oss_bucket.uri + "train", **oss_bucket.options)) == 3
    assert "also takes" in caplog.text


def test_a_filter_that_leaves_nothing_is_told(bucket: OssBucket, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert list(OssIterableDataset.from_prefix(bucket.uri + "data/", **bucket.options, filter=".jpg")) == []
        assert "leaves none of 4 objects" in caplog.text
        caplog.clear()
        assert list(OssObjectNames([bucket.uri + "x"], filter=".jpg")) == []
        assert "leaves none of 1 objects" in caplog.text
        caplog.clear()
        assert len(OssMapDataset.from_prefix(bucket.uri + "data/", **bucket.options, filter="b")) == 1
    assert caplog.text == ""
