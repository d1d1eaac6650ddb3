"""Items that leave a process: each arrives, in whatever it was put, or is an error that somebody hears.

A queue pickles in a thread of its own, where an error is printed and the item is lost: the loader then waits for ever.
"""

from __future__ import annotations

import concurrent.futures
import json
import multiprocessing
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import oss2
import pytest
from scripts import NO_LOGS
from torch.utils.data import DataLoader, Dataset

from osstorchconnector.checkpoint import OssCheckpoint
from osstorchconnector.client.client import OssClient
from osstorchconnector.datapipes import OssObjectLister, OssObjectNames
from osstorchconnector.datapipes.fetcher import FIRST_BYTES
from osstorchconnector.datasets import OssIterableDataset, OssMapDataset
from osstorchconnector.emulator import Emulator
from osstorchconnector.errors import (
    OssConnectionError,
    OssCredentialsError,
    OssError,
    OssNotFoundError,
    OssObjectChangedError,
    OssPermissionError,
)
from osstorchconnector.files.data_object import DataObject
from osstorchconnector.index.info import ObjectInfo
from osstorchconnector.testing import OssBucket

KEYS = [f"small/{number}" for number in range(8)]
LARGE = b"0123456789" * (FIRST_BYTES // 10 + 100_000)
METHODS = ["fork", "forkserver"]


class Pair(NamedTuple):
    item: DataObject
    number: int


def as_it_is(item: DataObject) -> DataObject:
    return item


def read_and_close(item: DataObject) -> DataObject:
    with item:
        item.read()
    return item


def read_in_part(item: DataObject) -> DataObject:
    item.read(3)
    return item


def in_a_tuple(item: DataObject) -> Any:
    return item.size, read_and_close(item)


def in_a_dictionary(item: DataObject) -> Any:
    return {"name": item.name, "deep": [{"item": read_and_close(item)}, None]}


def in_a_named_tuple(item: DataObject) -> Any:
    return Pair(read_and_close(item), 1)


def closed_twice(item: DataObject) -> DataObject:
    item.close()
    item.close()
    return item


def item_in(thing: Any) -> DataObject:
    """Return the one item in what a transform above gave."""
    if isinstance(thing, dict):
        return item_in(thing["deep"][0]["item"])
    if isinstance(thing, tuple):
        return next(part for part in thing if isinstance(part, DataObject))
    assert isinstance(thing, DataObject)
    return thing


def iterable(bucket: OssBucket, prefix: str, transform: Callable[[DataObject], Any]) -> Any:
    return OssIterableDataset.from_prefix(bucket.uri + prefix, **bucket.options, transform=transform)


def by_number(bucket: OssBucket, prefix: str, transform: Callable[[DataObject], Any]) -> Any:
    return OssMapDataset.from_prefix(bucket.uri + prefix, **bucket.options, transform=transform)


def graph(bucket: OssBucket, prefix: str, transform: Callable[[DataObject], Any]) -> Any:
    client = OssClient(**bucket.options)
    return OssObjectLister(bucket.uri + prefix, client).shard_oss_objects().fetch_oss_objects(client).map(transform)


def map_graph(bucket: OssBucket, prefix: str, transform: Callable[[DataObject], Any]) -> Any:
    client = OssClient(**bucket.options)
    return OssObjectLister(bucket.uri + prefix, client).index_oss_objects().fetch_oss_objects(client).map(transform)


ALL = [iterable, by_number, graph, map_graph]


@pytest.mark.parametrize("transform", [read_and_close, in_a_tuple, in_a_dictionary, in_a_named_tuple, closed_twice])
@pytest.mark.parametrize("build", ALL)
def test_closed_items_arrive_closed_in_whatever_they_are(
    bucket: OssBucket, build: Callable[..., Any], transform: Callable[[DataObject], Any]
) -> None:
    loader = DataLoader(build(bucket, "small/", transform), batch_size=3, num_workers=2, collate_fn=list)
    items = [item_in(thing) for batch in loader for thing in batch]
    assert sorted(item.name for item in items) == KEYS
    assert {(item.size, item.label, item.closed) for item in items} == {(7, "", True)}
    with pytest.raises(ValueError, match=f"closed file: {items[0].uri}"):
        items[0].read()


@pytest.mark.parametrize("method", [*METHODS, "spawn"])
def test_items_arrive_as_they_were_by_every_start_method(bucket: OssBucket, method: str) -> None:
    options = {"batch_size": None, "num_workers": 1, "multiprocessing_context": method}
    for transform, is_closed, rest in ((read_and_close, True, b""), (read_in_part, False, b"ll/0")):
        items = list(DataLoader(iterable(bucket, "small/", transform), **options))
        assert [(item.name, item.closed) for item in items] == [(key, is_closed) for key in KEYS]
        assert is_closed or items[0].read() == rest


@pytest.mark.parametrize("build", ALL)
def test_the_last_item_of_a_worker_is_not_lost(bucket: OssBucket, build: Callable[..., Any]) -> None:
    loader = DataLoader(build(bucket, KEYS[0], read_and_close), batch_size=1, num_workers=1, collate_fn=list)
    assert [batch[0].name for batch in loader] == KEYS[:1]


@pytest.mark.parametrize("transform", [as_it_is, read_and_close])
def test_named_streams_arrive(bucket: OssBucket, transform: Callable[[DataObject], Any]) -> None:
    pipe = graph(bucket, "small/", transform).as_named_streams()
    found = list(DataLoader(pipe, batch_size=None, num_workers=2))
    assert sorted(name for name, _ in found) == [bucket.uri + key for key in KEYS]
    assert {stream.closed for _, stream in found} == {transform is read_and_close}
    if transform is as_it_is:
        assert sorted(stream.read().decode() for _, stream in found) == KEYS


def test_what_a_saving_pipe_yields_arrives(bucket: OssBucket) -> None:
    client = OssClient(**bucket.options)
    saved = OssObjectLister(bucket.uri + "small/", client).shard_oss_objects().map(body_of)
    pipe = saved.save_oss_objects(client, oss_base_uri=bucket.uri)
    found = list(DataLoader(pipe, batch_size=4, num_workers=2, collate_fn=list))
    assert sorted(info.uri.key for batch in found for info in batch) == ["copy/" + key for key in KEYS]


def body_of(info: ObjectInfo) -> tuple[str, bytes]:
    return "copy/" + info.uri.key, b"x"


# what came only in part


@pytest.fixture
def large(oss_bucket: OssBucket) -> OssBucket:
    oss_bucket.put("large/1", LARGE)
    return oss_bucket


def gets(bucket: OssBucket) -> int:
    return bucket.server.counters().requests.get("GetObject", 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("build", [iterable, map_graph])
def test_the_rest_of_a_large_item_is_fetched_where_it_is_read(
    large: OssBucket, build: Callable[..., Any], method: str
) -> None:
    loader = DataLoader(
        build(large, "large/", read_in_part), batch_size=None, num_workers=1, multiprocessing_context=method
    )
    (item,) = loader
    assert (item.name, item.size, item.tell(), gets(large)) == ("large/1", len(LARGE), 3, 1)
    assert item.read() == LARGE[3:]
    assert gets(large) > 1


def remove(bucket: OssBucket) -> None:
    bucket.delete("large/1")


def replace(bucket: OssBucket) -> None:
    bucket.put("large/1", LARGE[::-1])


def deny(bucket: OssBucket) -> None:
    bucket.server.fail("GetObject", "403")


def reset(bucket: OssBucket) -> None:
    bucket.server.fail("GetObject", "reset")


@pytest.mark.parametrize(
    ("strike", "error"),
    [
        (remove, OssNotFoundError),
        (replace, OssObjectChangedError),
        (deny, OssPermissionError),
        (reset, OssConnectionError),
    ],
)
@pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset])
def test_what_befalls_a_large_item_on_its_way_is_an_error_where_it_is_read(
    large: OssBucket, tmp_path: Path, kind: Any, strike: Callable[[OssBucket], None], error: type[OssError]
) -> None:
    large.put("large/2", b"small")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**NO_LOGS, "maxAttempts": 1}))
    dataset = kind.from_prefix(large.uri + "large/", **large.options, config_path=str(config))
    items = list(DataLoader(dataset, batch_size=None, num_workers=1))
    assert [item.size for item in items] == [len(LARGE), 5]
    assert items[1].read() == b"small"
    strike(large)
    with pytest.raises(error, match="large/1"):
        items[0].read()
    assert items[0].name == "large/1"


