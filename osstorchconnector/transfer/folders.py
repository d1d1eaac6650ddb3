"""Many files at a time: which there are, how far they have come, and how they end together."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from ..client.local.folders import UNFINISHED
from ..errors import OssUsageError
from ..local_files import is_name_below
from ..redaction import printable

# Files in flight. Each of those that are sent in parts has memory for its parts, so there are fewer of these.
FILES_IN_FLIGHT, LARGE_FILES_IN_FLIGHT = 16, 2

Progress = Callable[[int, int], object]


class Transferred(NamedTuple):
    """What an upload or a download has done: how many files, and their bytes together."""

    files: int
    size: int


class LocalFile(NamedTuple):
    """A file below a folder: its name there, with `/` between folders, its size in bytes, and where it is."""

    name: str
    size: int
    path: Path


class FileJob(NamedTuple):
    """One file to transfer: its size in bytes, and what does it, which says how many bytes more are done."""

    size: int
    run: Callable[[Callable[[int], None]], object]


class _StoppedError(Exception):
    """Another file has failed, or the user has stopped: this one ends, and publishes nothing."""


class _Tally:
    """How far all files have come. Its methods may be called by any thread."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._lock = progress, threading.Lock()
        self._done = self._total = 0
        self.is_stopped = False

    def expect(self, size: int) -> None:
        """Count bytes among those to come."""
        with self._lock:
            self._total += size

    def told(self, size: int) -> None:
        """Count bytes as done. Raises what `progress` raises, and `_StoppedError` after the end."""
        if self.is_stopped:
            raise _StoppedError
        with self._lock:
            self._done += size
            if self._progress is not None:
                self._progress(self._done, self._total)


def run_jobs(jobs: Iterable[FileJob], progress: Progress | None, *, large_bytes: int) -> Transferred:
    """Do the jobs, several at a time; as many more are prepared.

    `progress` is called with the bytes done and the bytes known so far, by one thread at a time. The first error stops
    all jobs, and is raised when those under way have ended. What was done before stays.
    """
    tally, large = _Tally(progress), threading.BoundedSemaphore(LARGE_FILES_IN_FLIGHT)
    running, files, size = set[Future[object]](), 0, 0

    def run(job: FileJob) -> object:
        with large if job.size > large_bytes else contextlib.nullcontext():
            tally.told(0)
            return job.run(tally.told)

    with ThreadPoolExecutor(FILES_IN_FLIGHT, "osstorchconnector-files") as pool:
        try:
            for job in jobs:
                tally.expect(job.size)
                running.add(pool.submit(run, job))
                files, size = files + 1, size + job.size
                if len(running) >= 2 * FILES_IN_FLIGHT:
                    running = _without_ended(running)
            while running:
                running = _without_ended(running)
        except BaseException:
            tally.is_stopped = True
            pool.shutdown(cancel_futures=True)
            raise
    return Transferred(files, size)


def _without_ended(running: set[Future[object]]) -> set[Future[object]]:
    ended, left = wait(running, return_when=FIRST_COMPLETED)
    for future in ended:
        future.result()
    return left


def files_below(folder: Path) -> Iterator[LocalFile]:
    """Yield the files below a folder, sorted. Links to folders are not followed; what is unfinished is left out."""
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and not name.startswith(UNFINISHED):
                yield LocalFile(path.relative_to(folder).as_posix(), path.stat().st_size, path)


def path_below(folder: Path, name: str) -> Path:
    """Return the path of the object `name` below a folder.

    A key may hold anything: raises `OssUsageError` for one that would lead out of the folder, or names no file.
    """
    if not is_name_below(name):
        raise OssUsageError(f"{printable(name)!r} can't be a path below {folder}: copy this object alone, to a file")
    return Path(folder, *name.split("/"))
