"""Copies between this machine and OSS: many at a time, each whole or not at all, with a list of those that failed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import typer

from ..errors import OssUsageError
from ..files.writer import OssWriter
from ..filesystem import OssFileSystem
from ..filesystem.paths import moment_of
from ..local_files import check_replaceable
from ..transfer.single import opened_unchanged
from .parts import download_in_parts, upload_in_parts
from .places import Item, Local, Place, Remote
from .records import CopyRecord, held_record
from .show import bar, note
from .watch import Stop, Watch

_PIECE_BYTES = 8 << 20
# A copy of fewer parts is begun anew when it was cut off.
_RESUMED_PARTS = 2
_INTERRUPTED = 130  # as shells report a Ctrl-C
# The name of what `written_whole` has not finished, which is no file of the user's.
_UNFINISHED = ".osstorchconnector-"


class Job(NamedTuple):
    """One copy or removal: what to call it, how many bytes it has, and what does it."""

    name: str
    size: int
    run: Callable[[Watch], None]


class Failure(NamedTuple):
    """A job that failed, and why."""

    name: str
    error: Exception


@dataclass
class Tally:
    """What became of jobs: how many were done, of how many bytes, and which failed."""

    done: int = 0
    size: int = 0
    failures: list[Failure] = field(default_factory=list)

    def take(self, job: Job, future: Future[None]) -> None:
        """Count a job that has ended. Raises what is no error of the job, such as a Ctrl-C."""
        error = future.exception()
        if error is None:
            self.done, self.size = self.done + 1, self.size + job.size
        elif isinstance(error, Exception):
            self.failures.append(Failure(job.name, error))
        else:
            raise error


def run_jobs(jobs: Iterable[Job], title: str, at_once: int, unit: str = "") -> Tally:
    """Do the jobs, `at_once` of them at a time; as many more are prepared. Sizes are bytes, or a number of `unit`."""
    tally, stop = Tally(), Stop()
    running: dict[Future[None], Job] = {}
    with bar(title, unit) as shown, ThreadPoolExecutor(at_once, "osstorch") as pool:
        try:
            for job in jobs:
                shown.expect(job.size)
                running[pool.submit(job.run, Watch(shown, stop))] = job
                if len(running) >= 2 * at_once:
                    _take_ended(tally, running)
            while running:
                _take_ended(tally, running)
        except BaseException as error:
            stop.set()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, KeyboardInterrupt):
                note("osstorch: stopped; nothing half-done was published. The same command goes on from here")
                raise typer.Exit(_INTERRUPTED) from None
            raise
    return tally


def _take_ended(tally: Tally, running: dict[Future[None], Job]) -> None:
    for future in wait(running, return_when=FIRST_COMPLETED).done:
        tally.take(running.pop(future), future)


def items_of(fs: OssFileSystem, source: Place) -> Iterator[Item]:
    """Yield what is below a folder or prefix. Markers of directories and links to folders are left out."""
    if isinstance(source, Local):
        yield from _local_items(Path(source.path))
        return
    prefix = source.folder()
    for listed in fs.client.list(prefix.uri):
        name = listed.key[len(prefix.uri.key) :]
        if name and not name.endswith("/"):
            moment = moment_of(listed.last_modified)
            yield Item(name, listed.size, moment.timestamp() if moment else 0.0)


def _local_items(folder: Path) -> Iterator[Item]:
    if not folder.is_dir():
        raise OssUsageError(f"{folder} is no folder")
    for parent, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and not name.startswith(_UNFINISHED):
                status = path.stat()
                yield Item(path.relative_to(folder).as_posix(), status.st_size, status.st_mtime)


def copy_job(fs: OssFileSystem, source: Place, target: Place, size: int, at_once: int, *, replaces: bool) -> Job:
    """Return the copy of one file or object, `at_once` of which share memory.

    It fails without `replaces` if there is something when it ends. Raises `OssUsageError` for two local paths.
    """
    if isinstance(source, Remote) and isinstance(target, Remote):
        return Job(str(source), size, lambda told: _copy_within(fs, source, target, told, size, replaces))
    if isinstance(source, Remote) and isinstance(target, Local):
        return Job(str(source), size, lambda told: _download(fs, source, target, told, size, at_once, replaces))
    if isinstance(source, Local) and isinstance(target, Remote):
        return Job(str(source), size, lambda told: _upload(fs, source, target, told, size, at_once, replaces))
    raise OssUsageError(f"neither {source} nor {target} is in OSS: use cp of the system")


def is_there_already(target: Place) -> OssUsageError:
    """Return the error of what must not be replaced."""
    return OssUsageError(f"{target} is there already: -f replaces it, -u if it is older")


@contextmanager
def _published(target: Place) -> Iterator[None]:
    """Tell the user what to do if somebody else was quicker."""
    try:
        yield
    except FileExistsError as error:  # an `OssExistsError` is one
        raise is_there_already(target) from error


def _copy_within(fs: OssFileSystem, source: Remote, target: Remote, told: Watch, size: int, replaces: bool) -> None:
    with _published(target):
        fs.cp_file(str(source.uri), str(target.uri), mode=_mode(replaces))
    told.relative_update(size)


def _mode(replaces: bool) -> str:
    return "overwrite" if replaces else "create"


def _upload(
    fs: OssFileSystem, source: Local, target: Remote, told: Watch, size: int, at_once: int, replaces: bool
) -> None:
    path = Path(source.path).absolute()
    with _resumed(fs, size, str(path), str(target.uri)) as record, _published(target):
        if record is not None:
            upload_in_parts(fs.client, path, target.uri, record, told, at_once, replaces=replaces)
        else:
            _upload_anew(fs, path, target, told, replaces)


def _upload_anew(fs: OssFileSystem, path: Path, target: Remote, told: Watch, replaces: bool) -> None:
    transfer = fs.client.config.checkpoint
    writer = OssWriter(fs.client, target.uri, transfer=transfer, forbid_overwrite=not replaces)
    with writer, told.stop.giving_up(writer.discard):
        with opened_unchanged(path) as file:
            while piece := file.read(_PIECE_BYTES):
                writer.write(piece)
                told.relative_update(len(piece))
        writer.close()


def _download(
    fs: OssFileSystem, source: Remote, target: Local, told: Watch, size: int, at_once: int, replaces: bool
) -> None:
    path = Path(target.path).absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    with _resumed(fs, size, str(source.uri), str(path)) as record, _published(target):
        if record is not None:
            download_in_parts(fs.client, source.uri, path, record, told, at_once, replaces=replaces)
            return
        check_replaceable(path)  # fsspec makes nothing of a file where a folder is, and raises no error
        fs.get_file(str(source.uri), str(path), callback=told, mode=_mode(replaces))


def _resumed(fs: OssFileSystem, size: int, source: str, target: str) -> AbstractContextManager[CopyRecord | None]:
    """Hold the record of a copy; `None` for one that is quickly done again, or that another process is busy with."""
    if size < _RESUMED_PARTS * fs.client.config.part_bytes:
        return nullcontext()
    return held_record(fs.client.endpoint, source, target)


def remove_job(fs: OssFileSystem, target: Place) -> Job:
    """Return the removal of one file or object."""
    if isinstance(target, Remote):
        return Job(str(target), 0, lambda told: fs.client.delete(target.uri))
    return Job(str(target), 0, lambda told: Path(target.path).unlink())
