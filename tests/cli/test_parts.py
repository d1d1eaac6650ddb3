"""Large copies that were cut off: what a killed process has copied is not copied again."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.conftest import Ended, Run
from scripts import NO_LOGS

from osstorchconnector.cli.records import held_record, records_folder
from osstorchconnector.client.client import OssClient
from osstorchconnector.files.writer import OssWriter
from osstorchconnector.testing import OssBucket

PART_BYTES = 1 << 20
PARTS = 8
DATA = os.urandom(PARTS * PART_BYTES - 1000)


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small parts, and a cache folder of this test's own."""
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**NO_LOGS, "partSize": PART_BYTES, "uploadMemory": PART_BYTES}))
    monkeypatch.setenv("OSS_CONNECTOR_CONFIG", str(path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return path


@pytest.fixture
def local(tmp_path: Path) -> Path:
    path = tmp_path / "here" / "large"
    path.parent.mkdir()
    return path


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[bytes]) -> None:
    """Wait until something has come about; the process must not end before."""
    while not condition():
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.05)


def killed_copy(bucket: OssBucket, source: str, target: str, when: Callable[[], Any], number: int) -> None:
    """Begin a copy in a process of its own, and send it a signal when that much is done."""
    access = ["-e", bucket.endpoint, "--region", bucket.region, "--cred-path", bucket.cred_path]
    program = [sys.executable, "-m", "osstorchconnector", "cp", source, target, *access]
    with subprocess.Popen(program, stderr=subprocess.PIPE) as process:
        wait_until(when, process)
        process.send_signal(number)
        _, errors = process.communicate(timeout=240)
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert b"The same command goes on from here" in errors
    bucket.server.clear_faults()
    bucket.server.reset_counters()


def cut_off_upload(bucket: OssBucket, local: Path, parts: int = 5, number: int = signal.SIGKILL) -> None:
    local.write_bytes(DATA)
    bucket.server.fail("UploadPart", "stall_upload", bucket=bucket.name, after=parts)

    def are_there() -> bool:
        uploads = bucket.server.uploads(bucket.name)
        return bool(uploads) and len(uploads[0].parts) == parts

    killed_copy(bucket, f"{local}", f"{bucket.uri}large", are_there, number)
    assert bucket.keys() == []


def cut_off_download(bucket: OssBucket, local: Path, number: int = signal.SIGKILL) -> int:
    """Return how many parts are there. Two are in flight, of which the second may come first."""
    bucket.put("large", DATA)
    bucket.server.fail("GetObject", "stall", bucket=bucket.name, after=5, at=1000)

    def are_there() -> bool:
        return any(each.stat().st_size >= 4 * PART_BYTES for each in local.parent.iterdir())

    killed_copy(bucket, f"{bucket.uri}large", f"{local}", are_there, number)
    assert not local.exists()
    (draft,) = local.parent.iterdir()
    parts, rest = divmod(draft.stat().st_size, PART_BYTES)
    assert (parts in (4, 5), rest) == (True, 0)
    return parts


def leftovers(local: Path) -> list[str]:
    return [each.name for each in [*local.parent.iterdir(), *records_folder().iterdir()] if each != local]


def requests(bucket: OssBucket, operation: str) -> int:
    return bucket.server.counters(with_log=False).requests[operation]


def sent_parts(bucket: OssBucket) -> list[int]:
    """Return the sizes of the parts that OSS has stored since the kill."""
    log = bucket.server.counters().log
    return sorted((each.bytes_in for each in log if (each.operation, each.status) == ("UploadPart", 200)), reverse=True)


def upload(run: Run, bucket: OssBucket, local: Path) -> Ended:
    return run("cp", f"{local}", f"{bucket.uri}large")


