"""zarr 3 on `oss://`, by its `FsspecStore`."""

from __future__ import annotations

import numpy as np
import pytest

from osstorchconnector.filesystem import OssFileSystem
from osstorchconnector.testing import OssBucket

zarr = pytest.importorskip("zarr", minversion="3")


def test_arrays_are_written_and_read_by_chunks(oss_bucket: OssBucket) -> None:
    fs = OssFileSystem(asynchronous=True, **oss_bucket.options)
    store = zarr.storage.FsspecStore(fs, path=f"{oss_bucket.name}/arrays")
    group = zarr.create_group(store=store)
    array = group.create_array("numbers", shape=(1000, 1000), chunks=(100, 1000), dtype="f8")
    data = np.random.default_rng(2).random((1000, 1000))
    array[:] = data
    assert sum("/c/" in key for key in list(oss_bucket.keys())) == 10
    again = zarr.open_group(store=zarr.storage.FsspecStore(fs, path=f"{oss_bucket.name}/arrays"), mode="r")
    oss_bucket.server.reset_counters()
    assert np.array_equal(again["numbers"][150:250], data[150:250])
    chunks = [call for call in oss_bucket.server.counters().log if "/c/" in call.key]
    assert len(chunks) == 2
    assert sorted(again.array_keys()) == ["numbers"]


def test_a_blocking_file_system_becomes_an_asynchronous_one(oss_bucket: OssBucket) -> None:
    fs = OssFileSystem(**oss_bucket.options)
    store = zarr.storage.FsspecStore.from_mapper(fs.get_mapper(f"{oss_bucket.name}/plain"))
    array = zarr.create_array(store=store, shape=(10,), dtype="i4")
    array[:] = np.arange(10)
    assert np.array_equal(zarr.open_array(store=store)[:], np.arange(10))