def test_a_closed_large_item_arrives_closed(large: OssBucket) -> None:
    (item,) = DataLoader(iterable(large, "large/", close), batch_size=None, num_workers=1)
    assert (item.name, item.size, item.closed, gets(large)) == ("large/1", len(LARGE), True, 1)


def close(item: DataObject) -> DataObject:
    item.close()
    return item


class Readers(Dataset[Any]):
    """A user's own dataset, which hands out open readers, a closed one among them."""

    def __init__(self, bucket: OssBucket) -> None:
        self._checkpoint, self._uri = OssCheckpoint(**bucket.options), bucket.uri + "large/1"

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> Any:
        reader = self._checkpoint.reader(self._uri)
        if number:
            reader.seek(number)
            reader.read(10)
        if number == 2:
            reader.close()
        return reader


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_readers_arrive_too(large: OssBucket, method: str) -> None:
    loader = DataLoader(Readers(large), batch_size=None, num_workers=1, multiprocessing_context=method)
    unread, begun, closed = loader
    assert (unread.tell(), begun.tell(), closed.closed) == (0, 11, True)
    assert (unread.read(), begun.read()) == (LARGE, LARGE[11:])
    large.put("large/1", LARGE[::-1])
    begun.seek(0)
    with pytest.raises(OssObjectChangedError):
        begun.readinto(bytearray(len(LARGE)))


