"""Folders with checkpoints: whole or not there, the newest found, the old ones removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from osstorchconnector import (
    OssError,
    OssIntegrityError,
    OssNotFoundError,
    OssObjectChangedError,
    OssUriError,
    OssUsageError,
)
from osstorchconnector.integrations.folders import MANIFEST, CheckpointFolders, _stat
from osstorchconnector.testing import OssBucket

FILES = {"model.bin": b"weights" * 1000, "state/rng 0.pt": b"chance", "empty": b""}


@pytest.fixture
def folders(oss_bucket: OssBucket) -> CheckpointFolders:
    return CheckpointFolders(oss_bucket.uri + "run/", **oss_bucket.options)


def written(place: Path, files: dict[str, bytes] | None = None) -> Path:
    for name, data in (FILES if files is None else files).items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)
    return place


def content(place: str | Path) -> dict[str, bytes]:
    return {path.relative_to(place).as_posix(): path.read_bytes() for path in Path(place).rglob("*") if path.is_file()}


def test_a_folder_goes_there_and_comes_back(folders: CheckpointFolders, oss_bucket: OssBucket, tmp_path: Path) -> None:
    folders.upload(written(tmp_path / "checkpoint-5"))
    assert sorted(oss_bucket.keys()) == sorted(f"run/checkpoint-5/{name}" for name in [*FILES, MANIFEST])
    assert folders.names() == ["checkpoint-5"]
    place = folders.download("checkpoint-5", tmp_path / "there")
    assert place == str(tmp_path / "there" / "checkpoint-5")
    assert content(place) == FILES
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["checkpoint-5"]


def test_an_upload_that_fails_is_no_checkpoint(
    folders: CheckpointFolders, oss_bucket: OssBucket, tmp_path: Path
) -> None:
    folder = written(tmp_path / "checkpoint-5")
    oss_bucket.server.fail("PutObject", "403", after=1, times=1)
    with pytest.raises(OssError, match="run/checkpoint-5/"):
        folders.upload(folder)
    assert folders.newest() is None
    with pytest.raises(OssNotFoundError, match="no whole checkpoint at oss://.*/run/checkpoint-5/"):
        folders.download("checkpoint-5", tmp_path / "there")
    folders.upload(folder)
    assert folders.newest() == "checkpoint-5"


def test_a_checkpoint_stays_until_one_of_the_same_name_is_whole(
    folders: CheckpointFolders, oss_bucket: OssBucket, tmp_path: Path
) -> None:
    folders.upload(written(tmp_path / "last"))
    again = written(tmp_path / "again" / "last", {"model.bin": b"new"})
    for number in range(2):  # its file, the list of its files
        oss_bucket.server.fail("PutObject", "403", after=number, times=1)
        with pytest.raises(OssError, match="run/last/"):
            folders.upload(again)
        assert content(folders.download("last", tmp_path / "there")) == FILES
        oss_bucket.server.clear_faults()
    for data in (b"new", b"newer"):
        folders.upload(written(again, {"model.bin": data}))
        assert content(folders.download("last", tmp_path / "there")) == {"model.bin": data}
        assert len(oss_bucket.keys()) == 2  # nothing is left of those before
    folders.remove("last")
    assert oss_bucket.keys() == []


def test_two_jobs_that_replace_one_checkpoint_are_noticed(
    folders: CheckpointFolders, oss_bucket: OssBucket, tmp_path: Path
) -> None:
    folder = written(tmp_path / "last")
    folders.upload(folder)

    class Meddling(CheckpointFolders):
        def _map(self, work: object, uris: object) -> object:
            found = list(super()._map(work, uris))  # type: ignore[arg-type]
            if work is _stat:  # when the files were uploaded and looked at
                folders.upload(folder)
            return found

    with pytest.raises(OssObjectChangedError, match="another job"):
        Meddling(oss_bucket.uri + "run", **oss_bucket.options).upload(folder)
    assert content(folders.download("last", tmp_path / "there")) == FILES


def test_the_newest_is_the_one_that_was_complete_last(
    folders: CheckpointFolders, oss_bucket: OssBucket, tmp_path: Path
) -> None:
    """Also after going back to an earlier step; the numbers decide only within the same second."""
    for hours, name in enumerate(["checkpoint-900", "checkpoint-1000", "checkpoint-950"]):
        oss_bucket.server.set_clock(hours * 3600)
        folders.upload(written(tmp_path / name))
    assert folders.names() == ["checkpoint-900", "checkpoint-1000", "checkpoint-950"]
    oss_bucket.server.set_clock(0)


def test_keep_removes_the_oldest_and_leaves_what_is_named(
    folders: CheckpointFolders, oss_bucket: OssBucket, tmp_path: Path
) -> None:
    for number in range(5):
        folders.upload(written(tmp_path / f"checkpoint-{number}"))
    oss_bucket.put("run/checkpoint-1/unfinished", b"")  # not in the list, and goes with the folder
    folders.keep(3, also={"checkpoint-0"})
    assert folders.names() == ["checkpoint-0", "checkpoint-3", "checkpoint-4"]
    assert {key.split("/")[1] for key in list(oss_bucket.keys())} == {"checkpoint-0", "checkpoint-3", "checkpoint-4"}
    folders.keep(1, also={"checkpoint-0", "checkpoint-3"})
    assert folders.names() == ["checkpoint-0", "checkpoint-3"]


def test_files_that_do_not_belong_to_the_checkpoint_are_noticed(
    folders: CheckpointFolders, oss_bucket: OssBucket, tmp_path: Path
) -> None:
    folders.upload(written(tmp_path / "checkpoint-5"))
    there = written(tmp_path / "there" / "checkpoint-5", {"mine": b"older"})
    oss_bucket.put("run/checkpoint-5/model.bin", b"WEIGHTS" * 1000)
    with pytest.raises(OssIntegrityError, match="run/checkpoint-5/model.bin is not the file"):
        folders.download("checkpoint-5", tmp_path / "there")
    assert content(there) == {"mine": b"older"}
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["checkpoint-5"]


def test_a_folder_that_is_here_is_replaced(folders: CheckpointFolders, tmp_path: Path) -> None:
    folders.upload(written(tmp_path / "checkpoint-5"))
    written(tmp_path / "there" / "checkpoint-5", {"half": b""})
    assert content(folders.download("checkpoint-5", tmp_path / "there")) == FILES


def test_somebody_else_in_the_same_folder_is_noticed(
    folders: CheckpointFolders, oss_bucket: OssBucket, tmp_path: Path
) -> None:
    folder = written(tmp_path / "checkpoint-5")

    class Meddling(CheckpointFolders):
        def _map(self, work: object, uris: object) -> object:  # after the files were uploaded
            oss_bucket.put("run/checkpoint-5/model.bin", b"WEIGHTS" * 1000)
            return super()._map(work, uris)  # type: ignore[arg-type]

    with pytest.raises(OssObjectChangedError, match="another job"):
        Meddling(oss_bucket.uri + "run", **oss_bucket.options).upload(folder)
    assert folders.names() == []


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b'{"completed": 1}',
        b'{"completed": "x", "files": {}}',
        b'{"completed": 1, "files": {"a": 1}}',
        b'{"completed": 1, "files": {"a": {"size": 1}}}',
        b'{"completed": 1, "files": {}, "beside": "../"}',
        b'{"completed": 1, "files": {}, "beside": 1}',
        *(
            json.dumps({"completed": 1, "files": {name: {"size": 1, "crc64": "1"}}}).encode()
            for name in ("/etc/passwd", "../a", "a/../../b", "", "a//b")
        ),
    ],
)
def test_a_list_of_files_is_not_trusted(
    folders: CheckpointFolders, oss_bucket: OssBucket, tmp_path: Path, text: bytes
) -> None:
    oss_bucket.put(f"run/checkpoint-5/{MANIFEST}", text)
    with pytest.raises(OssIntegrityError, match="is no list of a checkpoint's files"):
        folders.download("checkpoint-5", tmp_path)


@pytest.mark.parametrize("target", ["nothing", "."])
def test_a_checkpoint_that_would_lack_files_is_not_uploaded(
    folders: CheckpointFolders, oss_bucket: OssBucket, tmp_path: Path, target: str
) -> None:
    folder = written(tmp_path / "checkpoint-5", {"name with \\": b"x"})
    folders.upload(folder)
    assert content(folders.download("checkpoint-5", tmp_path / "there")) == {"name with \\": b"x"}
    (folder / "link").symlink_to(target)
    with pytest.raises(OssUsageError, match="link: it leads to a folder or to nothing"):
        folders.upload(folder)


def test_names_and_folders_that_can_not_be(folders: CheckpointFolders, oss_bucket: OssBucket, tmp_path: Path) -> None:
    (tmp_path / "checkpoint-5").mkdir()
    with pytest.raises(OssUsageError, match="there is no file in it"):
        folders.upload(tmp_path / "checkpoint-5")
    for name in ("a/b", "..", ".hidden"):
        with pytest.raises(OssUsageError, match="can't be the name of a checkpoint"):
            folders.download(name, tmp_path)
    with pytest.raises(OssUriError, match="a folder in a bucket is needed"):
        CheckpointFolders(f"oss://{oss_bucket.name}/", **oss_bucket.options)
