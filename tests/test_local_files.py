from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from osstorchconnector.local_files import is_name_below, written_whole


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with written_whole(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail() -> None:
        with written_whole(path) as file:
            file.write(b"new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    program = (
        "import resource, signal, sys; from osstorchconnector.local_files import written_whole\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "with written_whole(sys.argv[1]) as file: file.write(bytes(1000))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=False, timeout=200
    )
    assert "File too large" in done.stderr
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    program = (
        "import os, signal, sys; from osstorchconnector.local_files import written_whole\n"
        "with written_whole(sys.argv[1]) as file:\n"
        "    file.write(b'new'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, path], check=False, timeout=200)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"


def test_the_mode_of_a_new_file_is_less_what_the_process_keeps_back(tmp_path: Path) -> None:
    former = os.umask(0o027)
    try:
        with written_whole(tmp_path / "open") as file:
            file.write(b"")
        with written_whole(tmp_path / "private", mode=0o600) as file:
            file.write(b"")
    finally:
        os.umask(former)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("open", "private")] == [0o640, 0o600]


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"somebody's")
    link.symlink_to(target)
    with written_whole(link) as file:
        file.write(b"new")
    assert (target.read_bytes(), link.read_bytes(), link.is_symlink()) == (b"somebody's", b"new", False)


def test_folders_and_devices_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for place in (tmp_path, tmp_path / "pipe", "/dev/null"):
        with pytest.raises(OSError, match="not a regular file"), written_whole(place):
            pass


def test_a_name_may_be_as_long_as_names_can_be(tmp_path: Path) -> None:
    with written_whole(tmp_path / ("n" * 255)) as file:
        file.write(b"new")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"new"


@pytest.mark.parametrize("name", ["", "..", "a/../b", "/a", "a//b", "a/", "./a", "a\0b"])
def test_names_that_lead_out_of_a_folder_or_to_no_file(name: str) -> None:
    assert not is_name_below(name)


@pytest.mark.parametrize("name", ["a\\..\\b", "C:/a", "a:stream"])
def test_on_windows_more_names_lead_out_of_a_folder(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_name_below(name)
    monkeypatch.setattr(os, "sep", "\\")
    assert not is_name_below(name)


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_came_meanwhile_stays_if_the_user_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    """Also on disks without links of files, such as those with exFAT."""

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "file"
    with written_whole(path, replaces=False) as file:
        file.write(b"first")
    assert path.read_bytes() == b"first"
    path.unlink()

    def write() -> None:
        with written_whole(path, replaces=False) as file:
            file.write(b"second")
            path.write_bytes(b"quicker")

    with pytest.raises(FileExistsError):
        write()
    assert path.read_bytes() == b"quicker"
    assert list(tmp_path.iterdir()) == [path]
