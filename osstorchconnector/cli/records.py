"""Records of copies that were cut off, in the user's cache folder: with them the same command goes on.

A record says what was copied to where, and what is there of it already. It is a file of JSON that one process at a
time holds. Whatever can't be read, or is of another copy, counts as no record.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

_MOST_BYTES = 64 << 10

Facts = Mapping[str, Any]


def records_folder() -> Path:
    """Return the folder of records: below `$XDG_CACHE_HOME`, or `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser(), "osstorchconnector", "copies")


class CopyRecord:
    """The record of one copy, which this process holds.

    `copy` are facts that tell whether it is the same copy (the source's size and time); `progress` is what was made so
    far, under names that only the copy understands. `names` are those of `held_record`.
    """

    def __init__(self, file: IO[bytes], path: Path, names: tuple[str, ...]) -> None:
        self._file, self.path, self.names = file, path, names

    @property
    def changed(self) -> float:
        """When a copy last held it, in seconds since 1970."""
        return os.fstat(self._file.fileno()).st_mtime

    def read(self) -> tuple[Facts, Facts]:
        """Return `copy` and `progress`, empty if there is nothing."""
        found = _content(self._file)
        if all(isinstance(found.get(name), dict) for name in ("copy", "progress")):
            return found["copy"], found["progress"]
        return {}, {}

    def write(self, copy: Facts, progress: Facts) -> None:
        """Keep what was made so far."""
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps({"names": self.names, "copy": copy, "progress": progress}).encode())
        self._file.flush()

    def remove(self) -> None:
        """Forget the copy: it is complete."""
        with contextlib.suppress(OSError):
            self.path.unlink()


@contextlib.contextmanager
def held_record(*names: str) -> Iterator[CopyRecord | None]:
    """Hold the record of the copy that has these names, a new one if there is none.

    It is `None` if another process holds it, or if there is no folder for records, or a system without locks: then
    nothing is to be resumed.
    """
    name = hashlib.sha256("\0".join(names).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    with contextlib.ExitStack() as stack:
        record: CopyRecord | None = None
        with contextlib.suppress(OSError):
            folder = records_folder()
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path = folder / f"{name}.json"
            file = stack.enter_context(_held(path, os.O_CREAT))
            os.utime(file.fileno())  # somebody goes on with it
            record = CopyRecord(file, path, names)
        yield record


def records_before(moment: float) -> Iterator[CopyRecord]:
    """Hold each record that no copy has held since a moment, one after another, and yield it.

    Those that processes hold are left out. `names` is empty where a record does not tell them.
    """
    for path in sorted(records_folder().glob("*.json")):
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(_held(path))
            except OSError:
                continue
            told = _content(file).get("names")
            names = tuple(name for name in told if isinstance(name, str)) if isinstance(told, list) else ()
            record = CopyRecord(file, path, names)
            if record.changed <= moment:
                yield record


def _content(file: IO[bytes]) -> dict[str, Any]:
    """Return what a record says; nothing if it can't be read."""
    file.seek(0)
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(file.read(_MOST_BYTES))
        if isinstance(found, dict):
            return found
    return {}


@contextlib.contextmanager
def _held(path: Path, flags: int = 0) -> Iterator[IO[bytes]]:
    """Open a record and hold it. Raises `OSError` if another process does, or there is none."""
    with os.fdopen(os.open(path, os.O_RDWR | flags, 0o600), "r+b") as file:
        _lock(file.fileno(), path)
        yield file


def _lock(descriptor: int, path: Path) -> None:
    """Take the lock, which ends with the file or the process. Raises `OSError` if another process has or had it."""
    try:
        import fcntl
    except ImportError:  # Windows: two processes would write to one draft
        raise OSError(errno.ENOTSUP, "no locks of files here") from None

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not os.path.samestat(os.fstat(descriptor), path.stat()):
        raise OSError(errno.ESTALE, "its copy was completed meanwhile", str(path))
