"""Secrets on their way to another process of the same job: in a file that only its owner can read.

What crosses the pipe or lands in a saved state is the file's path. The file goes when the process that wrote it
ends, after that process has waited for its children; one that was left behind by a killed process goes when
the next is written, by whoever can take the lock that its writer holds for as long as it lives.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from pathlib import Path

from ..errors import OssCredentialsError

_PREFIX = "osstorchconnector-"
_SUFFIX = ".credentials"
_MAX_BYTES = 1 << 20
# Younger ones may be about to be locked.
_ORPHAN_SECONDS = 60.0
# Later than multiprocessing's own clean-up, which joins the children.
_EXIT_PRIORITY = -100


class Handover:
    """A file with `payload` in it, there until the process that made it ends, or until `remove`."""

    def __init__(self, payload: bytes, folder: str | None = None) -> None:
        from multiprocessing.util import Finalize  # unlike atexit, it also runs in forked workers

        remove_orphans(folder)
        self.pid = os.getpid()
        self._descriptor, self.path = tempfile.mkstemp(suffix=_SUFFIX, prefix=_PREFIX, dir=folder)
        _lock(self._descriptor)
        os.write(self._descriptor, payload)
        self.remove = Finalize(None, _remove, (self.path, self._descriptor), exitpriority=_EXIT_PRIORITY)


def receive(path: str) -> bytes:
    """Return what the file holds; `OssCredentialsError` if it is gone, or somebody else's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as file:
            if not _is_private(os.fstat(descriptor)):
                raise OssCredentialsError(f"{path} is not a file that only this user can read")
            return file.read(_MAX_BYTES)
    except OSError as error:
        raise OssCredentialsError(f"{path}: {error.strerror}") from None


def remove_orphans(folder: str | None = None, *, now: float | None = None) -> None:
    """Remove the files of processes that did not live to do it themselves."""
    now = time.time() if now is None else now
    for path in Path(folder or tempfile.gettempdir()).glob(f"{_PREFIX}*{_SUFFIX}"):
        try:
            status = path.lstat()
            if _is_private(status) and now - status.st_mtime > _ORPHAN_SECONDS:
                _remove_if_unlocked(path)
        except OSError:  # another process was faster, or may not
            continue


def _remove_if_unlocked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    try:
        if _lock(descriptor):
            path.unlink()
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Take the lock that says "in use" and is let go when the last process that has the descriptor ends."""
    try:
        import fcntl
    except ImportError:  # Windows; its files go at exit, or with the user's temporary folder
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove(path: str, descriptor: int) -> None:
    os.close(descriptor)  # Windows removes no open file
    Path(path).unlink(missing_ok=True)


def _is_private(status: os.stat_result) -> bool:
    if not stat.S_ISREG(status.st_mode):
        return False
    return not hasattr(os, "geteuid") or (status.st_uid == os.geteuid() and not status.st_mode & 0o077)
