from __future__ import annotations

import pickle
from operator import attrgetter, methodcaller
from typing import Any

import pytest
from scripts import run_python
from torch.utils.data import DataLoader, IterDataPipe
from torch.utils.data.datapipes.iter import IterableWrapper, ShardingFilter
from torch.utils.data.graph import traverse_dps

from osstorchconnector.client.client import OssClient
from osstorchconnector.datapipes import numbered_objects as common
from osstorchconnector.datapipes.fetcher import FIRST_BYTES, PREFETCH_BYTES, OssObjectFetcher, _Sizes
from osstorchconnector.datapipes.lister import OssObjectLister, OssObjectNames
from osstorchconnector.errors import OssNotFoundError, OssTransformError, OssUriError
from osstorchconnector.index.info import ObjectInfo
from osstorchconnector.protocol.values import ByteSpan, Download, ObjectStat
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import OssUri

KEYS = [f"k/{number:02}" for number in range(20)]


@pytest.fixture
def client(bucket: OssBucket) -> OssClient:
    return OssClient(**bucket.options)


def test_a_graph_by_hand_lists_shards_and_fetches(bucket: OssBucket) -> None:
    pipe = OssObjectLister(bucket.uri + "k/", **bucket.options).shard_oss_objects().fetch_oss_objects(**bucket.options)
    assert [(item.name, item.read()) for item in pipe] == [(key, key.encode()) for key in KEYS]


def test_it_takes_infos_and_uris_of_any_form(bucket: OssBucket, client: OssClient) -> None:
    uri = OssUri(bucket.name, KEYS[0])
    items = [str(uri), uri.path, uri, ObjectInfo(uri, label=7), ObjectInfo(uri, size=4)]
    fetched = list(OssObjectFetcher(IterableWrapper(items), client))
    assert [(item.name, item.read(), item.label) for item in fetched] == [
        (KEYS[0], KEYS[0].encode(), label) for label in ("", "", "", 7, "")
    ]


def test_what_is_no_object_is_an_error_at_its_place(bucket: OssBucket, client: OssClient) -> None:
    items = iter(OssObjectFetcher([bucket.uri + KEYS[0], 7], client))
    assert next(items).name == KEYS[0]
    with pytest.raises(OssUriError, match="not an object to fetch: 7"):
        next(items)


def test_out_of_order_nothing_is_lost_or_doubled(bucket: OssBucket, client: OssClient) -> None:
    bucket.server.fail("GetObject", "stall_head", key=KEYS[0])
    pipe = OssObjectFetcher(OssObjectLister(bucket.uri, client), client, in_order=False, transform=attrgetter("name"))
    names = iter(pipe)
    found = [next(names)]
    assert found[0] != KEYS[0]
    bucket.server.reset()  # hangs up on the request that stalls
    assert sorted([*found, *names]) == KEYS


def is_late(info: ObjectInfo) -> bool:
    return info.uri.key > "k/15"


def test_stock_stages_chain_with_it(bucket: OssBucket, client: OssClient) -> None:
    pipe = OssObjectLister(bucket.uri, client).filter(is_late).fetch_oss_objects(client)
    assert list(pipe.map(methodcaller("read")).batch(3)) == [[b"k/16", b"k/17", b"k/18"], [b"k/19"]]


def test_torch_finds_every_pipe_of_the_graph(bucket: OssBucket, client: OssClient) -> None:
    names = OssObjectNames([bucket.uri + KEYS[0]])
    shard = names.shard_oss_objects()
    fetch = shard.fetch_oss_objects(client)
    found, graph = [], traverse_dps(fetch)
    while graph:
        ((pipe, graph),) = graph.values()
        found.append(pipe)
    assert [pipe for pipe in found if type(pipe) is not ShardingFilter] == [fetch, shard, names]


def test_it_pickles_at_any_moment_and_starts_afresh(bucket: OssBucket, client: OssClient) -> None:
    pipe = OssObjectLister(bucket.uri, client).shard_oss_objects().fetch_oss_objects(client, transform=NAME)
    items = iter(pipe)
    assert next(items) == KEYS[0]
    assert list(pickle.loads(pickle.dumps(pipe))) == KEYS
    assert [KEYS[0], *items] == KEYS


NAME = attrgetter("name")


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataloader_runs_the_raw_graph(bucket: OssBucket, client: OssClient, workers: int) -> None:
    pipe = OssObjectLister(bucket.uri, client).shard_oss_objects().fetch_oss_objects(client, transform=NAME)
    assert list(DataLoader(pipe, batch_size=None, num_workers=workers)) == KEYS
    assert bucket.server.counters().requests["ListObjectsV2"] == 1


def test_errors_keep_their_type_through_torchs_hooks(bucket: OssBucket, client: OssClient) -> None:
    with pytest.raises(OssNotFoundError, match="absent"):
        list(OssObjectNames(bucket.uri + "absent").fetch_oss_objects(client))
    with pytest.raises(OssTransformError) as caught:
        list(OssObjectNames(bucket.uri + KEYS[0]).fetch_oss_objects(client, transform=attrgetter("colour")))
    assert isinstance(caught.value.__cause__, AttributeError)


RELOADING = """
import importlib
from osstorchconnector.datapipes import fetcher, graph, lister, manifest, numbered_objects, saver, table, tar_lister
from torch.utils.data import IterDataPipe, MapDataPipe

for module in (numbered_objects, lister, tar_lister, manifest, fetcher, table, saver, graph):
    importlib.reload(module)
forms = {
    "list_oss_objects": lister.OssObjectLister,
    "parse_oss_manifest": manifest.OssManifestParser,
    "shuffle_oss_objects": numbered_objects.OssObjectShuffler,
    "shard_oss_objects": numbered_objects.OssObjectSharder,
    "fetch_oss_objects": fetcher.OssObjectFetcher,
    "list_tar_members": tar_lister.OssTarLister,
    "save_oss_objects": saver.OssObjectSaver,
    "as_named_streams": graph.OssNamedStreams,
}
for name, pipe in forms.items():
    assert IterDataPipe.functions[name].args[0] is pipe, name
assert MapDataPipe.functions["fetch_oss_objects"].args[0] is table.OssObjectMapFetcher
assert IterDataPipe.functions["index_oss_objects"] is table.OssObjectTable
assert IterDataPipe.functions["to_dataset"] is graph.to_dataset
"""


def test_loading_the_pipes_again_replaces_their_functional_forms() -> None:
    """In a process of its own: a class loaded again is another class, which other tests' pickles would not find."""
    run_python("-c", RELOADING)


def test_a_name_that_is_taken_by_another_pipe_is_refused() -> None:
    class Other(IterDataPipe[Any]):
        pass

    with pytest.raises(Exception, match="already taken"):
        common.functional("batch")(Other)


def test_objects_of_unknown_size_are_taken_for_what_the_last_ones_had() -> None:
    sizes = _Sizes()
    unknown, known, large = (ObjectInfo(OssUri("b", "k"), size=size) for size in (None, 1000, 1 << 40))
    assert PREFETCH_BYTES // sizes.weight(unknown) == 64, "before anything is known"
    assert (sizes.weight(known), sizes.weight(large)) == (1000, FIRST_BYTES)
    for size, fetched in ((FIRST_BYTES, 16), (0, 512)):
        for _ in range(200):
            download = Download(ObjectStat(size, "etag", 0), ByteSpan(0, size), bytes(size), 0)
            assert sizes.received_bytes(download) == size
        assert PREFETCH_BYTES // sizes.weight(unknown) in (fetched, fetched + 1)
    assert sizes.received_bytes(OssUriError("what came in place of an object")) == 0
