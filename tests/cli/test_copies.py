"""cp, mv and sync, between this machine and OSS and within OSS."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from cli.conftest import Run

from osstorchconnector.cli import copies
from osstorchconnector.cli.transfer import Job, Tally
from osstorchconnector.testing import OssBucket

FILES = {"1.jpg": b"one", "b/2.jpg": b"two", "b/3.txt": b"", "c d/ü.jpg": b"x" * 3_000_000}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "images"
    for name, data in FILES.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return top


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def stored(bucket: OssBucket, prefix: str = "") -> dict[str, bytes]:
    return {key[len(prefix) :]: bucket.get(key) for key in list(bucket.keys()) if key.startswith(prefix)}


def test_a_folder_goes_to_oss_and_back(run: Run, oss_bucket: OssBucket, folder: Path, tmp_path: Path) -> None:
    assert run("cp", "-r", f"{folder}", f"{oss_bucket.uri}up").err == "4 copied, 2.9 MiB\n"
    assert stored(oss_bucket, "up/") == FILES
    assert run("cp", "-r", f"{oss_bucket.uri}up/", f"{tmp_path}/down").status == 0
    assert contents(tmp_path / "down") == FILES
    assert run("cp", "-r", f"{oss_bucket.uri}up/", f"{oss_bucket.uri}copy/").status == 0
    assert stored(oss_bucket, "copy/") == FILES


def test_single_files_go_to_names_and_into_folders(
    run: Run, oss_bucket: OssBucket, folder: Path, tmp_path: Path
) -> None:
    assert run("cp", f"{folder}/1.jpg", oss_bucket.uri).status == 0
    assert run("cp", f"{oss_bucket.uri}1.jpg", f"{oss_bucket.uri}new").status == 0
    assert run("cp", f"{oss_bucket.uri}new", f"{tmp_path}").status == 0
    assert (stored(oss_bucket), (tmp_path / "new").read_bytes()) == ({"1.jpg": b"one", "new": b"one"}, b"one")


def test_what_is_there_is_kept_unless_the_user_says_so(run: Run, oss_bucket: OssBucket, folder: Path) -> None:
    oss_bucket.put("up/1.jpg", b"old!")
    status, _, err = run("cp", "-r", f"{folder}", f"{oss_bucket.uri}up/")
    assert (status, oss_bucket.get("up/1.jpg")) == (1, b"old!")
    assert f"failed: 1.jpg: {oss_bucket.uri}up/1.jpg is there already: -f replaces it" in err
    assert "3 copied" in err
    assert "1 failed" in err
    assert run("cp", f"{folder}/1.jpg", f"{oss_bucket.uri}up/").status == 1
    assert run("cp", "-r", "-u", f"{folder}", f"{oss_bucket.uri}up/").err == "1 copied, 3 B\n"
    assert run("cp", "-r", "-u", f"{folder}", f"{oss_bucket.uri}up/").err == "0 copied, 0 B\n"
    assert run("cp", "-r", "-f", f"{folder}", f"{oss_bucket.uri}up/").err == "4 copied, 2.9 MiB\n"


def test_patterns_and_dry_runs(run: Run, oss_bucket: OssBucket, folder: Path) -> None:
    arguments = ["cp", "-r", "--include", "*.jpg", "--exclude", "c d/*", f"{folder}", f"{oss_bucket.uri}up/"]
    out = run(*arguments, "--dry-run").out
    assert [line.split(" -> ")[1] for line in sorted(out.splitlines())] == [
        f"{oss_bucket.uri}up/1.jpg",
        f"{oss_bucket.uri}up/b/2.jpg",
    ]
    assert oss_bucket.keys() == []
    assert run(*arguments).status == 0
    assert oss_bucket.keys() == ["up/1.jpg", "up/b/2.jpg"]


def test_a_key_that_would_leave_the_folder_is_not_written(run: Run, oss_bucket: OssBucket, tmp_path: Path) -> None:
    oss_bucket.put("up/../../evil", b"evil")
    oss_bucket.put("up/good", b"good")
    status, _, err = run("cp", "-r", f"{oss_bucket.uri}up/", f"{tmp_path}/a/b/")
    assert (status, contents(tmp_path)) == (1, {"a/b/good": b"good"})
    assert "'../../evil' can't be a path below" in err


def test_failures_are_listed_and_the_rest_is_copied(
    run: Run, oss_bucket: OssBucket, folder: Path, tmp_path: Path
) -> None:
    run("cp", "-r", f"{folder}", f"{oss_bucket.uri}up/")
    (tmp_path / "down" / "1.jpg").mkdir(parents=True)
    (tmp_path / "down" / "1.jpg" / "in the way").touch()
    (tmp_path / "down" / "b").write_bytes(b"a file where a folder is needed")
    status, _, err = run("cp", "-r", f"{oss_bucket.uri}up/", f"{tmp_path}/down")
    assert status == 1
    assert "1 copied" in err
    assert "3 failed" in err
    assert (tmp_path / "down" / "c d" / "ü.jpg").read_bytes() == FILES["c d/ü.jpg"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["cp", "{folder}", "{uri}"], "is no single file or object: -r copies"),
        (["cp", "{uri}nothing", "x"], "is no single file or object"),
        (["cp", "{folder}/1.jpg", "{folder}/2.jpg"], "is in OSS"),
        (["cp", "-r", "{folder}/nothing", "{uri}"], "is no folder"),
        (["mv", "{uri}a", "{uri}a"], "can't be moved onto or into itself"),
        (["mv", "-r", "{uri}a/", "{uri}a/b/"], "can't be moved onto or into itself"),
        (["mv", "-f", "-r", "{uri}a/", "{uri}a"], "can't be moved onto or into itself"),
    ],
)
def test_what_can_not_be_meant_is_refused(
    run: Run, oss_bucket: OssBucket, folder: Path, arguments: list[str], complaint: str
) -> None:
    status, _, err = run(*(each.format(folder=folder, uri=oss_bucket.uri) for each in arguments))
    assert status == 1
    assert complaint in err


def test_mv_removes_what_was_copied(run: Run, oss_bucket: OssBucket, folder: Path) -> None:
    assert run("mv", "-r", f"{folder}", f"{oss_bucket.uri}up/").err == "4 moved, 2.9 MiB\n"
    assert (contents(folder), stored(oss_bucket, "up/")) == ({}, FILES)
    assert run("mv", f"{oss_bucket.uri}up/1.jpg", f"{oss_bucket.uri}1.jpg").status == 0
    assert sorted(oss_bucket.keys()) == ["1.jpg", "up/b/2.jpg", "up/b/3.txt", "up/c d/ü.jpg"]


def test_mv_keeps_what_was_not_copied(run: Run, oss_bucket: OssBucket, folder: Path) -> None:
    oss_bucket.put("up/1.jpg", b"old")
    assert run("mv", "-r", f"{folder}", f"{oss_bucket.uri}up/").status == 1
    assert contents(folder) == {"1.jpg": b"one"}


def test_mv_to_its_own_folder_removes_nothing(run: Run, oss_bucket: OssBucket) -> None:
    oss_bucket.put("up/1.jpg", b"one")
    for arguments in (["up/1.jpg", "up/"], ["up/1.jpg", "up/1.jpg"]):
        status, _, err = run("mv", "-f", *(oss_bucket.uri + each for each in arguments))
        assert (status, oss_bucket.get("up/1.jpg")) == (1, b"one")
        assert "onto" in err


def test_mv_out_of_a_folder_writes_over_nothing_that_is_moved(run: Run, oss_bucket: OssBucket) -> None:
    files = {"a/a/y": b"inner", "a/x": b"x", "a/y": b"outer"}
    for key, data in files.items():
        oss_bucket.put(key, data)
    status, _, err = run("mv", "-r", "-f", oss_bucket.uri + "a/", oss_bucket.uri)
    assert (status, stored(oss_bucket)) == (1, {"a/a/y": b"inner", "x": b"x", "y": b"outer"})
    assert f"failed: a/y: {oss_bucket.uri}a/y is in {oss_bucket.uri}a/, which is moved" in err


def test_mv_keeps_what_has_a_folder_in_its_way(run: Run, oss_bucket: OssBucket, tmp_path: Path) -> None:
    oss_bucket.put("up/a", b"one")
    (tmp_path / "down" / "a").mkdir(parents=True)
    assert run("mv", "-r", "-f", f"{oss_bucket.uri}up/", f"{tmp_path}/down/").status == 1
    assert (stored(oss_bucket, "up/"), contents(tmp_path / "down")) == ({"a": b"one"}, {})


def test_mv_keeps_what_has_changed_since_it_was_copied(
    run: Run, oss_bucket: OssBucket, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log, for example, that a program goes on writing."""
    finished = copies.run_jobs

    def and_then_written(jobs: Iterable[Job], title: str, *arguments: int) -> Tally:
        ended = finished(jobs, title, *arguments)
        if title == "copying":
            with (folder / "b" / "3.txt").open("ab") as file:
                file.write(b"more")
            oss_bucket.put("in/1.jpg", b"of another size")
            oss_bucket.delete("in/2.jpg")
        return ended

    monkeypatch.setattr(copies, "run_jobs", and_then_written)
    status, _, err = run("mv", "-r", f"{folder}", f"{oss_bucket.uri}up/")
    assert (status, contents(folder), stored(oss_bucket, "up/")) == (1, {"b/3.txt": b"more"}, FILES)
    assert f"{folder}/b/3.txt has changed since it was copied, or just before: it stays" in err
    oss_bucket.put("in/1.jpg", b"one")
    oss_bucket.put("in/2.jpg", b"two")
    status, _, err = run("mv", "-r", f"{oss_bucket.uri}in/", f"{oss_bucket.uri}new/")
    assert (status, err.splitlines()[-1]) == (1, "1 failed")
    assert stored(oss_bucket, "in/") == {"1.jpg": b"of another size"}
    assert stored(oss_bucket, "new/") == {"1.jpg": b"one", "2.jpg": b"two"}


