"""Local files that are written whole or not at all, also with other writers in the folder and after a kill.

The bytes go to a file of their own first, which takes the name at the end, in one step. So a reader sees the old file
or the new one, two writers don't mix, and a machine that loses its power keeps one of both.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_FLAGS = (
    os.O_WRONLY
    | os.O_CREAT
    | os.O_EXCL  # and an unguessable name: a file or link that another user has put there is never written to
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str], *, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """Open a file to be written, which takes the place of `path` when the block ends well, and vanishes otherwise.

    `mode` is that of a new file, less the process's umask. A link in the place is replaced, not followed. `OSError` if
    it can't be written, and for a place that is no file (a folder, a device).
    """
    place = Path(path)
    _check_replaceable(place)
    # Not made from the name in the place, which may be as long as names can be.
    draft = place.with_name(f".osstorchconnector-{secrets.token_hex(8)}.unfinished")
    descriptor = os.open(draft, _FLAGS, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(descriptor)
        _check_replaceable(place)
        draft.replace(place)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    _keep_name(place.parent)


def _check_replaceable(place: Path) -> None:
    try:
        kind = place.lstat().st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(kind) or stat.S_ISLNK(kind)):
        raise OSError(errno.EINVAL, "not a regular file", str(place))


def _keep_name(folder: Path) -> None:
    """Let the name outlive a loss of power as well, where the system can do that."""
    with contextlib.suppress(OSError):  # Windows opens no folders, some file systems sync none
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
