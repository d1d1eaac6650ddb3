"""One listing for all: objects by number, in a table that every process of a job reads.

Copies of an index, by fork or by pickle, are the same table; they carry its name and its source, no position.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from ..errors import OssError
from .held_file import (
    WRITING,
    HeldFile,
    choose_folder,
    has_locks,
    hold,
    hold_named,
    locked,
    new_path,
    own_path,
    this_machine,
    write_all,
)
from .info import ObjectInfo
from .layout import TableState
from .shared_file import Filling, Source


class ObjectIndex(Protocol):
    """Objects by number: what a sharder, a shuffle or a map dataset counts on."""

    @property
    def folder(self) -> str:
        """Where its files are put; empty if nothing was configured."""

    @property
    def is_complete(self) -> bool:
        """Whether all rows are known; nobody waits for it."""

    def items(self, first: int = 0, step: int = 1) -> Iterator[ObjectInfo]:
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

    Its file goes away with the last process that has a copy. A copy that is unpickled after that, or on another
    machine, begins a table of its own. `folder` is where the file is put, if not in shared memory or among the
    temporary files.
    """

    _edition: SharedIndex | None

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
        return self._here().look().state is TableState.COMPLETE

    def for_epoch(self, edition: int) -> SharedIndex:
        """Return the index of another asking of the same source; of the same one for all who name one edition.

        Edition 0 is this index. The edition that was asked for last lives as long as this index.
        """
        if not edition:
            self._edition = None
            return self
        path = self._path.with_name(f"{self._path.name}-{edition}")
        if self._edition is None or self._edition.path != path:
            self._edition = other = SharedIndex.__new__(SharedIndex)
            other._source, other._configured = self._source, self._configured
            other._read_table(path, hold(own_path(path)))
        return self._edition

    def link_to(self, path: Path) -> bool:
        """Read the table at `path`, which a process on this machine has named, from now on; say whether it can be."""
        held = hold_named(path, this_machine())
        if held is not None:
            self._read_table(path, held)
        return held is not None

    def items(self, first: int = 0, step: int = 1) -> Iterator[ObjectInfo]:
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
        if here.reader.progress.state is not TableState.COMPLETE:
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
        return bytes(self._here().reader.whole)

    def restore(self, table: bytes) -> None:
        """Have the table that `dump` gave from now on, under the same name."""
        path = self._claim.path
        with contextlib.suppress(OSError):
            path.unlink()
        held = HeldFile(path, table)
        held.file  # noqa: B018
        self._read_table(self._path, held)

    def ensure_file(self) -> None:
        """Make sure that the table's file exists under its name, so that other processes can open it."""
        self._here()
        if not self._claim.is_in_place():
            self.restore(self.dump())  # somebody else has removed the file: the same rows again, in the same order

    def __getstate__(self) -> dict[str, Any]:
        self.ensure_file()
        place = {"machine": this_machine(), "path": str(self._path)}
        return {"source": self._source, "configured": self._configured, **place}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._source, self._configured = state["source"], state["configured"]
        path = Path(state["path"])
        held = hold_named(path, state["machine"]) if has_locks() else None
        if held is None:
            self._begin_table()
        else:
            self._read_table(path, held)

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedIndex:
        return self

    def _begin_table(self) -> None:
        path = new_path(choose_folder(self._configured))
        self._read_table(path, hold(own_path(path)))

    def _read_table(self, path: Path, held: HeldFile) -> None:
        self._path, self._claim = path, held
        self._processes: dict[int, Filling] = {}
        self._edition = None

    def _here(self) -> Filling:
        """Return this process's part in the work, begun afresh after a fork."""
        pid = os.getpid()
        here = self._processes.get(pid)
        if here is None:
            held = self._claim if has_locks() else hold(own_path(self._path))
            here = self._processes.setdefault(pid, Filling(held, self._source))
        return here


_NUMBER = struct.Struct("=q")


class SharedNumbers:
    """Numbers by place, at first those in `initial` and 0; copies have the same ones, in all processes of this machine.

    A copy that is unpickled when no process has them any more, or on another machine, begins with the numbers as they
    were when it was pickled, and has them for itself.
    """

    def __init__(self, *, folder: str = "", initial: Mapping[int, int] = MappingProxyType({})) -> None:
        self._folder = folder
        self._begin(dict(initial))

    def get(self, place: int) -> int:
        """Return the number at `place`."""
        return self._read().get(place, 0)

    def set(self, place: int, number: int) -> None:
        """Write the number at `place`, for all to see."""
        with self._file() as file:
            self._write(file, place, number)

    def add(self, place: int, amount: int) -> int:
        """Add to the number at `place`, which others may do at the same time; return the sum."""
        with self._file() as file, locked(file, WRITING, self._claim.path):
            sum_ = _stored(file).get(place, 0) + amount
            self._write(file, place, sum_)
        return sum_

    def __getstate__(self) -> dict[str, Any]:
        numbers = self._read()
        if not self._claim.is_in_place():
            raise OssError(
                f"{self._claim.path} has been removed while it was in use, and another process would not find it: name "
                "a folder that nobody clears by indexDir in the config"
            )
        return {
            "folder": self._folder,
            "machine": this_machine(),
            "path": str(self._claim.path),
            "numbers": numbers,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._folder = state["folder"]
        held = hold_named(Path(state["path"]), state["machine"])
        if held is None:
            self._begin(state["numbers"])
        else:
            self._claim, self._initial = held, state["numbers"]

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedNumbers:
        return self

    def _begin(self, initial: dict[int, int]) -> None:
        places = range(max(initial, default=-1) + 1)
        content = b"".join(_NUMBER.pack(initial.get(place, 0)) for place in places)
        self._claim, self._initial = HeldFile(new_path(choose_folder(self._folder)), content), initial

    def _read(self) -> dict[int, int]:
        if not self._claim.is_open and not self._claim.path.exists():
            return dict(self._initial)
        with self._file() as file:
            return {**self._initial, **_stored(file)}

    @contextlib.contextmanager
    def _file(self) -> Iterator[int]:
        file = self._claim.reopened()
        try:
            yield file
        finally:
            os.close(file)

    def _write(self, file: int, place: int, number: int) -> None:
        write_all(file, _NUMBER.pack(number), place * _NUMBER.size, self._claim.path)


def _stored(file: int) -> dict[int, int]:
    os.lseek(file, 0, os.SEEK_SET)
    data = os.read(file, os.fstat(file).st_size)
    whole = len(data) - len(data) % _NUMBER.size
    return {place: number for place, (number,) in enumerate(_NUMBER.iter_unpack(data[:whole]))}
