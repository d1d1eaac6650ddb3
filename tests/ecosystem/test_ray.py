"""Ray Data: our source and sink on a cluster of two nodes, and its own readers through our file system."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import oss2
import pytest
from PIL import Image

from osstorchconnector import OssClient, OssConfigError, OssUsageError
from osstorchconnector.datapipes import (
    OssManifestParser,
    OssObjectLister,
    OssObjectNames,
    OssSavedObjects,
    OssTarLister,
    jsonl_manifest_parser,
)
from osstorchconnector.datapipes.fetcher import PREFETCH_BYTES
from osstorchconnector.datapipes.saved import save_index
from osstorchconnector.emulator import Emulator
from osstorchconnector.filesystem import OssFileSystem
from osstorchconnector.index.fixed import FixedIndex
from osstorchconnector.testing import OssBucket

ray = pytest.importorskip("ray")
pytest.importorskip("ray.data")

from osstorchconnector.integrations.ray import BLOCK_BYTES, OssDatasource, read_objects, write_objects  # noqa: E402

# Ray uses settings of its own that it has deprecated, and says what a later version will do.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Tip. In future versions of Ray:FutureWarning"),
]

COUNT = 60
MIB = 1 << 20


@pytest.fixture(scope="module")
def cluster(oss_server: Emulator) -> Iterator[None]:
    """Two nodes with two processors each, as far as Ray knows."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 2, "object_store_memory": 200 * MIB}
    with pytest.MonkeyPatch.context() as environment:
        # Workers have the environment that their node was started in.
        environment.setenv("OSS_ENDPOINT", oss_server.endpoint)
        environment.setenv("OSS_REGION", oss_server.region)
        environment.setenv("OSS_ACCESS_KEY_ID", oss_server.credentials.access_key_id)
        environment.setenv("OSS_ACCESS_KEY_SECRET", oss_server.credentials.access_key_secret)
        # Other programs on this machine may fill its memory. Ray would then kill its workers.
        environment.setenv("RAY_memory_monitor_refresh_ms", "0")
        nodes = Cluster(
            initialize_head=True, head_node_args={**node, "resources": {"first": 1}, "include_dashboard": False}
        )
        nodes.add_node(**node, resources={"second": 1})
        ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
        # The workers can't import this module.
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.execution_options.preserve_order = True
        yield
        ray.shutdown()
        nodes.shutdown()


@pytest.fixture
def client(oss_bucket: OssBucket) -> OssClient:
    return OssClient(**oss_bucket.options)


def fill(bucket: OssBucket, count: int = COUNT, size: int = 1000) -> list[str]:
    """Put objects whose first byte is their number; return their keys."""
    keys = [f"in/{number:03}" for number in range(count)]
    for number, key in enumerate(keys):
        bucket.put(key, bytes([number % 256]) * size)
    return keys


def source_of(client: OssClient, uri: str, **options: Any) -> OssDatasource:
    """Return the source behind `read_objects`, to do its tasks here."""
    index = OssObjectLister(uri, client).index
    assert index is not None
    return OssDatasource(FixedIndex.of_blocks(bytes(index.blocks())), client, **options)


# tasks, without a cluster


def test_tasks_have_neighbours_and_about_the_same_number_of_bytes(oss_bucket: OssBucket, client: OssClient) -> None:
    keys = fill(oss_bucket, 40, 10_000) + [oss_bucket.put(f"in/large-{number}", bytes(MIB)) for number in range(4)]
    source = source_of(client, oss_bucket.uri + "in/")
    assert source.estimate_inmemory_data_size() == 40 * 10_000 + 4 * MIB
    tasks = source.get_read_tasks(4)
    rows = [[row for block in task() for row in block.to_pylist()] for task in tasks]
    assert [row["key"] for task in rows for row in task] == [key.removeprefix(oss_bucket.uri) for key in keys]
    assert [len(task) for task in rows] == [task.metadata.num_rows for task in tasks] == [40, 1, 1, 2]


def test_a_limit_fetches_no_more_than_that(oss_bucket: OssBucket, client: OssClient) -> None:
    keys = fill(oss_bucket)
    (task,) = source_of(client, oss_bucket.uri + "in/").get_read_tasks(1, 3)
    oss_bucket.server.reset_counters()
    assert [row["key"] for block in task() for row in block.to_pylist()] == keys[:3]
    assert oss_bucket.server.counters().requests["GetObject"] == 3


def test_memory_is_bounded(oss_bucket: OssBucket, client: OssClient) -> None:
    size = 4 * MIB
    oss_bucket.server.fill(oss_bucket.name, "large/{:03}", 150, bytes(size))
    oss_bucket.server.reset_counters()
    (task,) = source_of(client, oss_bucket.uri + "large/").get_read_tasks(1)
    blocks = task()
    first = next(blocks)
    assert first.num_rows == BLOCK_BYTES // size
    assert oss_bucket.server.counters().requests["GetObject"] <= (BLOCK_BYTES + PREFETCH_BYTES) // size + 1
    blocks.close()


