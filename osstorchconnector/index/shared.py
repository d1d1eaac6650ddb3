"""What all processes of a job share: the table of objects (`SharedIndex`) and a few numbers (`SharedNumbers`).

Both live in a file, and travel to other processes in the same way. A copy, by fork or by pickle, carries the file's
name and opens the same file. If it can't, because no process holds the file any more or it is on another machine, the
copy begins a file of its own: an index from its source, numbers with those that were pickled.
"""

from __future__ import annotations

import contextlib
import itertools
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
from .shared_file import Filling, Follower, Source


class ObjectIndex(Protocol):
    """Objects by number: a `View` of `ObjectInfo`s (index/orders.py) that can also be saved."""

    @property
    def folder(self) -> str:
        """Where its files are put; empty if nothing was configured."""

    @property
    def is_complete(self) -> bool:
        """Whether all rows are known by now; does not wait."""

    def known(self) -> tuple[int, bool]:
        """Return how many objects are known by now, and whether these are all; does not wait, and begins nothing."""

    def items(self, first: int = 0, step: int = 1) -> Iterator[ObjectInfo]:
        """Yield objects `first`, `first + step` and so on, each as soon as it is known."""

    def at(self, positions: Iterable[int]) -> Iterator[ObjectInfo]:
        """Yield the objects of these numbers, each as soon as it is known, up to the first number without an object."""

    def info(self, position: int) -> ObjectInfo:
        """Return one object by its number, which is below `count()`."""

    def count(self) -> int:
        """Return the number of objects, waiting until it is known."""

    def skipped(self) -> int:
        """Return how many objects have been left out on purpose so far (markers of folders)."""

    def blocks(self) -> memoryview:
        """Return all rows as layout.py lays them out, waiting until they are known."""


class SharedIndex:
    """An index filled from a source by one process of the job and read by all.

    Its file goes away with the last process that has a copy. A copy that is unpickled after that, or on another
    machine, begins a table of its own. `folder` is where the file is put, if not in shared memory or among the
    temporary files.
    """

    _of_epoch: SharedIndex | None

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
        """Whether all rows are known by now; does not wait."""
        return self._here().look().state is TableState.COMPLETE

    def known(self) -> tuple[int, bool]:
        if not self._held.is_open:
            return 0, False
        progress = self._here().look()
        return progress.rows, progress.state is TableState.COMPLETE

    def for_epoch(self, epoch: int) -> SharedIndex:
        """Return the index of a new listing by the same source, one for each epoch: all processes get the same.

        Epoch 0 is this index. That of the epoch which was asked for last lives as long as this index.
        """
        if not epoch:
            self._of_epoch = None
            return self
        path = self._path.with_name(f"{self._path.name}-{epoch}")
        if self._of_epoch is None or self._of_epoch.path != path:
            self._of_epoch = other = SharedIndex.__new__(SharedIndex)
            other._source, other._configured = self._source, self._configured
            other._read_table(path, hold(own_path(path)))
        return self._of_epoch

    def link_to(self, path: Path) -> bool:
        """Read the table at `path`, named by a process on this machine; return whether it can be opened."""
        held = hold_named(path, this_machine())
        if held is not None:
            self._read_table(path, held)
        return held is not None

    def items(self, first: int = 0, step: int = 1) -> Iterator[ObjectInfo]:
        # Not a generator that yields row by row: that would be a Python call for each.
        return itertools.chain.from_iterable(self._blocks_of_items(first, step))

    def _blocks_of_items(self, first: int, step: int) -> Iterator[list[ObjectInfo]]:
        with Follower(self._here()) as follower:
            table, position = follower.table, first
            while True:
                while rows := table.infos_from(position, step):
                    yield rows
                    position += len(rows) * step
                if not follower.wait_beyond(position):
                    return

    def at(self, positions: Iterable[int]) -> Iterator[ObjectInfo]:
        with Follower(self._here()) as follower:
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
            with Follower(here) as follower:
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
        """Read the table that `dump` returned from now on, under the same name."""
        path = self._held.path
        with contextlib.suppress(OSError):
            path.unlink()
        held = HeldFile(path, table)
        held.file  # noqa: B018
        self._read_table(self._path, held)

    def ensure_file(self) -> None:
        """Make sure that the table's file exists under its name, so that other processes can open it."""
        self._here()
        if not self._held.is_in_place():
            self.restore(self.dump())  # another program has removed the file: write the same rows again

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
        self._path, self._held = path, held
        self._processes: dict[int, Filling] = {}
        self._of_epoch = None

    def _here(self) -> Filling:
        """Return what this process knows of the table; a forked child begins anew.

        The child must not use the parent's: its locks may be held by threads that the child does not have. Two threads
        may come here at once without a lock: `setdefault` is atomic, so both get the same object.
        """
        pid = os.getpid()
        here = self._processes.get(pid)
        if here is None:
            held = self._held if has_locks() else hold(own_path(self._path))
            here = self._processes.setdefault(pid, Filling(held, self._source))
        return here


