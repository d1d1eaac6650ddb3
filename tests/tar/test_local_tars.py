"""`endpoint=""`: tars and indexes that are files of this machine are packed and read as those in OSS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tar.conftest import tar_of
from torch.utils.data import DataLoader

from osstorchconnector import (
    DataObject,
    OssIterableDataset,
    OssMapDataset,
    OssNotFoundError,
    OssObjectChangedError,
    OssTarError,
    generate_tar_archive,
)
from osstorchconnector.tar.listing import tar_files
from osstorchconnector.uri import OssUri

FILES = {f"{number:02}.{kind}": f"{kind} {number}".encode() * number for number in range(20) for kind in ("jpg", "txt")}


def name_and_bytes(data: DataObject) -> tuple[str, bytes]:
    return data.key, data.read()


def names_of(sample: dict[str, DataObject]) -> list[str]:
    return [data.key for data in sample.values()]


def _as_it_is(item: Any) -> Any:
    return item


@pytest.fixture
def tar(tmp_path: Path) -> str:
    """Return a tar without an index."""
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(FILES))
    return str(path)


@pytest.mark.parametrize("scheme", [False, True])
def test_a_folder_is_packed_and_its_members_are_read(tmp_path: Path, scheme: bool) -> None:
    (tmp_path / "in").mkdir()
    for name, data in FILES.items():
        (tmp_path / "in" / name).write_bytes(data)
    root = f"oss:/{tmp_path}" if scheme else str(tmp_path)
    tar, index = f"{root}/out/a.tar", f"{root}/out/a.tar.idx"
    (tmp_path / "out").mkdir()
    for _ in range(2):
        assert generate_tar_archive("", "", "", tar, index, f"{root}/in/", shard_bytes=12_000, resume=True) == 0
    want = [(f"{tmp_path}/in/{name}", data) for name, data in sorted(FILES.items())]
    shards = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert shards[:3] == ["a-00000.tar", "a-00000.tar.idx", "a-00001.tar"]
    for kind in (OssIterableDataset, OssMapDataset):
        assert list(kind.from_tar(f"{root}/out/", None, "", transform=name_and_bytes)) == want
    assert generate_tar_archive("", "", "", f"{root}/out/a-00000.tar", index, "", index_only=True) == 0
    assert (tmp_path / "out" / "a.tar.idx").read_bytes() == (tmp_path / "out" / "a-00000.tar.idx").read_bytes()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("options", [{}, {"shuffle": True}, {"shuffle": "chunks", "shuffle_chunk_size": 7}])
def test_workers_share_the_members_in_any_order(tar: str, workers: int, options: dict[str, Any]) -> None:
    dataset = OssIterableDataset.from_tar(tar, None, "", transform=name_and_bytes, **options)
    loader = DataLoader(dataset, batch_size=None, num_workers=workers, collate_fn=_as_it_is)
    found = list(loader)
    assert sorted(found) == sorted(FILES.items())
    assert (found == list(FILES.items())) is (not options and not workers)


def test_batches_samples_and_filters(tar: str) -> None:
    dataset = OssMapDataset.from_tar(tar, None, "", transform=name_and_bytes)
    assert dataset[[5, 3]] == [list(FILES.items())[5], list(FILES.items())[3]]
    samples = OssMapDataset.from_tar(tar, None, "", group_by="basename", transform=names_of)
    assert samples[[3, 0]] == [["03.jpg", "03.txt"], ["00.jpg", "00.txt"]]
    assert len(OssMapDataset.from_tar(tar, None, "", filter=".jpg")) == 20


def test_an_index_is_kept_beside_the_tar_and_must_be_of_it(tar: str) -> None:
    items = list(OssIterableDataset.from_tar(tar, None, "", transform=name_and_bytes, keep_index=True))
    assert items == list(FILES.items())
    dataset = OssMapDataset.from_tar(tar, f"{tar}.idx", "", transform=name_and_bytes)
    assert list(dataset) == items
    Path(tar).write_bytes(tar_of({"00.jpg": b"", "else": b"else"}))
    with pytest.raises(OssObjectChangedError):
        dataset[0]
    for index in (None, f"{tar}.idx"):
        with pytest.raises(OssTarError, match=r"a\.tar\.idx can't be used for"):
            list(OssIterableDataset.from_tar(tar, index, ""))


def test_what_is_not_there(tar: str, tmp_path: Path) -> None:
    with pytest.raises(OssNotFoundError):
        list(OssIterableDataset.from_tar(f"{tmp_path}/none.tar", None, ""))
    with pytest.raises(OssTarError, match=r"none\.idx can't be opened"):
        list(OssIterableDataset.from_tar(tar, f"{tmp_path}/none.idx", ""))
    with pytest.raises(OssNotFoundError, match="nothing to pack"):
        generate_tar_archive("", "", "", tar, f"{tar}.idx", f"{tmp_path}/none")


def test_the_first_folder_of_a_path_may_be_no_name_of_a_bucket() -> None:
    (file,) = tar_files("/Data_1/a.tar", None)
    assert (file.uri, file.index_uri) == (OssUri("Data_1", "a.tar"), OssUri("Data_1", "a.tar.idx"))