def test_tasks_carry_no_secret_and_few_rows(oss_bucket: OssBucket, oss_server: Emulator) -> None:
    fill(oss_bucket)
    keys = oss_server.credentials
    provider = oss2.credentials.StaticCredentialsProvider(keys.access_key_id, keys.access_key_secret)
    client = OssClient(oss_bucket.endpoint, cred_provider=provider, region=oss_bucket.region)
    source = source_of(client, oss_bucket.uri + "in/")
    for carried in (source, *source.get_read_tasks(3)):
        data = ray.cloudpickle.dumps(carried)
        assert keys.access_key_secret.encode() not in data
        assert len(data) < 20_000
    (again,) = ray.cloudpickle.loads(ray.cloudpickle.dumps(source)).get_read_tasks(1)
    assert sum(block.num_rows for block in again()) == COUNT


def test_options_that_do_not_fit_are_refused(oss_bucket: OssBucket, client: OssClient) -> None:
    with pytest.raises(OssConfigError, match="filter"):
        read_objects(OssObjectNames([]), client, filter=".png")
    with pytest.raises(OssConfigError, match="option 'blocks'"):
        read_objects(OssObjectNames([]), client, blocks=3)
    with pytest.raises(OssConfigError, match="not a pipe of them"):
        read_objects(OssObjectLister(OssObjectNames([]), client), client)


# on the cluster


def test_each_object_is_a_row(cluster: None, oss_bucket: OssBucket) -> None:
    keys = fill(oss_bucket)
    rows = read_objects(oss_bucket.uri + "in/", include_paths=True, override_num_blocks=4, **oss_bucket.options)
    assert rows.schema().names == ["key", "bytes", "path"]
    found = rows.take_all()
    assert [row["key"] for row in found] == keys
    assert [row["path"] for row in found] == [oss_bucket.uri + key for key in keys]
    assert [row["bytes"] for row in found] == [oss_bucket.get(key) for key in keys]
    assert rows.count() == COUNT


def test_labels_come_along_from_a_manifest_and_from_a_saved_index(
    cluster: None, oss_bucket: OssBucket, client: OssClient, tmp_path: Path
) -> None:
    keys = fill(oss_bucket, 12)
    entries = [{"key": key, "label": number / 2} for number, key in enumerate(keys)]
    del entries[5]["label"]
    manifest = oss_bucket.put("list.jsonl", "\n".join(map(json.dumps, entries)).encode())
    named = OssManifestParser(manifest, jsonl_manifest_parser, oss_bucket.uri, client)
    assert named.index is not None
    save_index(named.index, tmp_path / "saved.idx", client)
    for objects in (named, OssSavedObjects(tmp_path / "saved.idx", client)):
        found = read_objects(objects, client, override_num_blocks=3).take_all()
        assert [row["label"] for row in found] == [entry.get("label") for entry in entries]
        assert [row["key"] for row in found] == keys


def test_labels_of_different_kinds_are_refused(oss_bucket: OssBucket, client: OssClient) -> None:
    lines = '{"key": "a", "label": 1}\n{"key": "b", "label": "two"}\n'
    manifest = oss_bucket.put("list.jsonl", lines.encode())
    with pytest.raises(OssUsageError, match="labels are of different kinds"):
        read_objects(OssManifestParser(manifest, jsonl_manifest_parser, oss_bucket.uri, client), client)


def test_members_of_a_tar_are_rows(cluster: None, oss_bucket: OssBucket, client: OssClient) -> None:
    from osstorchconnector import generate_tar_archive

    keys, options = fill(oss_bucket), oss_bucket.options
    uri = oss_bucket.uri + "all.tar"
    generate_tar_archive(
        options["endpoint"],
        options["cred_path"],
        "",
        uri,
        uri + ".idx",
        oss_bucket.uri + "in/",
        region=options["region"],
    )
    found = read_objects(OssTarLister(uri, client), client, override_num_blocks=3).take_all()
    assert [row["bytes"] for row in found] == [oss_bucket.get(key) for key in keys]


def test_two_workers_train_and_see_each_object_once(cluster: None, oss_bucket: OssBucket) -> None:
    keys = fill(oss_bucket)
    rows = read_objects(oss_bucket.uri + "in/", override_num_blocks=8, **oss_bucket.options).map(_sample)
    shards = rows.streaming_split(2)
    done = [
        _train.options(resources={name: 0.1}).remote(shard)
        for name, shard in zip(("first", "second"), shards, strict=True)
    ]
    seen, nodes = zip(*ray.get(done), strict=True)
    assert sorted(itertools.chain(*seen)) == sorted(int(key[-3:]) for key in keys)
    assert len(set(nodes)) == 2


def _sample(row: dict[str, Any]) -> dict[str, Any]:
    return {"number": int(row["key"][-3:]), "x": np.frombuffer(row["bytes"][:16], np.uint8).astype("f4")}