_NUMBER = struct.Struct("=q")


class SharedNumbers:
    """Numbers by slot, at first those in `initial`, else 0; copies read and write the same ones, in all processes.

    `get` and `set` take no lock. This assumes that the system copies eight aligned bytes at once, as Linux does: `get`
    then returns the number before a `set` or after it. `add` reads and writes, and holds the file's lock meanwhile.
    """

    def __init__(self, *, folder: str = "", initial: Mapping[int, int] = MappingProxyType({})) -> None:
        self._folder = folder
        self._begin(dict(initial))

    def get(self, slot: int) -> int:
        """Return the number in a slot."""
        return self._read().get(slot, 0)

    def set(self, slot: int, number: int) -> None:
        """Write the number in a slot, for all processes."""
        with self._file() as file:
            self._write(file, slot, number)

    def add(self, slot: int, amount: int) -> int:
        """Add to the number in a slot, and return the sum; other processes may do so at the same time."""
        with self._file() as file, locked(file, WRITING, self._held.path):
            sum_ = _stored(file).get(slot, 0) + amount
            self._write(file, slot, sum_)
        return sum_

    def __getstate__(self) -> dict[str, Any]:
        numbers = self._read()
        if not self._held.is_in_place():
            raise OssError(
                f"{self._held.path} has been removed while it was in use, and another process would not find it: name "
                "a folder that nobody clears by indexDir in the config"
            )
        return {
            "folder": self._folder,
            "machine": this_machine(),
            "path": str(self._held.path),
            "numbers": numbers,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._folder = state["folder"]
        held = hold_named(Path(state["path"]), state["machine"])
        if held is None:
            self._begin(state["numbers"])
        else:
            self._held, self._initial = held, state["numbers"]

    def __deepcopy__(self, memo: dict[int, Any]) -> SharedNumbers:
        return self

    def _begin(self, initial: dict[int, int]) -> None:
        slots = range(max(initial, default=-1) + 1)
        content = b"".join(_NUMBER.pack(initial.get(slot, 0)) for slot in slots)
        self._held, self._initial = HeldFile(new_path(choose_folder(self._folder)), content), initial

    def _read(self) -> dict[int, int]:
        if not self._held.is_open and not self._held.path.exists():
            return dict(self._initial)
        with self._file() as file:
            return {**self._initial, **_stored(file)}

    @contextlib.contextmanager
    def _file(self) -> Iterator[int]:
        file = self._held.reopened()
        try:
            yield file
        finally:
            os.close(file)

    def _write(self, file: int, slot: int, number: int) -> None:
        write_all(file, _NUMBER.pack(number), slot * _NUMBER.size, self._held.path)


def _stored(file: int) -> dict[int, int]:
    os.lseek(file, 0, os.SEEK_SET)
    data = os.read(file, os.fstat(file).st_size)
    whole = len(data) - len(data) % _NUMBER.size
    return {slot: number for slot, (number,) in enumerate(_NUMBER.iter_unpack(data[:whole]))}
