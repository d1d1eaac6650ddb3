"""Secrets on their way to another process of the same job: in a file that only its owner can read.

What crosses the pipe or lands in a saved state is the file's path. The file goes when the process that wrote it
ends, after that process has waited for its children; one that was left behind by a killed process goes when
the next is written, by whoever can take the lock that its writer holds for as long as it lives.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ..errors import OssCredentialsError
from ..redaction import SecretBytes

_PREFIX = "osstorchconnector-"
_SUFFIX = ".credentials"
_MAX_BYTES = 1 << 20
# Younger ones may be about to be locked.
_ORPHAN_SECONDS = 60.0
# Later than multiprocessing's own clean-up, which joins the children.
_EXIT_PRIORITY = -100


class Handover:
    """A file with `payload` in it, there until `remove` is called or the process that made it ends.

    Raises `OSError` where no temporary file can be written.
    """

    def __init__(self, payload: SecretBytes) -> None:
        from multiprocessing.util import Finalize  # unlike atexit, it also runs in forked workers

        remove_orphans()
        self.pid = os.getpid()
        descriptor, self.path = tempfile.mkstemp(suffix=_SUFFIX, prefix=_PREFIX)
        self.remove = Finalize(None, _remove, (self.path, descriptor), exitpriority=_EXIT_PRIORITY)
        _lock(descriptor)
        rest = memoryview(payload)
        try:
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        except OSError:
            self.remove()
            raise


def receive(path: str) -> SecretBytes:
    """Return what the file holds; `OssCredentialsError` if it is gone, or somebody else's."""
    try:
        # Opened without waiting: a named pipe in its place would never answer.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb") as file:
            if not _is_private(os.fstat(descriptor)):
                raise OssCredentialsError(f"{path} is not a file that only this user can read")
            return SecretBytes(file.read(_MAX_BYTES))
    except OSError as error:
        raise OssCredentialsError(f"{path}: {error.strerror}") from None


def remove_orphans(*, clock: Callable[[], float] = time.time) -> None:
    """Remove the files of processes that did not live to do it themselves."""
    now = clock()
    for path in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*{_SUFFIX}"):
        with contextlib.suppress(OSError):  # another process was faster
            status = path.lstat()
            if _is_private(status) and now - status.st_mtime > _ORPHAN_SECONDS:
                _remove_if_unlocked(path)


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
