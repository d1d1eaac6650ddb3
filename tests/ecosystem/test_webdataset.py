"""webdataset on `oss://`, by the opener that we register."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from torch.utils.data import DataLoader

from osstorchconnector.testing import OssBucket

wds = pytest.importorskip("webdataset")

from webdataset.gopen import gopen_schemes  # noqa: E402

from osstorchconnector.integrations.webdataset import OssOpener  # noqa: E402

SHARDS, SAMPLES = 4, 25


@pytest.fixture
def opener(oss_bucket: OssBucket) -> Iterator[OssOpener]:
    made = OssOpener(**oss_bucket.options)
    made.register()
    yield made
    del gopen_schemes["oss"]


@pytest.fixture
def urls(oss_bucket: OssBucket, opener: OssOpener) -> str:
    for shard in range(SHARDS):
        with wds.TarWriter(f"{oss_bucket.uri}shards/{shard:03}.tar") as writer:
            for number in range(SAMPLES):
                name = f"{shard:03}-{number:03}"
                writer.write(
                    {"__key__": name, "txt": f"text {name}", "cls": number % 10, "bin": bytes([number]) * 5000}
                )
    return f"{oss_bucket.uri}shards/{{000..{SHARDS - 1:03}}}.tar"


def names(found: Any) -> list[str]:
    return sorted(sample["__key__"] for sample in found)


EVERY = [f"{shard:03}-{number:03}" for shard in range(SHARDS) for number in range(SAMPLES)]


def test_samples_are_read_from_shards_that_were_written(oss_bucket: OssBucket, urls: str) -> None:
    dataset = wds.WebDataset(urls, shardshuffle=False).decode()
    found = list(dataset)
    assert [sample["__key__"] for sample in found] == EVERY
    assert (found[30]["txt"], found[30]["cls"], found[30]["bin"]) == ("text 001-005", 5, b"\5" * 5000)
    assert found[0]["__url__"] == f"{oss_bucket.uri}shards/000.tar"


def test_each_shard_is_fetched_once(oss_bucket: OssBucket, urls: str) -> None:
    oss_bucket.server.reset_counters()
    assert names(wds.WebDataset(urls, shardshuffle=False)) == EVERY
    got = [call for call in oss_bucket.server.counters().log if call.operation == "GetObject"]
    assert sum(call.bytes_out for call in got) == sum(len(oss_bucket.get(key)) for key in list(oss_bucket.keys()))
    assert len(got) <= 8 * SHARDS


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_share_the_shards(opener: OssOpener, urls: str, start: str) -> None:
    dataset = wds.WebDataset(urls, shardshuffle=SHARDS)
    loader = DataLoader(
        dataset, batch_size=None, num_workers=2, multiprocessing_context=start, worker_init_fn=opener.register
    )
    assert names(loader) == EVERY


def test_the_opener_pickles_without_secrets(oss_bucket: OssBucket, opener: OssOpener) -> None:
    oss_bucket.put("k", b"data")
    again = pickle.loads(pickle.dumps(opener))
    with again(f"{oss_bucket.uri}k") as file:
        assert file.read() == b"data"


def test_a_missing_shard_is_an_error_that_names_it(oss_bucket: OssBucket, opener: OssOpener) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.tar"):
        next(iter(wds.WebDataset(f"{oss_bucket.uri}nothing.tar", shardshuffle=False)))
