"""`endpoint=""`: datasets and checkpoints on folders of this machine, as on OSS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from loaders import needs_torch
from torch.distributed import checkpoint as dcp
from torch.utils.data import DataLoader

from osstorchconnector import (
    DataObject,
    OssCheckpointManager,
    OssClient,
    OssDCPFileSystem,
    OssIterableDataset,
    OssMapDataset,
    OssNotFoundError,
    OssStorageReader,
    OssStorageWriter,
    OssUriError,
    imagenet_manifest_parser,
)

NAMES = [f"{number:02}.bin" for number in range(12)]


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "data").mkdir()
    for name in NAMES:
        (tmp_path / "data" / name).write_bytes(name.encode() * 100)
    (tmp_path / "manifest").write_text("".join(f"{name}\tcat {number}\n" for number, name in enumerate(NAMES)))
    return f"{tmp_path}/data/"


def facts(item: DataObject) -> tuple[str, int, Any, bytes]:
    return item.key, item.size, item.label, item.read()


def expected(folder: str, *, labels: bool = False) -> list[tuple[str, int, Any, bytes]]:
    """Return what each object is: its key is the whole path."""
    return [
        (folder + name, 600, f"cat {number}" if labels else "", name.encode() * 100)
        for number, name in enumerate(NAMES)
    ]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset])
def test_a_folder_is_a_dataset(folder: str, kind: Any, workers: int) -> None:
    dataset = kind.from_prefix(folder, "", transform=facts)
    items = DataLoader(dataset, batch_size=None, num_workers=workers)
    assert sorted(tuple(item) for item in items) == expected(folder)
    named = kind.from_objects([folder + name for name in NAMES[::-1]], endpoint="", transform=facts)
    assert list(named) == expected(folder)[::-1]
    manifest = str(Path(folder).parent / "manifest")
    labelled = kind.from_manifest_file(manifest, imagenet_manifest_parser, folder, "", transform=facts)
    assert list(labelled) == expected(folder, labels=True)
    saved = str(Path(folder).parent / "index")
    labelled.save_index(saved)
    assert list(kind.from_index(saved, "", transform=facts)) == expected(folder, labels=True)


def test_a_folder_of_more_than_a_page_is_listed_whole(tmp_path: Path) -> None:
    names = [f"{number:05}" for number in range(2500)]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    dataset = OssMapDataset.from_prefix(f"{tmp_path}/", "")
    assert [item.name.rpartition("/")[2] for item in dataset] == names


def test_an_epoch_is_resumed_and_batches_are_read_at_random(folder: str) -> None:
    first, second = (OssIterableDataset.from_prefix(folder, "", shuffle=True, seed=3) for _ in range(2))
    items = iter(first)
    head = [next(items).key for _ in range(5)]
    second.load_state_dict(first.state_dict())
    assert sorted(head + [item.key for item in second]) == sorted(folder + name for name in NAMES)
    dataset = OssMapDataset.from_prefix(folder, "")
    assert [item.key for item in dataset[[7, 2]]] == [folder + NAMES[7], folder + NAMES[2]]
    assert dataset[-1].read() == NAMES[-1].encode() * 100


def test_what_is_missing_is_an_error_that_says_what_was_read(folder: str) -> None:
    with pytest.raises(OssNotFoundError, match="did you mean .*data/"):
        list(OssIterableDataset.from_prefix(folder.replace("data", "date"), ""))
    dataset = OssMapDataset.from_objects([folder + "none"], "")
    with pytest.raises(RuntimeError, match="NoSuchKey.*endpoint is empty"):
        dataset[0]


def test_an_entry_of_a_manifest_does_not_lead_out_of_the_folder(folder: str, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest"
    manifest.write_text("../../secret\tx\n")
    dataset = OssMapDataset.from_manifest_file(str(manifest), imagenet_manifest_parser, folder, "")
    with pytest.raises(OssUriError, match=r"'\.\.' is no name"):
        dataset[0]


@needs_torch(2, 3)
def test_distributed_checkpoints_are_saved_loaded_and_cleaned(tmp_path: Path) -> None:
    fs = OssDCPFileSystem("")
    state = {"weights": torch.arange(100_000.0), "step": torch.tensor(7)}
    for _ in range(2):
        dcp.save(state, storage_writer=fs.writer(f"{tmp_path}/run/step-1"))
    loaded = {"weights": torch.zeros(100_000), "step": torch.tensor(0)}
    dcp.load(loaded, storage_reader=fs.reader(f"{tmp_path}/run/step-1"))
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    names = {path.name.partition(".")[0] or path.name for path in (tmp_path / "run" / "step-1").iterdir()}
    assert names == {".metadata", "__0_0"}
    assert (fs.ls(f"{tmp_path}/run"), fs.exists(f"{tmp_path}/run")) == ([f"{tmp_path}/run/step-1"], True)
    OssClient("").create_upload(f"{tmp_path}/run/step-2/__0_0.0123456789a-01234567.distcp")
    (lost,) = fs.clean(f"{tmp_path}/run", older_than=0)
    assert "step-2" in lost
    assert not list(OssClient("").list_uploads(f"{tmp_path}/run"))


@needs_torch(2, 3)
def test_readers_and_writers_of_distributed_checkpoints_work_without_a_file_system(tmp_path: Path) -> None:
    dcp.save({"w": torch.arange(9)}, storage_writer=OssStorageWriter(f"{tmp_path}/step-1", endpoint=""))
    loaded = {"w": torch.zeros(9, dtype=torch.int64)}
    dcp.load(loaded, storage_reader=OssStorageReader(f"{tmp_path}/step-1", endpoint=""))
    assert torch.equal(loaded["w"], torch.arange(9))


@needs_torch(2, 3)
@pytest.mark.parametrize("as_client", [False, True])
def test_a_manager_keeps_the_newest_checkpoints(tmp_path: Path, as_client: bool) -> None:
    manager = OssCheckpointManager(f"{tmp_path}/run", endpoint=OssClient("") if as_client else "", keep=1)
    for step in (1, 2):
        manager.save(step, {"w": torch.full((3,), float(step))})
    state = {"w": torch.zeros(3)}
    assert manager.load(state) == 2
    assert state["w"][0] == 2
