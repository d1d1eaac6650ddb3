"""Objects asked for by a list of numbers, and datasets joined to one: always many requests in flight."""

from __future__ import annotations

import json
import pickle
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets.ranks import run_ranks
from loaders import StatefulDataLoader
from scripts import NO_LOGS
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    SequentialSampler,
    Subset,
    TensorDataset,
    random_split,
)

from osstorchconnector.client.client import OssClient
from osstorchconnector.datapipes import OssObjectLister
from osstorchconnector.datapipes.manifest import imagenet_manifest_parser
from osstorchconnector.datasets import OssIterableDataset, OssMapDataset, ResumableSampler, merge_states
from osstorchconnector.errors import OssConfigError, OssNotFoundError, OssUriError, OssUsageError
from osstorchconnector.testing import OssBucket

NAME = attrgetter("name")
A, B, C = ([f"{folder}/{number}" for number in range(8)] for folder in "abc")
KEYS = A + B + C


def below(bucket: OssBucket, *prefixes: str, kind: Any = OssMapDataset, **options: Any) -> Any:
    uris = [bucket.uri + prefix for prefix in prefixes]
    return kind.from_prefix(uris[0] if len(uris) == 1 else uris, **bucket.options, transform=NAME, **options)


def map_pipe(bucket: OssBucket, prefix: str) -> Any:
    client = OssClient(**bucket.options)
    pipe = OssObjectLister(bucket.uri + prefix, client).index_oss_objects()
    return pipe.fetch_oss_objects(client, transform=NAME)


def most_under_way(bucket: OssBucket) -> int:
    most = bucket.server.counters().max_concurrency["GetObject"]
    bucket.server.reset_counters()
    return most


@pytest.fixture
def slow(bucket: OssBucket) -> OssBucket:
    """Answers come late enough for all requests to be under way together."""
    bucket.server.fail("GetObject", "latency", seconds=0.5)
    return bucket


# a list of numbers


@pytest.mark.parametrize("build", [below, map_pipe])
@pytest.mark.parametrize("numbers", [[3, 0, -1, 3], np.array([3, 0, 7, 3]), torch.tensor([3, 0, 7, 3]), range(4)])
def test_a_list_of_numbers_gives_their_objects_fetched_in_parallel(slow: OssBucket, build: Any, numbers: Any) -> None:
    assert build(slow, "a/")[numbers] == [A[int(number)] for number in numbers]
    assert most_under_way(slow) == 4


def test_lists_of_one_and_of_none_are_lists(bucket: OssBucket) -> None:
    dataset = below(bucket, "a/")
    assert [dataset[[]], dataset[[2]], dataset[torch.tensor([2])], dataset[2], dataset[torch.tensor(2)]] == [
        [],
        A[2:3],
        A[2:3],
        A[2],
        A[2],
    ]
    with pytest.raises(IndexError, match="no object 8"):
        dataset[[1, 8]]


def test_what_is_known_of_several_objects_is_a_list_too(bucket: OssBucket) -> None:
    table = OssObjectLister(bucket.uri + "a/", OssClient(**bucket.options)).index_oss_objects()
    assert [info.uri.key for info in table[[2, 0]]] == [A[2], A[0]]
    assert table[-1].uri.key == A[7]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("wrap", [lambda data: data, lambda data: Subset(data, range(24)), lambda data: data + data])
def test_a_batch_sampler_may_take_the_place_of_the_sampler(bucket: OssBucket, wrap: Any, workers: int) -> None:
    data = wrap(below(bucket, ""))
    sampler = BatchSampler(SequentialSampler(range(24)), 9, drop_last=False)
    loader = DataLoader(data, batch_size=None, sampler=sampler, num_workers=workers)
    assert list(loader) == [KEYS[:9], KEYS[9:18], KEYS[18:]]


def test_what_is_left_out_is_left_out_of_a_list(bucket: OssBucket) -> None:
    dataset = below(bucket, "a/", on_error="skip")
    assert len(dataset) == 8
    bucket.delete(A[1])
    assert dataset[[0, 1, 2]] == [A[0], A[2]]
    with pytest.raises(OssNotFoundError):
        dataset[[1]]
    assert dataset.skipped_objects == 2


