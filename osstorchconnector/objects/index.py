"""One listing for all: a table of objects that one process fills and every process of the job reads meanwhile.

Whoever first needs a row that is not there tries the table's lock. The one that gets it fills the table from the
source in a thread of its own, page by page, for as long as somebody in its process waits for rows; the others read
what is there and look again. If the filling process stops or dies, the next one to need a row goes on after the last
page that was written. So the source is asked once, however many processes read.

Copies of an index, by fork or by pickle, are the same table; they carry its name and its source, no position.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol

from .. import errors
from ..errors import OssError
from .claims import Claim, claim, remove_all
from .index_file import (
    IndexReader,
    IndexWriter,
    Owner,
    choose_folder,
    is_alive,
    new_path,
    own_path,
    this_process,
    write_own,
)
from .index_layout import Batch, Progress, State, Table, pack_block
from .info import ObjectInfo

Wait = Callable[["Future[Any]"], Any]

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.001, 0.02


class Source(Protocol):
    """Where rows come from, in an order that does not change. Pickles."""

    def batches(self, cursor: bytes, wait: Wait) -> Generator[Batch, None, None]:
        """Yield the rows after `cursor`, which is that of the last batch that was taken (empty: from the start).

        Requests are waited for by `wait`, which gives up when nobody wants the rows any more.
        """


class ObjectIndex(Protocol):
    """Objects by number: what a sharder, a shuffle or a map dataset counts on."""

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


class FixedIndex:
    """An index whose rows are all known when it is made. It is pickled with them."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._blocks = b"".join(map(pack_block, batches))
        self._table = self._read()

    @property
    def is_complete(self) -> bool:
        return True

    def infos(self, first: int = 0, step: int = 1) -> Iterator[ObjectInfo]:
        position = first
        while rows := self._table.infos_from(position, step):
            yield from rows
            position += len(rows) * step

    def at(self, positions: Iterable[int]) -> Iterator[ObjectInfo]:
        return map(self._table.info, takewhile(self._table.rows.__gt__, positions))

    def info(self, position: int) -> ObjectInfo:
        return self._table.info(position)

    def count(self) -> int:
        return self._table.rows

    def skipped(self) -> int:
        return 0

    def blocks(self) -> memoryview:
        return memoryview(self._blocks)

    def digest(self) -> str:
        """Return what tells these rows from others."""
        return hashlib.blake2b(self._blocks, digest_size=16).hexdigest()

    def __getstate__(self) -> dict[str, bytes]:
        return {"blocks": self._blocks}

    def __setstate__(self, state: dict[str, bytes]) -> None:
        self._blocks = state["blocks"]
        self._table = self._read()

    def _read(self) -> Table:
        table = Table()
        table.extend(memoryview(self._blocks), 0, len(self._blocks))
        return table


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
                while follower.wait_beyond(follower.table.rows):
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
        self._processes: dict[int, _Here] = {}

    def _edition_path(self, edition: int) -> Path:
        return self._path.with_name(f"{self._path.name}-{edition}")

    def _path_here(self) -> Path:
        return own_path(self._path)

    def _here(self) -> _Here:
        """Return this process's part in the work, begun afresh after a fork."""
        pid = os.getpid()
        here = self._processes.get(pid)
        if here is None:
            here = self._processes.setdefault(pid, _Here(own_path(self._path), self._source))
        return here


class _Here:
    """What one process knows of a table and does for it."""

    def __init__(self, path: Path, source: Source) -> None:
        self.reader = IndexReader(path)
        self.failures = 0
        self.error: BaseException = OssError("the table of objects has not failed")
        self._path, self._source, self._pid = path, source, os.getpid()
        self._changed = threading.Condition()
        self._followers = 0
        self._writer: IndexWriter | None = None
        self._pending: Future[Any] | None = None
        self._given_up = False

    def look(self) -> Progress:
        """Read how far the table has come."""
        with self._changed:
            return self.reader.refresh()

    @contextlib.contextmanager
    def follow(self) -> Iterator[_Follower]:
        """Keep the table growing, if this process fills it, while somebody waits for its rows."""
        with self._changed:
            self._followers += 1
        try:
            yield _Follower(self)
        finally:
            if self._pid == os.getpid():  # not in a child that was forked meanwhile: thread and lock are the parent's
                self._leave()

    def _leave(self) -> None:
        with self._changed:
            self._followers -= 1
            if not self._followers and self._pending is not None:
                self._given_up = self._pending.cancel()

    def fills(self) -> bool:
        """Say whether this process fills the table, after it has tried to become the one that does."""
        with self._changed:
            if self._writer is None:
                writer = IndexWriter.try_lock(self._path)
                if writer is None:
                    return False
                if writer.progress.state is State.COMPLETE:
                    writer.close()
                    return True
                self._writer, self._given_up = writer, False
                threading.Thread(target=self._fill, args=(writer,), name="oss-index", daemon=True).start()
            return True

    def wait_for_change(self, seen: Progress) -> None:
        """Wait until the table, which this process fills, has come further than `seen`, or is not filled any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._writer is None or self._writer.progress.sequence != seen.sequence)

    def _fill(self, writer: IndexWriter) -> None:
        try:
            with contextlib.closing(self._source.batches(writer.cursor, self._result)) as batches:
                for batch in batches:
                    writer.append(batch)
                    if not self._wanted():
                        return
            writer.complete()
        except BaseException as error:  # whatever it is belongs to those who wait for rows
            if isinstance(error, CancelledError) and self._given_up:
                return
            with self._changed:
                self.failures, self.error = self.failures + 1, error
            with contextlib.suppress(OssError):  # if not even that can be written, the others will see for themselves
                writer.fail(type(error).__name__, str(error))
        finally:
            with self._changed:
                self._writer = None
                writer.close()
                self._changed.notify_all()

    def _result(self, request: Future[Any]) -> Any:
        """Wait for a request of the source, unless nobody waits for the table."""
        with self._changed:
            self._pending = request
            if not self._followers:
                self._given_up = request.cancel()
        try:
            return request.result()
        finally:
            with self._changed:
                self._pending = None

    def _wanted(self) -> bool:
        with self._changed:
            self._changed.notify_all()
            return self._followers > 0


class _Follower:
    """Somebody who reads a table to its end; a failure that was there before is tried again, a new one is raised."""

    def __init__(self, here: _Here) -> None:
        self._here = here
        self.table = here.reader.table
        self._failures = here.failures
        progress = here.look()
        self._old_failure = progress.sequence if progress.state is State.FAILED else -1

    def wait_beyond(self, position: int) -> bool:
        """Wait until row `position` is there and return true, or false if the table ends before it."""
        here, pause_seconds = self._here, _FIRST_PAUSE_SECONDS
        while True:
            progress = here.look()
            if self.table.rows > position:
                return True
            if progress.state is State.COMPLETE:
                return False
            if here.failures != self._failures:
                raise here.error
            if progress.state is State.FAILED and progress.sequence != self._old_failure:
                raise _rebuilt(*here.reader.failure())
            if here.fills():
                here.wait_for_change(progress)
            else:
                time.sleep(pause_seconds)
                pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)


def _rebuilt(kind: str, text: str) -> OssError:
    """Return the error that ended the table in another process."""
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, OssError):
        return known(text)
    return OssError(f"{kind}: {text}")
