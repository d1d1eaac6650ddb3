"""Frameworks that read from OSS: Ray Data, and Hugging Face `datasets`. `where` has what each needs to get there."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.gauge import Done, Program

Where = Mapping[str, Any]
OBJECT_STORE_BYTES = 1 << 30


def ray_objects(where: Where, uri: str, warm_up: str, count: int, size: int, how: str) -> Program:
    """Read all objects below a prefix with Ray, from the listing to batches in this process. `how` names the reader."""
    import pyarrow.compute as pc

    def read(prefix: str) -> list[int]:
        batches = _ray_rows(where, prefix, how).iter_batches(batch_size=None, batch_format="pyarrow")
        return [length for batch in batches for length in pc.binary_length(batch["bytes"]).to_pylist()]

    with _ray():
        assert read(warm_up)
        yield None
        found = read(uri)
        yield Done(count)
        assert found == [size] * count


def _ray_rows(where: Where, uri: str, how: str) -> Any:
    import ray

    if how == "ours":
        from osstorchconnector.integrations.ray import read_objects

        return read_objects(uri, **where)
    if how == "ossfs":
        from ossfs import OSSFileSystem as FileSystem
    else:
        from osstorchconnector import OssFileSystem as FileSystem
    return ray.data.read_binary_files(uri, filesystem=FileSystem(**where))


@contextlib.contextmanager
def _ray() -> Iterator[None]:
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def stream_pictures(where: Where, files: str, count: int) -> Program:
    """Stream a table of pictures from Parquet files, and decode them."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import datasets
    import fsspec

    from osstorchconnector import OssFileSystem

    fsspec.register_implementation("oss", OssFileSystem, clobber=True)
    features = datasets.Features({"image": datasets.Image()})
    options: Any = {"split": "train", "streaming": True, "features": features, "storage_options": dict(where)}
    stream = datasets.load_dataset("parquet", data_files=files, **options)
    next(iter(stream))
    yield None
    points = sum(row["image"].width for row in stream)
    yield Done(count)
    assert points == 224 * count