# datasets joined by `+`


class Squares(Dataset[int]):
    """A user's own dataset, which knows of no batches."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> int:
        return number * number


@pytest.mark.parametrize("build", [below, map_pipe])
def test_a_batch_of_joined_datasets_is_fetched_in_parallel(slow: OssBucket, build: Any) -> None:
    joined = build(slow, "a/") + build(slow, "b/") + build(slow, "c/")
    assert isinstance(joined, ConcatDataset)
    assert (len(joined), len(joined.datasets)) == (24, 3)
    numbers = [0, 8, 16, 23, 1, -1, 9, 17]
    assert joined.__getitems__(numbers) == [KEYS[number] for number in numbers]
    assert most_under_way(slow) == 8
    assert Subset(joined, [*range(4, 12)]).__getitems__([*range(8)]) == KEYS[4:12]
    assert most_under_way(slow) == 8
    assert joined[-9] == KEYS[15]


@pytest.mark.parametrize("workers", [0, 2])
def test_joined_datasets_in_loaders(bucket: OssBucket, workers: int) -> None:
    joined = below(bucket, "a/") + below(bucket, "b/")
    options: dict[str, Any] = {"num_workers": workers, "collate_fn": list}
    assert list(DataLoader(joined, batch_size=6, **options)) == [KEYS[:6], KEYS[6:12], KEYS[12:16]]
    sampler = ResumableSampler(joined, seed=1)
    assert sorted(chain(*DataLoader(joined, batch_size=5, sampler=sampler, **options))) == KEYS[:16]
    halves = random_split(joined, [8, 8], torch.Generator().manual_seed(1))
    loaders = [DataLoader(half, batch_size=None, num_workers=workers) for half in halves]
    assert sorted(chain(*loaders)) == KEYS[:16]
    assert list(joined) == KEYS[:16]


def test_joined_datasets_cross_to_processes_that_are_spawned(bucket: OssBucket) -> None:
    joined = below(bucket, "a/") + below(bucket, "b/")
    assert pickle.loads(pickle.dumps(joined)).__getitems__([7, 8]) == KEYS[7:9]
    assert bucket.server.counters().requests["ListObjectsV2"] == 2


def test_datasets_of_others_may_be_joined_too(bucket: OssBucket) -> None:
    ours, subset = below(bucket, "a/"), Subset(below(bucket, "b/"), [5, 6])
    joined = ours + Squares() + subset + TensorDataset(torch.tensor([7]))
    assert [*joined.__getitems__([12, 10, 0, 11, 9])] == [B[6], 4, A[0], B[5], 1]
    assert joined.__getitems__([13]) == [(torch.tensor(7),)]
    assert list(joined)[:13] == [*A, 0, 1, 4, B[5], B[6]]


def test_numbers_beyond_the_end_of_joined_datasets_are_index_errors(bucket: OssBucket) -> None:
    joined = below(bucket, "a/") + below(bucket, "b/")
    for ask in (lambda: joined[16], lambda: joined[-17], lambda: joined[[0, 16]], lambda: joined.__getitems__([16])):
        with pytest.raises(IndexError, match="the dataset has 16"):
            ask()
    with pytest.raises(TypeError, match="Subset"):
        joined[1:3]


def test_errors_of_joined_datasets(bucket: OssBucket) -> None:
    strict, lenient = below(bucket, "a/"), below(bucket, "b/", on_error="skip")
    joined = strict + lenient + Subset(lenient, range(8))
    for key in (A[1], B[1], B[2]):
        bucket.delete(key)
    with pytest.raises(OssNotFoundError, match=A[1]):
        joined.__getitems__([0, 1, 8])
    assert joined.__getitems__([9, 0, 10, 11, 17, 19]) == [A[0], B[3], B[3]]
    with pytest.raises(OssNotFoundError, match=B[2]):
        joined.__getitems__([9, 10])
    assert joined.skipped_objects == 5


# several prefixes


@pytest.mark.parametrize("kind", [OssMapDataset, OssIterableDataset])
@pytest.mark.parametrize("is_fast", [False, True])
def test_several_prefixes_come_one_after_the_other(bucket: OssBucket, tmp_path: Path, kind: Any, is_fast: bool) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**NO_LOGS, "datasetConfig": {"enableFastList": is_fast}}))
    dataset = below(bucket, "c/", "a/", kind=kind, config_path=str(config))
    assert list(dataset) == C + A
    assert sorted(DataLoader(dataset, batch_size=None, num_workers=2)) == sorted(C + A)


def test_several_prefixes_are_one_dataset_and_fetched_in_parallel(slow: OssBucket) -> None:
    dataset = below(slow, "c/", "a/")
    assert len(dataset) == 16
    assert dataset.__getitems__([7, 8, 0, 15]) == [C[7], A[0], C[0], A[7]]
    assert most_under_way(slow) == 4


def test_any_iterable_of_prefixes_will_do(bucket: OssBucket) -> None:
    dataset = OssMapDataset.from_prefix((bucket.uri + key for key in ("b/", "a/")), **bucket.options, transform=NAME)
    assert dataset[[0, 8]] == [B[0], A[0]]


@pytest.mark.parametrize("kind", [OssMapDataset, OssIterableDataset])
def test_no_prefix_and_what_is_none_are_refused(bucket: OssBucket, kind: Any) -> None:
    with pytest.raises(OssConfigError, match="oss_uri: an empty list"):
        kind.from_prefix([], **bucket.options)
    with pytest.raises(OssConfigError, match="manifest_file_path: an empty list"):
        kind.from_manifest_file([], imagenet_manifest_parser, bucket.uri, **bucket.options)
    for wrong in (None, 3, [None], ["b/"]):
        with pytest.raises(OssUriError):
            kind.from_prefix(wrong, **bucket.options)


def test_several_prefixes_resume_on_other_numbers_of_workers(bucket: OssBucket) -> None:
    def dataset() -> OssIterableDataset:
        found: OssIterableDataset = below(bucket, "c/", "a/", kind=OssIterableDataset, shuffle=True, seed=3)
        return found

    loader = StatefulDataLoader(dataset(), batch_size=None, num_workers=2, snapshot_every_n_steps=1)
    items = iter(loader)
    seen = [next(items) for _ in range(5)]
    state = loader.state_dict()
    del items
    later = dataset()
    later.load_state_dict(merge_states([state]))
    assert sorted(seen + list(DataLoader(later, batch_size=None, num_workers=3))) == sorted(A + C)
    other = below(bucket, "a/", "c/", kind=OssIterableDataset, shuffle=True, seed=3)
    with pytest.raises(OssUsageError, match="another dataset"):
        other.load_state_dict(merge_states([state]))


@pytest.mark.parametrize("kind", [OssMapDataset, OssIterableDataset])
def test_several_manifests_come_one_after_the_other(bucket: OssBucket, tmp_path: Path, kind: Any) -> None:
    paths = [tmp_path / name for name in "ca"]
    for path, keys in zip(paths, (C, A), strict=True):
        path.write_text("".join(f"{key}\n" for key in keys))
    dataset = kind.from_manifest_file(paths, imagenet_manifest_parser, bucket.uri, **bucket.options, transform=NAME)
    assert list(dataset) == C + A


def share(rank: int, uri: str, access: dict[str, Any]) -> tuple[list[str], list[str]]:
    prefixes = [uri + "c/", uri + "a/"]
    streamed = OssIterableDataset.from_prefix(prefixes, **access, transform=NAME, shard_ranks=True)
    numbered = OssMapDataset.from_prefix(prefixes, **access, transform=NAME, share_listing=True)
    joined = numbered + OssMapDataset.from_prefix(uri + "b/", **access, transform=NAME, share_listing=True)
    sampler = ResumableSampler(joined, shuffle=False, shard_ranks=True)
    return list(streamed), list(chain(*DataLoader(joined, batch_size=5, sampler=sampler, collate_fn=list)))


def test_ranks_share_several_prefixes_and_joined_datasets(bucket: OssBucket) -> None:
    streamed, numbered = zip(*run_ranks(2, share, bucket.uri, bucket.options), strict=True)
    assert streamed == ((C + A)[::2], (C + A)[1::2])
    assert numbered == ((C + A + B)[::2], (C + A + B)[1::2])
    assert bucket.server.counters().requests["ListObjectsV2"] == 5
