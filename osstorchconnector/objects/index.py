"""One listing for all: objects by number, in a table that every process of a job reads.

Copies of an index, by fork or by pickle, are the same table; they carry its name and its source, no position.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from .claims import Claim, claim, remove_all
from .index_file import Owner, choose_folder, is_alive, new_path, own_path, this_process, write_own
from .index_filling import Filling, Source
from .index_layout import State
from .info import ObjectInfo


class ObjectIndex(Protocol):
    """Objects by number: what a sharder, a shuffle or a map dataset counts on."""

    @property
    def folder(self) -> str:
        """Where its files are put; empty if nothing was configured."""

    @property
    def is_complete(self) -> bool:
        """Whether all rows are known; nobody waits for it."""

    def infos(self, first: int = 0, step: int = 1) -> Iterator[ObjectInfo]:
        """Yield objects `first`, `first + step` and so on, each as soon as it is known."""

    def at(self, positions: Iterable[int]) -> Iterator[ObjectInfo]:
        """Yield the objects of these numbers, each as soon as it is known, up to the first that there is none of."""

    def info(self, position: int) -> ObjectInfo:
        """Return one object by its number, which is below `count()`."""

    def count(self) -> int:
        """Return the number of objects, waiting until it is known."""

    def skipped(self) -> int:
        """Return how many were left out on purpose so far."""

    def blocks(self) -> memoryview:
        """Return all rows as index_layout.py lays them out, when they are known."""


class SharedIndex:
    """An index filled from a source by one process of the job and read by all.

    Its file goes away with the last copy in the process that made it, or when that process ends; a copy that is
    unpickled after that, or on another machine, begins a table of its own. `folder` is where the file is put, if not
    in shared memory or among the temporary files.
    """

    def __init__(self, source: Source, *, folder: str = "") -> None:
        self._source, self._configured = source, folder
        self._begin_table()

    @property
    def folder(self) -> str:
        return self._configured

    @property
    def path(self) -> Path:
        """The table's file, as processes name it to each other."""
        return self._path

    @property
    def is_complete(self) -> bool:
        """Whether all rows are known; nobody waits for it."""
        return self._here().look().state is State.COMPLETE

    def again(self, edition: int) -> SharedIndex:
        """Return the index of another asking of the same source; of the same one for all who name one edition.

        Its table goes away with that of the first, edition 0.
        """
        if not edition:
            return self
        other = SharedIndex.__new__(SharedIndex)
        other._source, other._configured = self._source, self._configured
        other._read_table(self._owner, self._edition_path(edition), self._claim)
        return other

    def discard(self, edition: int) -> None:
        """Remove an edition's table; who reads it goes on reading."""
        if edition:
            remove_all(own_path(self._edition_path(edition)))

    def adopt(self, path: Path) -> None:
        """Read the table at `path` from now on, under a name of this index's own; `OSError` if that can't be."""
        here = self._path
        with contextlib.suppress(FileNotFoundError):
            here.unlink()
        os.link(path, here)
        self._processes.clear()

    def infos(self, first: int = 0, step: int = 1) -> Iterator[ObjectInfo]:
        with self._here().follow() as follower:
            table, position = follower.table, first
            while True:
                while rows := table.infos_from(position, step):
                    yield from rows
                    position += len(rows) * step
                if not follower.wait_beyond(position):
                    return

    def at(self, positions: Iterable[int]) -> Iterator[ObjectInfo]:
        with self._here().follow() as follower:
            table = follower.table
            for position in positions:
                if position >= table.rows and not follower.wait_beyond(position):
                    return
                yield table.info(position)

    def info(self, position: int) -> ObjectInfo:
        here = self._here()
        if position >= here.reader.table.rows:
            self.count()
        return here.reader.table.info(position)

    def count(self) -> int:
        here = self._here()
        if here.reader.progress.state is not State.COMPLETE:
            with here.follow() as follower:
                while follower.wait_beyond(follower.table.rows, to_end=True):
                    pass
        return here.reader.table.rows

    def skipped(self) -> int:
        return self._here().look().skipped

    def blocks(self) -> memoryview:
        self.count()
        return self._here().reader.blocks

    def dump(self) -> bytes:
        """Return the whole table, when it is complete."""
        self.count()
        return self._path_here().read_bytes()

    def restore(self, table: bytes) -> None:
        """Have the table that `dump` gave from now on."""
        path = self._path_here()
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        write_own(path, table)
        self._processes.clear()

    def touch(self) -> None:
        """See to it that the table's file is there."""
        self._here()

    def __getstate__(self) -> dict[str, Any]:
        place = {"owner": tuple(self._owner), "path": str(self._path)}
        return {"source": self._source, "configured": self._configured, **place}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._source, self._configured = state["source"], state["configured"]
        owner = Owner(*state["owner"])
        if is_alive(owner):
            path = Path(state["path"])
            self._read_table(owner, path, claim(owner, path))
        else:
            self._begin_table()

    def _begin_table(self) -> None:
        owner = this_process()
        path = new_path(choose_folder(self._configured), owner)
        self._read_table(owner, path, claim(owner, path))

    def _read_table(self, owner: Owner, path: Path, held: Claim | None) -> None:
        self._owner, self._path, self._claim = owner, path, held
        self._processes: dict[int, Filling] = {}

    def _edition_path(self, edition: int) -> Path:
        return self._path.with_name(f"{self._path.name}-{edition}")

    def _path_here(self) -> Path:
        return own_path(self._path)

    def _here(self) -> Filling:
        """Return this process's part in the work, begun afresh after a fork."""
        pid = os.getpid()
        here = self._processes.get(pid)
        if here is None:
            here = self._processes.setdefault(pid, Filling(own_path(self._path), self._source))
        return here