def test_streams_of_large_objects_arrive(large: OssBucket) -> None:
    ((name, stream),) = DataLoader(graph(large, "large/", as_it_is).as_named_streams(), batch_size=None, num_workers=1)
    assert (name, gets(large)) == (large.uri + "large/1", 1)
    assert stream.read() == LARGE


# by other ways than a DataLoader's


def first_of(dataset: OssMapDataset, transform: Callable[[DataObject], Any]) -> Any:
    return transform(dataset[0])


@pytest.mark.parametrize("method", METHODS)
def test_items_cross_a_pool_there_and_back(large: OssBucket, method: str) -> None:
    large.put("small/0", b"small/0")
    dataset = by_number(large, "", as_it_is)
    with dataset[0] as big, dataset[1] as small:
        with multiprocessing.get_context(method).Pool(1) as pool:
            assert pool.map(ends_of, [big, small]) == [(LARGE[:3], LARGE[-3:]), (b"sma", b"l/0")]
            back = pool.map(read_and_close, [big, small])
    assert [(item.name, item.closed) for item in back] == [("large/1", True), ("small/0", True)]


def ends_of(item: DataObject) -> tuple[bytes, bytes]:
    start = item.read(3)
    item.seek(-3, 2)
    return start, item.read()


def test_items_cross_an_executor_and_a_queue(large: OssBucket) -> None:
    context = multiprocessing.get_context("fork")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        for transform in (as_it_is, read_and_close):
            item = executor.submit(first_of, by_number(large, "large/", as_it_is), transform).result()
            assert (item.name, item.closed) == ("large/1", transform is read_and_close)
    queue: Any = context.Queue()
    process = context.Process(target=put_closed, args=(queue, by_number(large, "large/", as_it_is)))
    process.start()
    names = [queue.get(timeout=240).name for _ in range(2)]
    process.join()
    assert names == ["large/1", "large/1"]


def put_closed(queue: Any, dataset: OssMapDataset) -> None:
    item = dataset[0]
    with item:
        queue.put(item)  # pickled at once, or when it is closed
    queue.put(item)


# secrets


def provider_of(server: Emulator) -> Any:
    return oss2.credentials.StaticCredentialsProvider(
        server.credentials.access_key_id, server.credentials.access_key_secret
    )


def test_an_item_takes_no_secrets_along_and_needs_none_where_its_dataset_is(large: OssBucket) -> None:
    server = large.server
    secret = server.credentials.access_key_secret
    dataset = OssIterableDataset.from_prefix(
        large.uri, large.endpoint, region=large.region, cred_provider=provider_of(server)
    )
    (item,) = DataLoader(dataset, batch_size=None, num_workers=1)
    assert secret.encode() not in pickle.dumps(item)
    assert item.read() == LARGE


def test_who_has_no_credentials_is_told_so_when_the_rest_is_read(large: OssBucket) -> None:
    client = OssClient(large.endpoint, region=large.region, cred_provider=provider_of(large.server))
    (item,) = OssObjectNames(large.uri + "large/1").fetch_oss_objects(client)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(read_in_part, [item]).tell() == 3
        with pytest.raises(OssCredentialsError, match="cred_path"):
            pool.apply(DataObject.read, [item])


def locked(provider: Any) -> Callable[[], Any]:
    def get() -> Any:
        return provider.get_credentials()

    return get


def test_a_provider_that_can_not_be_pickled_loses_no_item(large: OssBucket) -> None:
    provider = provider_of(large.server)
    client = OssClient(large.endpoint, region=large.region, cred_provider=locked(provider))
    dataset = OssMapDataset.from_prefix(large.uri, client)
    (item,) = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="fork")
    assert item.read() == LARGE