@ray.remote(num_cpus=0)
def _train(shard: Any) -> tuple[list[int], str]:
    """Train a model on a shard; return which objects it had, and where."""
    import torch

    model = torch.nn.Linear(16, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    seen: list[int] = []
    for batch in shard.iter_torch_batches(batch_size=8):
        loss = (model(batch["x"]).squeeze(1) - batch["number"]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen += batch["number"].tolist()
    return seen, ray.get_runtime_context().get_node_id()


def test_each_object_comes_once_though_a_worker_is_killed(cluster: None, oss_bucket: OssBucket, tmp_path: Path) -> None:
    keys, mark = fill(oss_bucket), tmp_path / "killed"

    def kill_once(row: dict[str, Any]) -> dict[str, Any]:
        """Kill the worker that reads, in the middle of its objects; the one that does it again lives."""
        if row["key"] == keys[COUNT // 2]:
            try:
                os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return row
            os.kill(os.getpid(), signal.SIGKILL)
        return row

    rows = read_objects(oss_bucket.uri + "in/", override_num_blocks=2, **oss_bucket.options).map(kill_once)
    found = [row["key"] for row in rows.iter_rows()]
    assert mark.exists()
    assert found == keys


def test_an_error_names_the_object(cluster: None, oss_bucket: OssBucket, client: OssClient) -> None:
    uris = [oss_bucket.uri + key for key in fill(oss_bucket, 5)] + [oss_bucket.uri + "in/missing"]
    with pytest.raises(Exception, match=f"OssNotFoundError.*{oss_bucket.uri}in/missing"):
        read_objects(OssObjectNames(uris), client).take_all()


def test_rows_become_objects_and_the_manifest_comes_last(
    cluster: None, oss_bucket: OssBucket, client: OssClient
) -> None:
    keys = fill(oss_bucket)
    rows = read_objects(oss_bucket.uri + "in/", client, override_num_blocks=4).map(_labelled)
    manifest = oss_bucket.uri + "out.jsonl"
    oss_bucket.server.reset_counters()
    write_objects(rows, oss_bucket.uri + "out/", client, manifest_uri=manifest)
    puts = [call.key for call in oss_bucket.server.counters().log if call.operation == "PutObject"]
    assert puts[-1] == "out.jsonl" and sorted(puts[:-1]) == [f"out/{key}" for key in keys]
    assert [oss_bucket.get(f"out/{key}") for key in keys] == [oss_bucket.get(key) for key in keys]
    named = OssManifestParser(manifest, jsonl_manifest_parser, oss_bucket.uri + "out/", client)
    again = read_objects(named, client).take_all()
    assert {row["key"]: row["label"] for row in again} == {f"out/{key}": number for number, key in enumerate(keys)}


def _labelled(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "label": int(row["key"][-3:])}


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda row: {**row, "key": None}, "without key or bytes"),
        (lambda row: {"name": row["key"], "bytes": row["bytes"]}, "no column 'key'"),
        (lambda row: {**row, "bytes": 7}, "column of bytes has int64"),
    ],
)
def test_a_write_that_fails_leaves_no_manifest(
    cluster: None, oss_bucket: OssBucket, client: OssClient, spoil: Callable[[Any], Any], problem: str
) -> None:
    fill(oss_bucket, 5)
    rows = read_objects(oss_bucket.uri + "in/", client).map(spoil)
    with pytest.raises(Exception, match=problem):
        write_objects(rows, oss_bucket.uri + "out/", client, manifest_uri=oss_bucket.uri + "out.jsonl")
    assert "out.jsonl" not in list(oss_bucket.keys())


# Ray's own readers


def test_its_own_readers_take_our_file_system(cluster: None, oss_bucket: OssBucket) -> None:
    fs = OssFileSystem(**oss_bucket.options)
    keys = fill(oss_bucket, 6)
    found = ray.data.read_binary_files(oss_bucket.uri + "in/", filesystem=fs, include_paths=True).take_all()
    assert {row["path"]: row["bytes"] for row in found} == {
        f"{oss_bucket.name}/{key}": oss_bucket.get(key) for key in keys
    }
    for number in range(4):
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (number, 0, 0)).save(file, "PNG")
        oss_bucket.put(f"pictures/{number}.png", file.getvalue())
    pictures = ray.data.read_images(oss_bucket.uri + "pictures/", filesystem=fs).take_all()
    assert sorted(picture["image"][0, 0, 0] for picture in pictures) == [0, 1, 2, 3]


def test_parquet_there_and_back(cluster: None, oss_bucket: OssBucket) -> None:
    fs = OssFileSystem(**oss_bucket.options)
    ray.data.range(1000, override_num_blocks=4).write_parquet(oss_bucket.uri + "table", filesystem=fs)
    rows = ray.data.read_parquet(oss_bucket.uri + "table", filesystem=fs)
    assert sorted(row["id"] for row in rows.take_all()) == list(range(1000))


def test_a_url_with_fsspec_in_front_needs_no_file_system(cluster: None, oss_bucket: OssBucket) -> None:
    fsspec.register_implementation("oss", OssFileSystem, clobber=True)
    keys = fill(oss_bucket, 3)
    found = ray.data.read_binary_files(f"fsspec+{oss_bucket.uri}in/").take_all()
    assert sorted(row["bytes"] for row in found) == sorted(oss_bucket.get(key) for key in keys)