def test_sync_copies_what_differs_and_removes_what_is_superfluous(
    run: Run, oss_bucket: OssBucket, folder: Path
) -> None:
    oss_bucket.put("up/gone", b"")
    oss_bucket.put("up/1.jpg", b"old version")
    out = run("sync", "--delete", "--dry-run", f"{folder}", f"{oss_bucket.uri}up/").out
    assert f"remove  {oss_bucket.uri}up/gone" in out
    assert oss_bucket.get("up/1.jpg") == b"old version"
    assert run("sync", f"{folder}", f"{oss_bucket.uri}up/").err == "4 copied, 2.9 MiB\n"
    assert stored(oss_bucket, "up/") == {**FILES, "gone": b""}
    assert run("sync", "--delete", f"{folder}", f"{oss_bucket.uri}up/").err == "0 copied, 0 B\n"
    assert stored(oss_bucket, "up/") == FILES
    (folder / "1.jpg").write_bytes(b"new")
    os.utime(folder / "1.jpg", (2**31, 2**31))
    assert run("sync", f"{folder}", f"{oss_bucket.uri}up/").err == "1 copied, 3 B\n"


def test_sync_removes_nothing_when_a_copy_failed(run: Run, oss_bucket: OssBucket, tmp_path: Path) -> None:
    oss_bucket.put("up/../x", b"")
    (tmp_path / "down").mkdir()
    (tmp_path / "down" / "mine").touch()
    assert run("sync", "--delete", f"{oss_bucket.uri}up/", f"{tmp_path}/down").status == 1
    assert contents(tmp_path / "down") == {"mine": b""}


def test_sync_removes_nothing_when_there_is_no_source(run: Run, oss_bucket: OssBucket, folder: Path) -> None:
    for source in (f"{oss_bucket.uri}typo/", f"{folder.parent}/not mounted"):
        (folder.parent / "not mounted").mkdir(exist_ok=True)
        oss_bucket.put("up/1.jpg", b"one")
        target = f"{folder}" if source.startswith("oss:") else f"{oss_bucket.uri}up/"
        status, _, err = run("sync", "--delete", source, target)
        assert (status, contents(folder), stored(oss_bucket, "up/")) == (1, FILES, {"1.jpg": b"one"})
        assert f"nothing is in {source}, so nothing is removed" in err


def test_sync_removes_local_files_too(run: Run, oss_bucket: OssBucket, folder: Path) -> None:
    oss_bucket.put("up/1.jpg", FILES["1.jpg"])
    assert run("sync", "--delete", f"{oss_bucket.uri}up/", f"{folder}").status == 0
    assert contents(folder) == {"1.jpg": b"one"}
