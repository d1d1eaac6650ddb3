"""The resources of a process, from the kernel: files, sockets, threads, memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple


class Held(NamedTuple):
    files: int
    sockets: int
    threads: int
    mebibytes: int

    def __str__(self) -> str:
        return f"{self.files} files, {self.sockets} sockets, {self.threads} threads, {self.mebibytes} MiB"


def held_by_all(*pids: int) -> list[Held]:
    """Return the resources of each process, this one first, without those that have ended."""
    found = [held_by()]
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found.append(held_by(pid))
    return found


def held_by(pid: int | str = "self") -> Held:
    """Return the resources of a process; its memory is what it does not share with other processes."""
    folder = Path(f"/proc/{pid}")
    targets = [target for path in (folder / "fd").iterdir() if (target := _target(path))]
    sockets = sum(target.startswith("socket:") for target in targets)
    own_kib = sum(
        int(line.split()[1]) for line in (folder / "smaps_rollup").read_text().splitlines() if "Private_" in line
    )
    return Held(len(targets) - sockets, sockets, len(list((folder / "task").iterdir())), own_kib >> 10)


def children() -> list[int]:
    """Return the child processes of this thread."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _target(path: Path) -> str:
    with contextlib.suppress(OSError):  # closed since it was listed
        return str(path.readlink())
    return ""
