"""dask on `oss://`: data frames by Parquet, arrays by zarr."""

from __future__ import annotations

from collections.abc import Iterator

import fsspec
import numpy as np
import pytest

from osstorchconnector.filesystem import OssFileSystem
from osstorchconnector.testing import OssBucket

dask = pytest.importorskip("dask")


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    fsspec.register_implementation("oss", OssFileSystem, clobber=True)
    yield
    OssFileSystem.clear_instance_cache()


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # dask 2026.8 with pandas 3.1
@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_data_frames(oss_bucket: OssBucket, scheduler: str) -> None:
    dd = pytest.importorskip("dask.dataframe")
    pd = pytest.importorskip("pandas")
    options = dict(oss_bucket.options)
    frame = pd.DataFrame({"a": np.arange(10_000), "b": np.arange(10_000) % 7})
    with dask.config.set(scheduler=scheduler, num_workers=2):
        dd.from_pandas(frame, npartitions=4).to_parquet(f"{oss_bucket.uri}frame", storage_options=options)
        assert sum(key.endswith(".parquet") for key in list(oss_bucket.keys())) == 4
        found = dd.read_parquet(f"{oss_bucket.uri}frame", columns=["a"], storage_options=options)
        assert found["a"].sum().compute() == frame["a"].sum()
        filtered = dd.read_parquet(f"{oss_bucket.uri}frame", filters=[("a", ">=", 9_000)], storage_options=options)
        assert len(filtered) == 1000
        frame.to_csv(f"{oss_bucket.uri}table.csv", index=False, storage_options=options)
        by_blocks = dd.read_csv(f"{oss_bucket.uri}table.csv", blocksize=20_000, storage_options=options)
        assert by_blocks.npartitions > 1 and by_blocks["b"].sum().compute() == frame["b"].sum()


def test_arrays(oss_bucket: OssBucket) -> None:
    da = pytest.importorskip("dask.array")
    zarr = pytest.importorskip("zarr", minversion="3")
    data = np.random.default_rng(7).random((400, 300))
    options = dict(oss_bucket.options)
    da.from_array(data, chunks=(100, 300)).to_zarr(f"{oss_bucket.uri}array", storage_options=options)
    found = da.from_zarr(f"{oss_bucket.uri}array", storage_options=options)
    assert found.chunks == ((100,) * 4, (300,))
    assert np.array_equal(found[150:250].compute(), data[150:250])
    store = zarr.storage.FsspecStore.from_url(f"{oss_bucket.uri}array", storage_options=options)
    assert np.array_equal(zarr.open_array(store, mode="r")[:], data)


def test_bags_of_bytes_and_text(oss_bucket: OssBucket) -> None:
    db = pytest.importorskip("dask.bag")
    for number in range(3):
        oss_bucket.put(f"lines/{number}.txt", f"one {number}\ntwo {number}\n".encode())
    lines = db.read_text(f"{oss_bucket.uri}lines/*.txt", storage_options=dict(oss_bucket.options))
    with dask.config.set(scheduler="threads"):
        assert sorted(lines.compute()) == [f"{word} {number}\n" for word in ("one", "two") for number in range(3)]
