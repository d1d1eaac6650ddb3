from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from osstorchconnector.errors import OssUsageError
from osstorchconnector.transfer.folders import FILES_IN_FLIGHT, FileJob, files_below, path_below, run_jobs

Told = Callable[[int], None]


def test_files_come_sorted_and_what_is_unfinished_does_not(tmp_path: Path) -> None:
    for name in ("b/2", "b/1", "a", "c/d/e"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / ".osstorchconnector-0.unfinished").write_bytes(b"half")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    found = [(file.name, file.size) for file in files_below(tmp_path)]
    assert found == [("a", 1), ("link", 1), ("b/1", 3), ("b/2", 3), ("c/d/e", 5)]


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", "a//b", "", ".", "a/.", "a\0b"])
def test_no_key_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(OssUsageError, match="can't be a path below"):
        path_below(tmp_path, name)


def test_a_key_is_a_path(tmp_path: Path) -> None:
    assert path_below(tmp_path, "a/..b/c") == tmp_path / "a" / "..b" / "c"


def test_progress_comes_in_order_from_all_jobs() -> None:
    seen: list[tuple[int, int]] = []
    jobs = [FileJob(3, lambda told: [told(1), told(2)]) for _ in range(100)]
    done = run_jobs(jobs, lambda *numbers: seen.append(numbers), large_bytes=10)
    assert done == (100, 300)
    assert [count for count, _ in seen] == sorted(count for count, _ in seen)
    assert seen[-1] == (300, 300)


def test_large_files_are_two_at_a_time() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def work(told: Told) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        told(5)
        with lock:
            now -= 1

    run_jobs([FileJob(5, work) for _ in range(50)], None, large_bytes=4)
    assert most <= 2


def test_the_first_error_ends_all() -> None:
    begun = 0

    def work(told: Told) -> None:
        nonlocal begun
        begun += 1
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run_jobs([FileJob(1, work) for _ in range(1000)], None, large_bytes=10)
    assert begun <= 3 * FILES_IN_FLIGHT


def test_a_job_under_way_ends_when_another_fails() -> None:
    failed, ended = threading.Event(), list[str]()

    def waits(told: Told) -> None:
        failed.wait(20)
        try:
            while True:
                told(0)
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    def fails(told: Told) -> None:
        failed.set()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run_jobs([FileJob(1, waits), FileJob(1, fails)], None, large_bytes=10)
    assert ended == ["_StoppedError"]


def test_an_error_of_progress_ends_all() -> None:
    def progress(done: int, total: int) -> None:
        raise KeyError("no bar")

    with pytest.raises(KeyError, match="no bar"):
        run_jobs([FileJob(1, lambda told: told(1))], progress, large_bytes=10)