def download(run: Run, bucket: OssBucket, local: Path) -> Ended:
    return run("cp", f"{bucket.uri}large", f"{local}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_upload_goes_on(run: Run, oss_bucket: OssBucket, local: Path, number: int) -> None:
    cut_off_upload(oss_bucket, local, 5, number)
    assert upload(run, oss_bucket, local).err == "1 copied, 8.0 MiB\n"
    assert sent_parts(oss_bucket) == [PART_BYTES] * (PARTS - 6) + [PART_BYTES - 1000]
    assert requests(oss_bucket, "InitiateMultipartUpload") == 0
    assert oss_bucket.get("large") == DATA
    assert (oss_bucket.server.uploads(oss_bucket.name), leftovers(local)) == ([], [])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_download_goes_on(run: Run, oss_bucket: OssBucket, local: Path, number: int) -> None:
    parts = cut_off_download(oss_bucket, local, number)
    assert download(run, oss_bucket, local).err == "1 copied, 8.0 MiB\n"
    counters = oss_bucket.server.counters()
    assert counters.requests["GetObject"] == PARTS - parts
    assert counters.sent["GetObject"] == len(DATA) - parts * PART_BYTES
    assert (local.read_bytes(), leftovers(local)) == (DATA, [])


def test_a_file_that_has_changed_is_uploaded_anew(run: Run, oss_bucket: OssBucket, local: Path) -> None:
    cut_off_upload(oss_bucket, local)
    local.write_bytes(DATA[::-1])
    assert upload(run, oss_bucket, local).status == 0
    assert len(sent_parts(oss_bucket)) == PARTS
    assert oss_bucket.get("large") == DATA[::-1]
    assert oss_bucket.server.uploads(oss_bucket.name) == []


def test_a_part_of_other_bytes_is_sent_again(run: Run, oss_bucket: OssBucket, local: Path) -> None:
    """The file has the same size and time as before: only a look at its bytes tells."""
    cut_off_upload(oss_bucket, local)
    status, changed = local.stat(), bytes([DATA[0] ^ 1]) + DATA[1:]
    local.write_bytes(changed)
    os.utime(local, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert upload(run, oss_bucket, local).status == 0
    assert len(sent_parts(oss_bucket)) == PARTS - 4
    assert oss_bucket.get("large") == changed


def test_an_upload_that_was_cleaned_away_begins_anew(run: Run, oss_bucket: OssBucket, local: Path) -> None:
    cut_off_upload(oss_bucket, local)
    (upload_there,) = oss_bucket.server.uploads(oss_bucket.name)
    OssClient(**oss_bucket.options).abort_upload(f"{oss_bucket.uri}large", upload_there.upload_id)
    assert upload(run, oss_bucket, local).status == 0
    assert len(sent_parts(oss_bucket)) == PARTS
    assert oss_bucket.get("large") == DATA


def test_a_user_who_may_not_list_parts_begins_anew(run: Run, oss_bucket: OssBucket, local: Path) -> None:
    for changed in (False, True):
        cut_off_upload(oss_bucket, local)
        if changed:
            os.utime(local, (1, 1))
        for operation in ("ListParts", "AbortMultipartUpload"):
            oss_bucket.server.fail(operation, "AccessDenied", bucket=oss_bucket.name)
        assert upload(run, oss_bucket, local).status == 0
        assert (len(sent_parts(oss_bucket)), oss_bucket.get("large")) == (PARTS, DATA)
        oss_bucket.server.clear_faults()
        oss_bucket.delete("large")
        (upload_there,) = oss_bucket.server.uploads(oss_bucket.name)
    OssClient(**oss_bucket.options).abort_upload(f"{oss_bucket.uri}large", upload_there.upload_id)


def test_an_object_that_has_changed_is_downloaded_anew(run: Run, oss_bucket: OssBucket, local: Path) -> None:
    cut_off_download(oss_bucket, local)
    oss_bucket.put("large", DATA[::-1])
    assert download(run, oss_bucket, local).status == 0
    assert requests(oss_bucket, "GetObject") == PARTS
    assert (local.read_bytes(), leftovers(local)) == (DATA[::-1], [])


@pytest.mark.parametrize("damage", ["other bytes", "too long", "gone", "a link"])
def test_what_is_there_of_a_download_is_not_believed(run: Run, oss_bucket: OssBucket, local: Path, damage: str) -> None:
    cut_off_download(oss_bucket, local)
    (draft,) = local.parent.iterdir()
    elsewhere = local.parent.parent / "elsewhere"
    elsewhere.write_bytes(b"precious")
    if damage == "other bytes":
        draft.write_bytes(bytes(5 * PART_BYTES))
    elif damage == "too long":
        draft.write_bytes(bytes(len(DATA) + 1))
    else:
        draft.unlink()
    if damage == "a link":
        draft.symlink_to(elsewhere)
    assert download(run, oss_bucket, local).status == 0
    assert (local.read_bytes(), leftovers(local)) == (DATA, [])
    assert elsewhere.read_bytes() == b"precious"


def test_without_a_checksum_of_oss_all_of_a_download_comes_again(run: Run, oss_bucket: OssBucket, local: Path) -> None:
    cut_off_download(oss_bucket, local)
    (draft,) = local.parent.iterdir()
    draft.write_bytes(bytes(draft.stat().st_size))  # as after a loss of power
    for operation in ("HeadObject", "GetObject"):
        oss_bucket.server.fail(operation, "headers", bucket=oss_bucket.name, headers={"x-oss-hash-crc64ecma": None})
    assert download(run, oss_bucket, local).status == 0
    assert (local.read_bytes(), leftovers(local)) == (DATA, [])


def test_wrong_bytes_get_no_name(run: Run, oss_bucket: OssBucket, local: Path) -> None:
    oss_bucket.put("large", DATA)
    oss_bucket.server.fail("GetObject", "flip", bucket=oss_bucket.name, at=10)
    status, _, err = download(run, oss_bucket, local)
    assert (status, local.exists()) == (1, False)
    assert "has another CRC-64 than OSS has" in err


def test_a_file_that_is_written_meanwhile_is_not_published(run: Run, oss_bucket: OssBucket, local: Path) -> None:
    local.write_bytes(DATA)
    oss_bucket.server.fail("UploadPart", "503", bucket=oss_bucket.name, after=PARTS - 1)

    def is_nearly_done() -> bool:
        uploads = oss_bucket.server.uploads(oss_bucket.name)
        return bool(uploads) and len(uploads[0].parts) == PARTS - 1

    access = ["-e", oss_bucket.endpoint, "--region", oss_bucket.region, "--cred-path", oss_bucket.cred_path]
    program = [sys.executable, "-m", "osstorchconnector", "cp", f"{local}", f"{oss_bucket.uri}large", *access]
    with subprocess.Popen(program, stderr=subprocess.PIPE) as process:
        wait_until(is_nearly_done, process)
        os.utime(local, (1, 1))
        oss_bucket.server.clear_faults()  # the last part is sent again, and stored
        _, errors = process.communicate(timeout=240)
    assert (process.returncode, oss_bucket.keys()) == (1, [])
    assert b"was changed while it was copied" in errors


def test_while_another_process_holds_the_record_a_copy_is_made_without(
    run: Run, oss_bucket: OssBucket, local: Path
) -> None:
    local.write_bytes(DATA)
    target = f"{oss_bucket.uri}large"
    with held_record(oss_bucket.endpoint, f"{local}", target) as record:
        assert record is not None
        assert upload(run, oss_bucket, local).status == 0
        assert record.read() == ({}, {})
    with held_record(oss_bucket.endpoint, target, f"{local}2") as record:
        assert record is not None
        assert run("cp", target, f"{local}2").status == 0
    assert (oss_bucket.get("large"), Path(f"{local}2").read_bytes()) == (DATA, DATA)


def test_a_small_file_that_is_written_meanwhile_is_not_published(
    run: Run, oss_bucket: OssBucket, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.write_bytes(b"half")
    taken = OssWriter.write

    def write(writer: OssWriter, data: bytes) -> int:
        os.utime(local, (1, 1))
        return taken(writer, data)

    monkeypatch.setattr(OssWriter, "write", write)
    status, _, err = upload(run, oss_bucket, local)
    assert (status, oss_bucket.keys()) == (1, [])
    assert "was changed while it was copied" in err


def test_a_record_that_its_copy_has_removed_is_not_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may open the record just before another one completes the copy, and lock it just after that."""
    taken = fcntl.flock

    def flock(descriptor: int, how: int) -> None:
        (path,) = records_folder().iterdir()
        path.unlink()
        taken(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with held_record("a", "b") as record:
        assert record is None


def test_a_system_without_locks_has_no_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with held_record("a", "b") as record:
        assert record is None


def test_without_a_cache_folder_copies_are_made(
    run: Run, oss_bucket: OssBucket, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.write_bytes(DATA)
    monkeypatch.setenv("XDG_CACHE_HOME", f"{local}/no folder")
    assert upload(run, oss_bucket, local).status == 0
    assert oss_bucket.get("large") == DATA


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"copy": 1, "progress": {}}', "[" * 10_000])
def test_a_record_that_is_none_counts_as_none(text: str) -> None:
    with held_record("a", "b") as record:
        assert record is not None
        record.write({"size": 1}, {"draft": "x"})
        assert record.read() == ({"size": 1}, {"draft": "x"})
    (path,) = records_folder().iterdir()
    path.write_text(text)
    with held_record("a", "b") as record:
        assert record is not None
        assert record.read() == ({}, {})
        record.remove()
    assert list(records_folder().iterdir()) == []
