"""Local files that are written completely or not at all, even with several writers and after a kill.

The bytes go to a temporary file first, which is renamed at the end. So a reader sees the old file or the new one, two
writers don't mix their bytes, and after a loss of power one of both files is there.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_FLAGS = (
    os.O_RDWR  # so that it can be mapped
    | os.O_CREAT
    | os.O_EXCL  # with an unguessable name: never write to a file or link of another user
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_DRAFT = re.compile(r"\.osstorchconnector-[0-9a-f]{16}\.unfinished")


@contextlib.contextmanager
def written_whole(
    path: str | os.PathLike[str], *, mode: int = 0o666, is_durable: bool = True, replaces: bool = True
) -> Iterator[IO[bytes]]:
    """Open a file for writing that replaces `path` when the block ends, and is deleted if the block raises.

    `mode` is the mode of a new file, without the bits of the process's umask. A link at `path` is replaced, not
    followed. Without `is_durable` the file is not synced: after a loss of power it may be empty. Raises `OSError` if
    the file can't be written, or if `path` is not a file (a folder, a device), and without `replaces` `FileExistsError`
    if there is one.
    """
    place = Path(path)
    check_replaceable(place)
    draft = draft_beside(place)
    descriptor = create_draft(draft, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if is_durable:
                os.fsync(descriptor)
        name_draft(draft, place, replaces=replaces)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise
    if is_durable:
        _keep_name(place.parent)


def draft_beside(place: Path) -> Path:
    """Return where a file is written before it gets its name: in the same folder, under a name that nobody guesses."""
    # Not derived from the name in `place`, which may have the maximum length already.
    return place.with_name(f".osstorchconnector-{secrets.token_hex(8)}.unfinished")


def is_draft(name: str) -> bool:
    """Say whether a file of this name is a draft."""
    return _DRAFT.fullmatch(name) is not None


def create_draft(draft: Path, mode: int = 0o666) -> int:
    """Create a file that did not exist, and return its descriptor, for reading and writing."""
    return os.open(draft, _FLAGS, mode)


def name_draft(draft: Path, place: Path, *, replaces: bool = True) -> None:
    """Give a finished draft its name, at once.

    Raises `OSError` if something is there that is no file, and without `replaces` `FileExistsError` if a file is there.
    """
    if replaces:
        check_replaceable(place)
        draft.replace(place)
        return
    try:
        os.link(draft, place)
    except FileExistsError:
        raise
    except OSError:  # no links on this disk (exFAT): the name is taken by an empty file first
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        draft.replace(place)
    else:
        draft.unlink()


def check_replaceable(place: Path) -> None:
    """Raise `OSError` if there is something at `place` that is no file."""
    try:
        kind = place.lstat().st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(kind) or stat.S_ISLNK(kind)):
        raise OSError(errno.EINVAL, "not a regular file", str(place))


def is_name_below(name: str) -> bool:
    """Say whether a name with `/` between folders leads to a file below the folder that it is joined to."""
    if any(part in ("", ".", "..") or "\0" in part for part in name.split("/")):
        return False
    return os.sep == "/" or not (os.sep in name or ":" in name)  # on Windows: a drive, or a stream of another file


def _keep_name(folder: Path) -> None:
    """Make the new name survive a loss of power, where the system supports that."""
    with contextlib.suppress(OSError):  # Windows can't open folders, some file systems can't sync them
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
