"""Who removes a file that processes share: the process that made it, with its last copy or at its end."""

from __future__ import annotations

import contextlib
import multiprocessing.util
import os
import weakref
from pathlib import Path

from .index_file import Owner, own_path, this_process


class Claim:
    """The right of the process that made a file to remove it, with all files whose names begin with its name."""

    def __init__(self, path: Path) -> None:
        # Also runs at the end of processes that multiprocessing started, where atexit does not.
        multiprocessing.util.Finalize(self, remove_all, (path,), exitpriority=0)


_claims: weakref.WeakValueDictionary[Path, Claim] = weakref.WeakValueDictionary()


def claim(owner: Owner, path: Path) -> Claim | None:
    """Return the claim on the file, one for all of this process, if it is the owner; hold it as long as you need it."""
    if owner.pid != os.getpid() or owner != this_process():
        return None
    found = _claims.get(path)
    if found is None:
        found = _claims[path] = Claim(own_path(path))
    return found


def remove_all(path: Path) -> None:
    """Remove the file and those whose names continue its name."""
    for file in [path, *path.parent.glob(f"{path.name}-*")]:
        with contextlib.suppress(OSError):
            file.unlink()
