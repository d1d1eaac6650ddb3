"""What copies that were cut off have left on this machine: found, and removed if nobody goes on with it.

A copy of a large file has a record in the cache folder, and a download a draft beside its target. An upload of
`OssClient("")` is a folder beside its target. Records that a process holds stay, and whatever was written to lately.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..client.local.folders import is_upload_folder
from ..errors import OssUriError
from ..local_files import is_draft
from .places import Local, Place, Remote, place
from .records import CopyRecord, records_before


class Unfinished(NamedTuple):
    """A copy that nobody has gone on with: the file or folder to remove, when it was written to last, its bytes."""

    path: Path
    changed: float
    size: int
    record: CopyRecord | None = None

    def remove(self) -> None:
        """Remove it. Raises `OSError` for what this user may not remove."""
        with contextlib.suppress(FileNotFoundError):
            if self.path.is_dir():
                shutil.rmtree(self.path)
            else:
                self.path.unlink()
        if self.record is not None:
            self.record.remove()


def unfinished_copies(where: Place, before: float) -> Iterator[Unfinished]:
    """Yield what is left of copies from or to a place, or below it, and older than a moment in seconds since 1970.

    Below a folder these are also the drafts of which there is no record, and uploads of `OssClient("")`. Each is to be
    removed while it is the last one that was yielded, so that no copy takes it up meanwhile.
    """
    told = set[Path]()
    for record in records_before(before):
        if not record.names or any(_is_at(where, name) for name in record.names[1:]):
            found = _unfinished(record)
            if found.changed <= before:
                told.add(found.path)
                yield found
    if isinstance(where, Local):
        yield from (found for found in _drafts(Path(where.path).absolute(), before) if found.path not in told)


def _unfinished(record: CopyRecord) -> Unfinished:
    draft = record.read()[1].get("draft")
    if record.names and isinstance(draft, str) and is_draft(draft):
        path = Path(record.names[-1]).with_name(draft)
        if (status := my_file(path)) is not None:
            return Unfinished(path, status.st_mtime, status.st_size, record)
    return Unfinished(record.path, record.changed, 0, record)


def _drafts(folder: Path, before: float) -> Iterator[Unfinished]:
    for parent, folders, names in os.walk(folder):
        uploads = sorted(filter(is_upload_folder, folders))
        folders[:] = sorted(set(folders).difference(uploads))
        for upload in (_upload(Path(parent, name)) for name in uploads):
            if upload is not None and upload.changed <= before:
                yield upload
        for path in (Path(parent, name) for name in sorted(names) if is_draft(name)):
            status = my_file(path)
            if status is not None and status.st_mtime <= before:
                yield Unfinished(path, status.st_mtime, status.st_size)


def _upload(folder: Path) -> Unfinished | None:
    """Return what is in a folder of parts; None if this user has not made it, or it is gone."""
    with contextlib.suppress(OSError):
        status = folder.lstat()
        if stat.S_ISDIR(status.st_mode) and _is_mine(status):
            return Unfinished(folder, status.st_mtime, sum(path.lstat().st_size for path in folder.iterdir()))
    return None


def _is_at(where: Place, name: str) -> bool:
    """Whether the source or target of a copy is at a place, or below it."""
    try:
        other = place(name)
    except OssUriError:
        return False
    if isinstance(where, Remote) and isinstance(other, Remote):
        return where.uri.bucket == other.uri.bucket and other.uri.key.startswith(where.uri.key)
    if isinstance(where, Local) and isinstance(other, Local):
        return Path(other.path).is_relative_to(Path(where.path).absolute())
    return False


def my_file(path: Path) -> os.stat_result | None:
    """Return what is known of a file that this user made; None if it is something else, or is not there."""
    with contextlib.suppress(OSError):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and _is_mine(status):
            return status
    return None


def _is_mine(status: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
