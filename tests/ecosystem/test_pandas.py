"""pandas and pyarrow on `oss://`: they find our file system, and read no more than they need."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fsspec
import numpy as np
import pytest

from osstorchconnector.filesystem import OssFileSystem
from osstorchconnector.testing import OssBucket

pd = pytest.importorskip("pandas")
pq = pytest.importorskip("pyarrow.parquet")

ROWS, COLUMNS, GROUPS = 40_000, 20, 4


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    fsspec.register_implementation("oss", OssFileSystem, clobber=True)
    yield
    OssFileSystem.clear_instance_cache()


@pytest.fixture
def options(oss_bucket: OssBucket) -> dict[str, Any]:
    return dict(oss_bucket.options)


@pytest.fixture
def frame() -> Any:
    chance = np.random.default_rng(1)
    return pd.DataFrame({f"c{number:02}": chance.random(ROWS) for number in range(COLUMNS)})


def received_bytes(bucket: OssBucket) -> int:
    return sum(call.bytes_out for call in bucket.server.counters().log if call.operation == "GetObject")


def test_a_table_goes_there_and_comes_back(oss_bucket: OssBucket, options: dict[str, Any], frame: Any) -> None:
    for name, write, read in (
        ("table.parquet", "to_parquet", pd.read_parquet),
        ("table.csv", "to_csv", pd.read_csv),
        ("table.csv.gz", "to_csv", pd.read_csv),
        ("table.jsonl", "to_json", pd.read_json),
    ):
        more = {"index": False} if "csv" in name else {}
        lines = {"orient": "records", "lines": True} if "json" in name else {}
        small = frame.head(500)
        getattr(small, write)(oss_bucket.uri + name, storage_options=options, **more, **lines)
        found = read(oss_bucket.uri + name, storage_options=options, **({"lines": True} if lines else {}))
        pd.testing.assert_frame_equal(found, small)


def test_few_columns_cost_few_bytes(oss_bucket: OssBucket, options: dict[str, Any], frame: Any) -> None:
    """Parquet keeps the columns of a row group one after another: four of twenty, and the footer, are fetched."""
    uri = oss_bucket.uri + "table.parquet"
    frame.to_parquet(uri, storage_options=options, row_group_size=ROWS // GROUPS, compression=None)
    wanted = ["c03", "c04", "c10", "c17"]
    fs = OssFileSystem(**options)
    with fs.open(uri) as file:
        about = pq.ParquetFile(file).metadata
    groups = [about.row_group(number) for number in range(GROUPS)]
    chunks = [group.column(place) for group in groups for place in range(COLUMNS)]
    needed = sum(chunk.total_compressed_size for chunk in chunks if chunk.path_in_schema in wanted)
    oss_bucket.server.reset_counters()
    found = pd.read_parquet(uri, columns=wanted, storage_options=options)
    pd.testing.assert_frame_equal(found, frame[wanted])
    assert needed <= received_bytes(oss_bucket) <= 1.1 * needed + (64 << 10)


def test_row_groups_that_do_not_match_are_not_fetched(
    oss_bucket: OssBucket, options: dict[str, Any], frame: Any
) -> None:
    frame["c00"] = np.arange(ROWS)
    uri = oss_bucket.uri + "table.parquet"
    frame.to_parquet(uri, storage_options=options, row_group_size=ROWS // GROUPS, compression=None)
    size = len(oss_bucket.get("table.parquet"))
    oss_bucket.server.reset_counters()
    fs = OssFileSystem(**options)
    path = f"{oss_bucket.name}/table.parquet"
    found = pq.read_table(path, filesystem=fs, filters=[("c00", "<", 100)]).to_pandas()
    assert len(found) == 100
    assert received_bytes(oss_bucket) <= 1.1 * size / GROUPS + (64 << 10)


def test_a_partitioned_dataset(oss_bucket: OssBucket, options: dict[str, Any], frame: Any) -> None:
    import pyarrow as pa
    import pyarrow.dataset as ds

    small = frame.head(1000).assign(kind=[f"k{number % 3}" for number in range(1000)])
    fs = OssFileSystem(**options)
    root = f"{oss_bucket.name}/set"
    pq.write_to_dataset(pa.Table.from_pandas(small), root, partition_cols=["kind"], filesystem=fs)
    assert {key.split("/")[1] for key in list(oss_bucket.keys())} == {"kind=k0", "kind=k1", "kind=k2"}
    dataset = ds.dataset(root, filesystem=fs, partitioning="hive")
    oss_bucket.server.reset_counters()
    table = dataset.to_table(filter=ds.field("kind") == "k1")
    assert table.num_rows == len(small[small.kind == "k1"])
    read = {call.key for call in oss_bucket.server.counters().log if call.operation == "GetObject"}
    assert read and all("kind=k1" in key for key in read)
    whole = pd.read_parquet(f"oss://{root}", storage_options=options)
    assert len(whole) == 1000
