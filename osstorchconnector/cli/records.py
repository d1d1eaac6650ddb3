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
    far, under names that only the copy understands.
    """

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file, self._path = file, path

    def read(self) -> tuple[Facts, Facts]:
        """Return `copy` and `progress`, empty if there is nothing."""
        self._file.seek(0)
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(self._file.read(_MOST_BYTES))
            if isinstance(found, dict) and all(isinstance(found.get(name), dict) for name in ("copy", "progress")):
                return found["copy"], found["progress"]
        return {}, {}

    def write(self, copy: Facts, progress: Facts) -> None:
        """Keep what was made so far."""
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps({"copy": copy, "progress": progress}).encode())
        self._file.flush()

    def remove(self) -> None:
        """Forget the copy: it is complete."""
        with contextlib.suppress(OSError):
            self._path.unlink()


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
            file = stack.enter_context(os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b"))
            _lock(file.fileno(), path)
            record = CopyRecord(file, path)
        yield record


def _lock(descriptor: int, path: Path) -> None:
    """Take the lock, which ends with the file or the process. Raises `OSError` if another process has or had it."""
    try:
        import fcntl
    except ImportError:  # Windows: two processes would write to one draft
        raise OSError(errno.ENOTSUP, "no locks of files here") from None

    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if not os.path.samestat(os.fstat(descriptor), path.stat()):
        raise OSError(errno.ESTALE, "its copy was completed meanwhile", str(path))
