"""Graphs with functions that only dill can pickle, which DataLoader and DataLoader2 use where it is installed."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import dill
import pytest
from torch.utils.data import DataLoader, IterDataPipe

from osstorchconnector.client.client import OssClient
from osstorchconnector.datapipes import OssObjectLister
from osstorchconnector.testing import OssBucket

KEYS = [f"a/{number:02}" for number in range(12)]


def graph(bucket: OssBucket) -> IterDataPipe[Any]:
    client, least = OssClient(**bucket.options), "a/04"
    pipe = OssObjectLister(bucket.uri, client, filter=lambda info: info.uri.key >= least).shard_oss_objects()
    found: IterDataPipe[Any] = pipe.fetch_oss_objects(
        client, transform=lambda data: data.name, on_error=lambda info, error: None
    ).map(lambda name: name + least)
    return found


EXPECTED = [key + "a/04" for key in KEYS[4:]]


def test_plain_pickle_says_that_it_can_not(bucket: OssBucket) -> None:
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(graph(bucket))


def test_dill_copies_a_graph_at_any_moment_and_the_copy_starts_afresh(bucket: OssBucket) -> None:
    pipe = graph(bucket)
    items = iter(pipe)
    head = list(itertools.islice(items, 3))
    copied = dill.loads(dill.dumps(pipe))
    assert list(copied) == head + list(items) == EXPECTED
    assert bucket.server.counters().requests["ListObjectsV2"] == 1


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_dataloader_takes_such_a_graph_to_its_workers(bucket: OssBucket, method: str) -> None:
    loader = DataLoader(graph(bucket), batch_size=None, num_workers=2, multiprocessing_context=method)
    assert list(loader) == EXPECTED
    assert bucket.server.counters().requests["ListObjectsV2"] == 1
