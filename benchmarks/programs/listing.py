"""Keys: list them, keep ten million of them, open the table of another process."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import time
from collections.abc import Iterator
from io import IOBase
from pathlib import Path
from typing import Any

from benchmarks.gauge import Done, Program, resident_bytes
from benchmarks.values import Access, Keys

from .clients import oss2_bucket


def list_into_dataset(access: Access, uri: str, warm_up: str, count: int) -> Program:
    """List a prefix into a map dataset: this library and the C++ connector."""
    from osstorchconnector import OssMapDataset

    assert len(OssMapDataset.from_prefix(warm_up, **access)) > 0
    yield None
    found = len(OssMapDataset.from_prefix(uri, **access))
    yield Done(count)
    assert found == count


def list_by_oss2(keys: Keys, prefix: str, warm_up: str, count: int) -> Program:
    """List a prefix by oss2, and discard the keys."""
    import oss2

    bucket = oss2_bucket(keys)
    assert any(True for _ in oss2.ObjectIteratorV2(bucket, prefix=warm_up, max_keys=1000))
    yield None
    found = sum(1 for _ in oss2.ObjectIteratorV2(bucket, prefix=prefix, max_keys=1000))
    yield Done(count)
    assert found == count


def build_index(access: Access, count: int, key_size: int) -> Program:
    """Fill the table of keys from a manifest, then open it in a worker that reads all of it."""
    from osstorchconnector import OssClient, OssMapDataset
    from osstorchconnector.datapipes.manifest import OssManifestParser
    from osstorchconnector.datapipes.table import OssObjectTable

    folder = Path(json.loads(Path(access["config_path"]).read_text())["indexDir"])
    manifest = folder / "manifest"
    manifest.write_text(f"{count} {key_size}")
    client = OssClient(**access)
    objects = OssManifestParser(str(manifest), made_up_keys, "oss://bench/", client)
    dataset = OssMapDataset(objects, client)
    manifest_blocks = _bytes_on_disk(folder)
    yield None
    found = len(dataset)
    extra = {"bytes_per_key": (_bytes_on_disk(folder) - manifest_blocks) / count}
    yield Done(count, extra | _in_a_worker((dataset, OssObjectTable(objects)), count))
    assert found == count


def made_up_keys(manifest: IOBase) -> Iterator[tuple[str, str]]:
    """A parser of manifests: yield as many keys as the manifest says, of the size that it says, in no order."""
    count, key_size = map(int, manifest.read().split())
    pattern = "train/class-{:04}/" + "-" * (key_size - 38) + "{:016x}.jpeg"
    for number in range(count):
        yield pattern.format(number // 1300, number * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF), ""


def _in_a_worker(views: Any, count: int) -> dict[str, float]:
    """Open the table in a new process, as a spawned worker does, and read all of it."""
    receiver, sender = multiprocessing.Pipe(duplex=False)
    worker = multiprocessing.get_context("spawn").Process(
        target=_open_and_touch, args=(pickle.dumps(views), count, sender)
    )
    worker.start()
    figures: dict[str, float] = receiver.recv()
    worker.join()
    return figures


def _open_and_touch(pickled: bytes, count: int, sender: Any) -> None:
    from osstorchconnector import OssMapDataset

    start = time.perf_counter()
    dataset, table = pickle.loads(pickled)
    assert isinstance(dataset, OssMapDataset)
    assert len(dataset) == count
    seconds = time.perf_counter() - start
    private = _private_bytes()
    for position in range(0, count, 100):
        assert table[position].uri
    sender.send({"open_seconds": seconds, "private_mib": max(_private_bytes() - private, 0) / 2**20})


def _private_bytes() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return resident_bytes()


def _bytes_on_disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
