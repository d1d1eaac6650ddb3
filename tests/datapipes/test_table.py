from __future__ import annotations

import logging
import pickle
from operator import attrgetter
from typing import Any

import pytest
import torch
from torch.utils.data import IterDataPipe
from torch.utils.data.datapipes.iter import IterableWrapper
from torch.utils.data.datapipes.map import SequenceWrapper
from torch.utils.data.graph import traverse_dps
from torch.utils.data.graph_settings import apply_random_seed

from osstorchconnector.client.client import OssClient
from osstorchconnector.datapipes import OssObjectLister, OssObjectMapFetcher, OssObjectTable
from osstorchconnector.datapipes.table import checked_position
from osstorchconnector.errors import OssConfigError, OssNotFoundError, OssUsageError
from osstorchconnector.index.info import ObjectInfo
from osstorchconnector.testing import OssBucket

KEYS = [f"k/{number:02}" for number in range(20)]
NAME = attrgetter("name")


@pytest.fixture
def client(bucket: OssBucket) -> OssClient:
    return OssClient(**bucket.options)


def key_of(info: ObjectInfo) -> str:
    return info.uri.key


def test_the_table_and_the_fetcher_have_map_forms(bucket: OssBucket, client: OssClient) -> None:
    table: Any = OssObjectLister(bucket.uri, client).index_oss_objects()
    assert isinstance(table, OssObjectTable)
    assert (len(table), table[0].size, table[-1].uri.key) == (20, 4, KEYS[19])
    pipe = table.fetch_oss_objects(client, transform=NAME)
    assert isinstance(pipe, OssObjectMapFetcher)
    assert [len(pipe), pipe[3], *pipe.__getitems__([5, 4])] == [20, KEYS[3], KEYS[5], KEYS[4]]
    assert [item.name for item in pickle.loads(pickle.dumps(table)).fetch_oss_objects(client)] == KEYS


def test_stock_stages_for_maps_chain_behind_the_table(bucket: OssBucket, client: OssClient) -> None:
    table: Any = OssObjectLister(bucket.uri, client).index_oss_objects()
    names = table.map(key_of)
    assert [list(batch) for batch in names.batch(8)] == [KEYS[:8], KEYS[8:16], KEYS[16:]]
    assert sorted(names.shuffle()) == KEYS
    assert list(names.zip(table.fetch_oss_objects(client, transform=NAME))) == list(zip(KEYS, KEYS, strict=True))


def test_a_shuffled_table_is_ordered_as_its_source(bucket: OssBucket, client: OssClient) -> None:
    shuffled = OssObjectLister(bucket.uri, client).shuffle_oss_objects(seed=4)
    order = [info.uri.key for info in shuffled]
    pipe = shuffled.index_oss_objects().fetch_oss_objects(client, transform=NAME)
    assert list(pipe) == [pipe[number] for number in range(20)] == pipe.__getitems__(range(20)) == order != KEYS
    apply_random_seed(pipe, torch.Generator().manual_seed(1))
    assert sorted(pipe) == KEYS
    assert list(pipe) != order


def test_torch_finds_the_source_of_a_table(bucket: OssBucket, client: OssClient) -> None:
    lister = OssObjectLister(bucket.uri, client)
    table: Any = lister.index_oss_objects()
    pipe = table.fetch_oss_objects(client)
    found, graph = [], traverse_dps(pipe)
    while graph:
        ((stage, graph),) = graph.values()
        found.append(stage)
    assert found == [pipe, table, lister]


def test_the_map_fetcher_takes_any_map_of_objects(bucket: OssBucket, client: OssClient) -> None:
    pipe = SequenceWrapper([bucket.uri + key for key in KEYS]).shuffle().fetch_oss_objects(client, transform=NAME)
    assert sorted(pipe) == KEYS
    named = SequenceWrapper([bucket.uri + key for key in KEYS]).fetch_oss_objects(client, transform=NAME)
    assert list(named) == named.__getitems__(range(20)) == KEYS


def test_what_can_not_be_read_may_be_left_out_of_a_batch(
    bucket: OssBucket, client: OssClient, caplog: pytest.LogCaptureFixture
) -> None:
    table: Any = OssObjectLister(bucket.uri, client).index_oss_objects()
    pipe = table.fetch_oss_objects(client, transform=NAME, on_error="skip")
    assert len(pipe) == 20
    for key in KEYS[3:5]:
        bucket.delete(key)
    with caplog.at_level(logging.WARNING):
        assert pipe.__getitems__([5, 3, 1]) == [KEYS[5], KEYS[1]]
    assert f"left out {bucket.uri}{KEYS[3]}" in caplog.text
    assert list(pipe) == KEYS[:3] + KEYS[5:]
    assert pipe.skipped_objects == pickle.loads(pickle.dumps(pipe)).skipped_objects == 3


def test_an_object_alone_or_a_batch_of_which_nothing_is_left_is_an_error(bucket: OssBucket, client: OssClient) -> None:
    table: Any = OssObjectLister(bucket.uri, client).index_oss_objects()
    pipe = table.fetch_oss_objects(client, on_error="skip")
    assert len(pipe) == 20
    bucket.delete(KEYS[3])
    for ask in (lambda: pipe[3], lambda: pipe.__getitems__([3])):
        with pytest.raises(OssNotFoundError, match=KEYS[3]):
            ask()
    assert pipe.__getitems__([]) == []
    with pytest.raises(OssConfigError, match="on_error"):
        table.fetch_oss_objects(client, on_error="ignore")


def test_objects_through_a_pipe_have_no_numbers(client: OssClient) -> None:
    for source in (OssObjectLister(IterableWrapper(["oss://bucket/"]), client), IterableWrapper(["oss://bucket/a"])):
        with pytest.raises(OssUsageError, match="have no numbers"):
            source.index_oss_objects()


@pytest.mark.parametrize(("position", "found"), [(0, 0), (4, 4), (-1, 4), (-5, 0), (True, 1)])
def test_positions_count_from_both_ends(position: int, found: int) -> None:
    assert checked_position(position, 5) == found


def test_the_form_that_makes_a_table_is_one_of_iterable_pipes() -> None:
    assert IterDataPipe.functions["index_oss_objects"] is OssObjectTable
