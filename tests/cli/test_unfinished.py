"""What copies that were cut off have left, and `clean`, which removes it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from cli.conftest import Run
from scripts import NO_LOGS

from osstorchconnector import OssClient
from osstorchconnector.cli.records import held_record, records_before, records_folder
from osstorchconnector.cli.show import size_text
from osstorchconnector.local_files import draft_beside
from osstorchconnector.testing import OssBucket

PART_BYTES = 1 << 20
DATA = os.urandom(4 * PART_BYTES)
NONE_ABORTED = "0 uploads aborted\n"
ONE_REMOVED = "1 unfinished copies removed from this machine\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small parts, a cache folder of this test's own, and a folder for files."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**NO_LOGS, "partSize": PART_BYTES, "uploadMemory": PART_BYTES}))
    monkeypatch.setenv("OSS_CONNECTOR_CONFIG", str(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def cut_off_download(run: Run, bucket: OssBucket, here: Path) -> Path:
    """Return the draft."""
    bucket.put("a/large", DATA)
    bucket.server.fail("GetObject", "AccessDenied", bucket=bucket.name, after=2)
    assert run("cp", f"{bucket.uri}a/large", f"{here}/large").status == 1
    bucket.server.clear_faults()
    (draft,) = here.iterdir()
    return draft


def age(path: Path, hours: float) -> None:
    then = time.time() - hours * 3600
    os.utime(path, (then, then))


@pytest.mark.parametrize("where", ["{uri}", "{uri}a/", "{here}", "{here}/."])
def test_a_download_that_nobody_goes_on_with_is_removed(
    run: Run, oss_bucket: OssBucket, here: Path, where: str
) -> None:
    draft = cut_off_download(run, oss_bucket, here)
    (record,) = records_folder().iterdir()
    arguments = ["clean", where.format(uri=oss_bucket.uri, here=here)]
    is_remote, uploads = "uri" in where, NONE_ABORTED
    age(record, 25)
    assert run(*arguments).err == (uploads if is_remote else "0 unfinished copies removed from this machine\n")
    age(draft, 25)
    out, err = run(*arguments, "--dry-run")[1:]
    assert out.split()[1:] == [str(draft), *size_text(draft.stat().st_size).split()]
    assert err.endswith("1 unfinished copies would be removed from this machine\n")
    assert (names(here), names(records_folder())) == ([draft.name], [record.name])
    assert run(*arguments).err == (uploads if is_remote else "") + ONE_REMOVED
    assert (names(here), names(records_folder())) == ([], [])


def test_an_upload_that_nobody_goes_on_with_is_removed_on_both_sides(
    run: Run, oss_bucket: OssBucket, here: Path
) -> None:
    (here / "large").write_bytes(DATA)
    oss_bucket.server.fail("UploadPart", "AccessDenied", bucket=oss_bucket.name, after=2)
    assert run("cp", f"{here}/large", f"{oss_bucket.uri}a/large").status == 1
    assert run("clean", oss_bucket.uri).err == NONE_ABORTED
    assert len(names(records_folder())) == 1
    assert run("clean", "--older-than", "0", oss_bucket.uri).err == "1 uploads aborted\n" + ONE_REMOVED
    assert (names(here), names(records_folder())) == (["large"], [])
    assert list(oss_bucket.server.uploads(oss_bucket.name)) == []


def test_what_belongs_elsewhere_stays(run: Run, oss_bucket: OssBucket, here: Path) -> None:
    draft = cut_off_download(run, oss_bucket, here)
    (here.parent / "other").mkdir()
    for where in (f"{oss_bucket.uri}b/", f"{here.parent}/other"):
        assert "1 unfinished" not in run("clean", "--older-than", "0", where).err
    assert (names(here), len(names(records_folder()))) == ([draft.name], 1)
    assert run("cp", f"{oss_bucket.uri}a/large", f"{here}/large").status == 0
    assert (names(here), (here / "large").read_bytes()) == (["large"], DATA)


def test_what_a_copy_holds_stays() -> None:
    with held_record("https://e", "oss://bucket/a", "/there") as held:
        assert held is not None
        held.write({}, {})
        assert list(records_before(time.time() + 1)) == []
    (found,) = records_before(time.time() + 1)
    assert found.names == ("https://e", "oss://bucket/a", "/there")


def test_a_record_that_a_copy_has_taken_up_again_is_young(tmp_path: Path) -> None:
    for _ in range(2):
        with held_record("https://e", "a", "b") as record:
            assert record is not None
        assert list(records_before(time.time() - 3600)) == []
        age(record.path, 2)
    assert len(list(records_before(time.time() - 3600))) == 1


def test_drafts_without_a_record_are_found_in_their_folder(run: Run, oss_bucket: OssBucket, here: Path) -> None:
    inside = here / "inside"
    inside.mkdir()
    old, young, link, folder = (draft_beside(inside / "x") for _ in range(4))
    for path in (old, young):
        path.write_bytes(b"half")
    age(old, 30)
    (inside / "mine").write_bytes(b"whole")
    age(inside / "mine", 30)
    link.symlink_to(inside / "mine")
    folder.mkdir()
    age(folder, 30)
    assert run("clean", str(here), access=False).err == ONE_REMOVED
    assert names(inside) == sorted([young.name, link.name, folder.name, "mine"])


def test_uploads_to_files_are_found_in_their_folder(run: Run, here: Path) -> None:
    client = OssClient("")
    inside = here / "inside"
    inside.mkdir()
    for name in ("old", "young"):
        client.upload_part(f"{inside}/{name}", client.create_upload(f"{inside}/{name}"), 1, b"half")
    old, young = (inside / f".osstorchconnector-{each.upload_id}.upload" for each in client.list_uploads(f"{inside}/"))
    age(old, 30)
    stranger = inside / ".osstorchconnector-0.upload"
    stranger.mkdir()
    age(stranger, 30)
    (inside / f".osstorchconnector-{'0' * 32}.upload").symlink_to(stranger)
    _, told, _ = run("clean", "--dry-run", str(here), access=False)
    assert f"{old}  {size_text(len('half') + len('old'))}" in told
    assert run("clean", str(here), access=False).err == ONE_REMOVED
    (kept,) = client.list_uploads(f"{inside}/")
    assert kept.key.endswith("/young")
    assert names(inside) == sorted([young.name, stranger.name, f".osstorchconnector-{'0' * 32}.upload"])
    parts = client.list_parts(f"{inside}/young", kept.upload_id)
    client.complete_upload(f"{inside}/young", kept.upload_id, parts)
    assert (inside / "young").read_bytes() == b"half"


@pytest.mark.parametrize("text", ["", "{", '{"names": [1]}', '{"names": "abc"}'])
def test_a_record_that_says_nothing_of_use_goes_alone(run: Run, here: Path, text: str) -> None:
    records_folder().mkdir(parents=True)
    (records_folder() / "0.json").write_text(text)
    assert run("clean", "--older-than", "0", str(here), access=False).err == ONE_REMOVED
    assert (names(here.parent), names(records_folder())) == (["cache", "config.json", "here"], [])


@pytest.mark.parametrize("draft", ["../mine", "mine", 7])
def test_a_record_that_names_no_draft_removes_none(run: Run, oss_bucket: OssBucket, here: Path, draft: object) -> None:
    (here / "mine").write_bytes(b"whole")
    (here.parent / "mine").write_bytes(b"whole")
    with held_record(oss_bucket.endpoint, f"{oss_bucket.uri}a", f"{here}/a") as record:
        assert record is not None
        record.write({}, {"draft": draft})
    assert run("clean", "--older-than", "0", oss_bucket.uri).err == NONE_ABORTED + ONE_REMOVED
    assert (names(here), names(records_folder())) == (["mine"], [])
    assert (here.parent / "mine").exists()
