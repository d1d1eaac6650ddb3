"""Hugging Face `datasets` on `oss://`: its builders stream, and datasets are saved and loaded."""

from __future__ import annotations

import io
import itertools
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from osstorchconnector.filesystem import OssFileSystem
from osstorchconnector.testing import OssBucket

# Where the package is missing, its name finds the folder tests/datasets.
pytest.importorskip("datasets.arrow_dataset")
datasets = pytest.importorskip("datasets")

ROWS, FILES = 1000, 4


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    fsspec.register_implementation("oss", OssFileSystem, clobber=True)
    yield
    OssFileSystem.clear_instance_cache()


def table() -> Any:
    return datasets.Dataset.from_dict({"number": range(ROWS), "text": [f"text {number}" for number in range(ROWS)]})


def put_parquet(bucket: OssBucket) -> str:
    """Put a table as several Parquet files, and return the pattern that finds them."""
    for number in range(FILES):
        shard = table().shard(FILES, number, contiguous=True)
        shard.to_parquet(f"{bucket.uri}train/{number:02}.parquet", storage_options=bucket.options, batch_size=50)
    return f"{bucket.uri}train/*.parquet"


def stream(kind: str, uri: str, bucket: OssBucket, folder: Path) -> Any:
    return datasets.load_dataset(
        kind, data_files=uri, split="train", streaming=True, storage_options=bucket.options, cache_dir=str(folder)
    )


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 0, 0)).save(file, "PNG")
    return file.getvalue()


def test_parquet_files_are_streamed(oss_bucket: OssBucket, tmp_path: Path) -> None:
    stream_ = stream("parquet", put_parquet(oss_bucket), oss_bucket, tmp_path)
    assert [row["number"] for row in stream_] == list(range(ROWS))
    assert next(iter(stream_.skip(700)))["text"] == "text 700"


def test_a_stream_goes_on_in_the_middle(oss_bucket: OssBucket, tmp_path: Path) -> None:
    uri = put_parquet(oss_bucket)
    first = stream("parquet", uri, oss_bucket, tmp_path)
    seen = [row["number"] for row in itertools.islice(first, 620)]
    state = first.state_dict()
    later = stream("parquet", uri, oss_bucket, tmp_path)
    later.load_state_dict(state)
    oss_bucket.server.reset_counters()
    assert seen + [row["number"] for row in later] == list(range(ROWS))
    read = {call.key for call in oss_bucket.server.counters().log if call.operation == "GetObject"}
    assert read <= {"train/02.parquet", "train/03.parquet"}


def test_members_of_tars_are_streamed_and_it_goes_on_in_the_middle(oss_bucket: OssBucket, tmp_path: Path) -> None:
    for shard in range(2):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            for number in range(shard * 10, shard * 10 + 10):
                for name, data in ((f"{number:03}.png", picture(number)), (f"{number:03}.cls", str(number).encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        oss_bucket.put(f"shards/{shard}.tar", file.getvalue())
    uri = oss_bucket.uri + "shards/*.tar"
    found = stream("webdataset", uri, oss_bucket, tmp_path)
    assert [int(row["cls"]) for row in found] == list(range(20))
    assert [np.asarray(row["png"])[0, 0, 0] for row in found] == list(range(20))
    seen = [int(row["cls"]) for row in itertools.islice(found, 13)]
    state = found.state_dict()
    later = stream("webdataset", uri, oss_bucket, tmp_path)
    later.load_state_dict(state)
    assert seen + [int(row["cls"]) for row in later] == list(range(20))


def test_a_dataset_is_saved_and_loaded(oss_bucket: OssBucket) -> None:
    uri = oss_bucket.uri + "saved/table"
    table().save_to_disk(uri, num_shards=3, storage_options=oss_bucket.options)
    assert sum(key.endswith(".arrow") for key in list(oss_bucket.keys())) == 3
    found = datasets.load_from_disk(uri, storage_options=oss_bucket.options)
    assert found[:] == table()[:]


def test_splits_are_saved_and_loaded(oss_bucket: OssBucket) -> None:
    uri = oss_bucket.uri + "saved/splits"
    splits = table().train_test_split(0.1, seed=1)
    splits.save_to_disk(uri, storage_options=oss_bucket.options)
    found = datasets.load_from_disk(uri, storage_options=oss_bucket.options)
    assert {name: part[:] for name, part in found.items()} == {name: part[:] for name, part in splits.items()}


def test_what_is_not_there_is_an_error_that_names_it(oss_bucket: OssBucket, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing"):
        stream("parquet", oss_bucket.uri + "nothing.parquet", oss_bucket, tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing"):
        datasets.load_from_disk(oss_bucket.uri + "nothing", storage_options=oss_bucket.options)


def test_a_stream_is_shared_out_among_the_workers_of_a_loader(oss_bucket: OssBucket, tmp_path: Path) -> None:
    import torch

    found = stream("parquet", put_parquet(oss_bucket), oss_bucket, tmp_path).select_columns(["number"])
    loader: Any = torch.utils.data.DataLoader(found, batch_size=None, num_workers=2)
    assert sorted(int(row["number"]) for row in loader) == list(range(ROWS))
