from __future__ import annotations

import json
from bisect import bisect_right
from concurrent.futures import Future
from itertools import pairwise
from operator import attrgetter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from osstorchconnector.client.key_space import EvenCuts, even_cuts
from osstorchconnector.client.paging import parallel_pages
from osstorchconnector.datasets import OssIterableDataset
from osstorchconnector.errors import OssNotFoundError
from osstorchconnector.protocol.values import ListedObject, ListPage
from osstorchconnector.testing import OssBucket

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
DIGITS = st.text("0123456789/ab", max_size=5)


class Listing:
    """A sorted list of keys that answers as a bucket does, at once, or when it is asked for the last of several."""

    def __init__(self, keys: list[str], page_keys: int) -> None:
        self.keys, self.page_keys, self.asked = sorted(keys), page_keys, 0

    def __call__(self, after: str) -> Future[ListPage]:
        self.asked += 1
        start = bisect_right(self.keys, after) if after else 0
        found = self.keys[start : start + self.page_keys]
        more = "token" if start + self.page_keys < len(self.keys) else ""
        future: Future[ListPage] = Future()
        future.set_result(ListPage([ListedObject(key, 1, "", "") for key in found], [], more))
        return future


def listed(listing: Listing, prefix: str, concurrency: int, start_after: str = "") -> list[str]:
    pages = list(parallel_pages(listing, prefix, start_after=start_after, concurrency=concurrency, cuts=EvenCuts()))
    assert [bool(page.next_token) for page in pages] == [True] * (len(pages) - 1) + [False]
    return [found.key for page in pages for found in page.objects]


@given(st.sets(TEXT | DIGITS, max_size=60), TEXT, st.integers(1, 5), st.integers(1, 9), TEXT)
def test_each_key_comes_once_in_order_however_it_is_cut(
    tails: set[str], prefix: str, page_keys: int, concurrency: int, start: str
) -> None:
    keys = sorted(prefix + tail for tail in tails if prefix + tail)
    assert listed(Listing(keys, page_keys), prefix, concurrency) == keys
    behind = [key for key in keys if key > prefix + start]
    assert listed(Listing(keys, page_keys), prefix, concurrency, prefix + start) == (behind if prefix + start else keys)


@given(TEXT, TEXT, st.integers(1, 9))
def test_cuts_lie_between(low: str, high: str, count: int) -> None:
    low, high = sorted([low, high])
    if low == high:
        high += "x"
    found = [low, *even_cuts(low, high, "", count), high]
    assert all(a < b for a, b in pairwise(found))


def test_many_keys_do_not_take_many_more_requests() -> None:
    keys = [f"images/{number:08}.png" for number in range(20_000)]
    listing = Listing(keys, 100)
    assert listed(listing, "images/", 16) == keys
    assert listing.asked < 2 * 200 + 100


def config_of(folder: Path, **settings: object) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps({"datasetConfig": {"enableFastList": True, **settings}}))
    return str(path)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_prefix_is_listed_in_parallel_with_the_same_order(
    oss_bucket: OssBucket, tmp_path: Path, workers: int
) -> None:
    oss_bucket.server.fill(oss_bucket.name, "many/{:05}", 6000, b"x")
    oss_bucket.server.fail("ListObjectsV2", "latency", seconds=0.05)
    dataset = OssIterableDataset.from_prefix(
        oss_bucket.uri + "many/",
        **oss_bucket.options,
        transform=attrgetter("name"),
        config_path=config_of(tmp_path, listConcurrency=6, listWorker=2),
        filter="0",
    )
    names = [f"many/{number:05}" for number in range(0, 6000, 10)]
    assert sorted(DataLoader(dataset, batch_size=None, num_workers=workers)) == names
    assert list(dataset) == names
    counters = oss_bucket.server.counters()
    assert 1 < counters.max_concurrency["ListObjectsV2"] <= 6
    assert counters.requests["ListObjectsV2"] < 40


def test_an_error_of_a_request_is_the_listings_error(oss_bucket: OssBucket, tmp_path: Path) -> None:
    options = {**oss_bucket.options, "config_path": config_of(tmp_path)}
    with pytest.raises(OssNotFoundError, match="NoSuchBucket"):
        list(OssIterableDataset.from_prefix("oss://no-such-bucket/", **options))


def test_breaking_off_leaves_a_listing_that_goes_on(oss_bucket: OssBucket, tmp_path: Path) -> None:
    oss_bucket.server.fill(oss_bucket.name, "many/{:05}", 4000, b"x")
    dataset = OssIterableDataset.from_prefix(
        oss_bucket.uri, **oss_bucket.options, config_path=config_of(tmp_path), filter=("000", "999")
    )
    for _ in range(2):
        assert next(iter(dataset)).name == "many/00000"
    assert [item.name for item in dataset] == [f"many/{n:05}" for n in range(4000) if n % 1000 in (0, 999)]
