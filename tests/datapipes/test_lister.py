from __future__ import annotations

import copy
import pickle

import pytest
from torch.utils.data.datapipes.iter import IterableWrapper
from torch.utils.data.graph import traverse_dps

from osstorchconnector.client.client import OssClient
from osstorchconnector.datapipes.lister import OssObjectLister, OssObjectNames, PrefixListing
from osstorchconnector.errors import OssConfigError, OssUriError
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import OssUri, parse_uri


@pytest.fixture
def bucket(oss_bucket: OssBucket) -> OssBucket:
    for key in ("a/1", "a/2", "b/", "b/1", "c/1"):
        oss_bucket.put(key, b"" if key == "b/" else b"data")
    return oss_bucket


@pytest.fixture
def client(bucket: OssBucket) -> OssClient:
    return OssClient(**bucket.options)


def listings(bucket: OssBucket) -> int:
    return bucket.server.counters().requests.get("ListObjectsV2", 0)


def test_it_yields_what_a_listing_tells_of_each_object(bucket: OssBucket, client: OssClient) -> None:
    infos = list(OssObjectLister(bucket.uri + "a/", client))
    assert [(info.uri, info.size, info.label) for info in infos] == [
        (OssUri(bucket.name, "a/1"), 4, ""),
        (OssUri(bucket.name, "a/2"), 4, ""),
    ]


def test_several_prefixes_are_listed_one_after_the_other(bucket: OssBucket, client: OssClient) -> None:
    lister = OssObjectLister([bucket.uri + "b/", bucket.uri + "a/"], client)
    assert [info.uri.key for info in lister] == ["b/1", "a/1", "a/2"]


def test_prefixes_may_come_through_a_pipe(bucket: OssBucket) -> None:
    prefixes = IterableWrapper([bucket.uri + "c/", bucket.uri + "b/"])
    lister = prefixes.list_oss_objects(bucket.endpoint, cred_path=bucket.cred_path, keep_folder_markers=True)
    for _ in range(2):
        assert [info.uri.key for info in lister] == ["c/1", "b/", "b/1"]
    assert listings(bucket) == 4
    assert [id(pipe) for pipe, _ in traverse_dps(lister)[id(lister)][1].values()] == [id(prefixes)]


def test_prefixes_through_a_pipe_may_be_sharded_before(bucket: OssBucket, client: OssClient) -> None:
    prefixes = IterableWrapper([bucket.uri + "a/", bucket.uri + "b/", bucket.uri + "c/"]).sharding_filter()
    lister = prefixes.list_oss_objects(client)
    found = []
    for instance in range(2):
        prefixes.apply_sharding(2, instance)
        found.append([info.uri.key for info in pickle.loads(pickle.dumps(lister))])
    assert found == [["a/1", "a/2", "c/1"], ["b/1"]]


def test_copies_read_one_listing(bucket: OssBucket, client: OssClient) -> None:
    lister = OssObjectLister(bucket.uri, client)
    for same in (lister, copy.deepcopy(lister), pickle.loads(pickle.dumps(lister)), lister):
        assert [info.uri.key for info in same] == ["a/1", "a/2", "b/1", "c/1"]
    assert listings(bucket) == 1


def test_a_new_iterator_ends_the_one_before(bucket: OssBucket, client: OssClient) -> None:
    lister = OssObjectLister(bucket.uri, client)
    first = iter(lister)
    next(first)
    assert next(iter(lister)).uri.key == "a/1"
    with pytest.raises(RuntimeError, match="invalidated"):
        next(first)


def test_a_listing_goes_on_after_any_page(oss_bucket: OssBucket) -> None:
    oss_bucket.server.fill(oss_bucket.name, "a/{:04}", 1500, b"")
    oss_bucket.server.fill(oss_bucket.name, "b/{:04}", 1200, b"")
    prefixes = (parse_uri(oss_bucket.uri + "a/"), parse_uri(oss_bucket.uri + "b/"))
    listing = PrefixListing(OssClient(**oss_bucket.options), prefixes)
    batches = list(listing.batches(b""))
    keys = [key for batch in batches for key in batch.tails]
    assert keys == oss_bucket.keys()
    for number, batch in enumerate(batches):
        rest = [key for later in batches[number + 1 :] for key in later.tails]
        assert [key for later in listing.batches(batch.cursor) for key in later.tails] == rest


def test_names_are_taken_as_they_are() -> None:
    names = OssObjectNames(["oss://bucket/b", "/bucket/a", "oss://other/b"])
    assert [(str(info.uri), info.size) for info in names] == [
        ("oss://bucket/b", None),
        ("oss://bucket/a", None),
        ("oss://other/b", None),
    ]


def test_a_wrong_prefix_is_refused_at_once() -> None:
    with pytest.raises(OssUriError):
        OssObjectLister(["oss://bucket/a", "b"], "http://127.0.0.1:9")


def test_a_client_takes_no_further_access_settings(client: OssClient) -> None:
    with pytest.raises(OssConfigError, match="give these to OssClient"):
        OssObjectLister("oss://bucket/", client, cred_path="elsewhere")
