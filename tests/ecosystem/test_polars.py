"""polars: its own object store does not know `oss://`, so it gets an open file, or a dataset of pyarrow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from osstorchconnector.filesystem import OssFileSystem
from osstorchconnector.testing import OssBucket

pl = pytest.importorskip("polars")
ds = pytest.importorskip("pyarrow.dataset")

ROWS, COLUMNS = 40_000, 20


@pytest.fixture
def fs(oss_bucket: OssBucket) -> OssFileSystem:
    return OssFileSystem(**oss_bucket.options)


@pytest.fixture
def frame() -> Any:
    chance = np.random.default_rng(6)
    return pl.DataFrame({f"c{number:02}": chance.random(ROWS) for number in range(COLUMNS)})


def received_bytes(bucket: OssBucket) -> int:
    return sum(call.bytes_out for call in bucket.server.counters().log if call.operation == "GetObject")


def test_a_table_goes_there_and_comes_back_by_an_open_file(
    oss_bucket: OssBucket, fs: OssFileSystem, frame: Any
) -> None:
    path = f"{oss_bucket.name}/table.parquet"
    with fs.open(path, "wb") as file:
        frame.write_parquet(file)
    with fs.open(path) as file:
        assert pl.read_parquet(file).equals(frame)
    with fs.open(path) as file:
        assert pl.read_parquet(file, columns=["c03", "c07"]).equals(frame[["c03", "c07"]])
    with fs.open(f"{oss_bucket.name}/table.csv", "wb") as file:
        frame.head(100).write_csv(file)
    with fs.open(f"{oss_bucket.name}/table.csv") as file:
        assert pl.read_csv(file).equals(frame.head(100))


def test_few_columns_of_a_dataset_cost_few_bytes(oss_bucket: OssBucket, fs: OssFileSystem, frame: Any) -> None:
    path = f"{oss_bucket.name}/table.parquet"
    with fs.open(path, "wb") as file:
        frame.write_parquet(file, compression="uncompressed", row_group_size=ROWS // 4, use_pyarrow=True)
    size = len(oss_bucket.get("table.parquet"))
    oss_bucket.server.reset_counters()
    scan = pl.scan_pyarrow_dataset(ds.dataset(path, filesystem=fs))
    found = scan.filter(pl.col("c03") > 0.5).select("c03", "c07").collect()
    assert found.equals(frame.filter(pl.col("c03") > 0.5)[["c03", "c07"]])
    print(
        [(c.bytes_out, c.headers.get("range")) for c in oss_bucket.server.counters().log if c.operation == "GetObject"]
    )
    assert received_bytes(oss_bucket) <= 1.1 * size * 2 / COLUMNS + (256 << 10)  # pyarrow reads the footer twice


def test_what_polars_does_with_a_url(oss_bucket: OssBucket, fs: OssFileSystem, frame: Any) -> None:
    """It refuses the scheme. If this fails, polars has learned it: see docs/ecosystem.md."""
    with pytest.raises(Exception, match="oss"):
        pl.scan_parquet(f"{oss_bucket.uri}table.parquet").collect()
