"""The file that a table of objects lives in: who may write it, and how it is read while it grows.

What keeps the file alive, and from whom it is kept, is in held_file.py.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any, Protocol

from .. import errors
from ..errors import OssConfigError, OssError, OssTimeoutError
from ..patience import NoAnswerError, NoThreadError, Stillness, start_thread
from .held_file import WRITING, HeldFile, advice, try_lock, unlock, write_all
from .layout import (
    HEAD_BYTES,
    MAGIC,
    Batch,
    RowBlock,
    Table,
    TableProgress,
    TableState,
    pack_block,
    pack_failure,
    pack_progress,
    unpack_failure,
    unpack_progress,
)

# The descriptors of this process's writers. A forked child closes its copies: they would keep the lock if this process
# were killed, and nobody could go on with the table.
_writing: set[int] = set()


class IndexReader:
    """One process's view of a table; what was appended becomes visible with `refresh`, which one thread may call."""

    def __init__(self, held: HeldFile) -> None:
        held.file  # noqa: B018 - now, since an error belongs here
        self._held = held
        self.table, self.progress = Table(), TableProgress()
        self._memory = memoryview(b"")

    def refresh(self) -> TableProgress:
        """Look at the file again; return how far it has come."""
        if not len(self._memory) and not self._map():
            return self.progress
        progress = unpack_progress(self._memory)
        if progress.end > len(self._memory):
            self._map()
        self.table.extend(self._memory, self.progress.end, progress.end)
        self.progress = progress
        return progress

    @property
    def blocks(self) -> memoryview:
        """All rows as they lie in the file."""
        return self._memory[HEAD_BYTES : self.progress.end]

    @property
    def whole(self) -> memoryview:
        """The table as it lies in the file, as far as it has come."""
        return self._memory[: self.progress.end]

    def failure(self) -> tuple[str, str]:
        """Return class name and text of the error that the table ended with."""
        return unpack_failure(self._memory)

    def _map(self) -> bool:
        """Map the file as it is now; say whether its head is there."""
        # A mapping keeps its open file open, and with it the lock, for as long as there are views of it.
        file = self._held.reopened()
        try:
            size = os.fstat(file).st_size
            if size >= HEAD_BYTES:
                # The older mapping goes when the last view of it does.
                self._memory = memoryview(mmap.mmap(file, size, access=mmap.ACCESS_READ))
                _check_magic(self._memory)
        finally:
            os.close(file)
        return size >= HEAD_BYTES


class IndexWriter:
    """The one process that may append to a table, for as long as it holds the lock on the file."""

    def __init__(self, held: HeldFile, file: int) -> None:
        self._path, self._file = held.path, file
        self.progress, self.cursor = self._resume()

    @classmethod
    def try_lock(cls, held: HeldFile) -> IndexWriter | None:
        """Return the table's writer, or `None` while another one is at work."""
        file = held.reopened()
        _writing.add(file)
        try:
            if try_lock(file, WRITING):
                return cls(held, file)
        except BaseException as error:
            _close(file)
            if isinstance(error, OSError) and not isinstance(error, OssError):
                raise OssConfigError(advice(held.path, "locked", error)) from error
            raise
        _close(file)
        return None

    def append(self, batch: Batch) -> None:
        """Write the rows, then say that they are there."""
        block = pack_block(batch)
        start = self.progress.end
        self._write(block, start)
        self.cursor = batch.cursor
        rows, skipped = self.progress.rows + len(batch.tails), self.progress.skipped + batch.skipped
        self._publish(rows=rows, last=start, end=start + len(block), skipped=skipped)

    def complete(self) -> None:
        """Say that no more rows will come."""
        self._publish(state=TableState.COMPLETE)

    def fail(self, kind: str, text: str) -> None:
        """Say that the rest can't be had, and why."""
        offset, record = pack_failure(kind, text)
        self._write(record, offset)
        self._publish(state=TableState.FAILED)

    def close(self) -> None:
        """Let another writer in."""
        unlock(self._file, WRITING)  # closing alone does not unlock while a child that is just being forked has a copy
        _close(self._file)

    def _resume(self) -> tuple[TableProgress, bytes]:
        """Begin the table, or read where the writer before this one stopped."""
        size = os.fstat(self._file).st_size
        if size < HEAD_BYTES:
            self._write(MAGIC.ljust(HEAD_BYTES, b"\0"), 0)
            return TableProgress(), b""
        with mmap.mmap(self._file, size, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as memory:
            _check_magic(memory)
            progress = unpack_progress(memory)
            cursor = RowBlock(memory[: progress.end], progress.last).cursor if progress.last else b""
        return progress, cursor

    def _publish(self, *, state: TableState = TableState.GROWING, **counts: Any) -> None:
        progress = self.progress._replace(sequence=self.progress.sequence + 1, state=state, **counts)
        offset, record = pack_progress(progress)
        self._write(record, offset)
        self.progress = progress

    def _write(self, data: bytes, offset: int) -> None:
        write_all(self._file, data, offset, self._path)


def _check_magic(head: memoryview) -> None:
    if head[: len(MAGIC)] != MAGIC:
        raise OssError("the table of objects is damaged, or of another version of this library")


def _close(file: int) -> None:
    _writing.discard(file)
    os.close(file)


def _close_inherited() -> None:
    while _writing:
        _close(_writing.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_inherited)


Wait = Callable[["Future[Any]"], Any]

_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.001, 0.02
# The process that fills the table may die silently, so waiters look again after this time.
_LOOK_SECONDS = 60.0


class Source(Protocol):
    """Where rows come from, in an order that does not change. Pickles."""

    def batches(self, cursor: bytes, wait: Wait) -> Generator[Batch, None, None]:
        """Yield the rows after `cursor`, which is that of the last batch that was taken (empty: from the start).

        Requests are waited for by `wait`, which gives up when nobody wants the rows any more.
        """


class Filling:
    """What one process knows of a table and does for it."""

    _is_exiting = staticmethod(sys.is_finalizing)  # then the globals of modules may be gone

    def __init__(self, held: HeldFile, source: Source) -> None:
        self.reader = IndexReader(held)
        self.failures = 0
        self.error: BaseException = OssError("the table of objects has not failed")
        self._held, self._source, self._pid = held, source, os.getpid()
        lock = threading.RLock()
        self._changed, self._ended = threading.Condition(lock), threading.Condition(lock)
        self._followers = 0
        self._writer: IndexWriter | None = None
        self._pending: Future[Any] | None = None
        self._given_up = False

    def look(self) -> TableProgress:
        """Read how far the table has come."""
        with self._changed:
            return self.reader.refresh()

    @contextlib.contextmanager
    def follow(self) -> Iterator[Follower]:
        """Keep the table growing, if this process fills it, while somebody waits for its rows."""
        with self._changed:
            self._followers += 1
        try:
            yield Follower(self)
        finally:
            # Not at the interpreter's end, nor in a child that was forked meanwhile: thread and lock are the parent's.
            if not self._is_exiting() and self._pid == os.getpid():
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
                writer = IndexWriter.try_lock(self._held)
                if writer is None:
                    return False
                if writer.progress.state is TableState.COMPLETE:
                    writer.close()
                    return True
                self._writer, self._given_up = writer, False
                try:
                    start_thread(functools.partial(self._fill, writer), "oss-index")
                except NoThreadError as error:
                    self._writer = None
                    writer.close()
                    raise OssError(f"the table of objects can't be filled: {error}") from None
            return True

    def wait_for_change(self, seen: TableProgress, seconds: float) -> None:
        """Wait until the table, which this process fills, has come further than `seen`, or is not filled any more."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._writer is None or self._writer.progress.sequence != seen.sequence, seconds
            )

    def wait_for_end(self, seconds: float) -> None:
        """Wait until the table is not filled any more; who does so is not woken for each page."""
        with self._ended:
            self._ended.wait_for(lambda: self._writer is None, seconds)

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
                self._ended.notify_all()

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


_OTHER = "another process of the job fills it, and may be stopped or stuck"
_OWN = "where its rows come from (a listing, or the parser of a manifest) may be stuck"


class Follower:
    """Somebody who reads a table to its end; a failure that was there before is tried again, a new one is raised."""

    def __init__(self, here: Filling) -> None:
        self._here = here
        self.table = here.reader.table
        self._failures = here.failures
        progress = here.look()
        self._old_failure = progress.sequence if progress.state is TableState.FAILED else -1

    def wait_beyond(self, position: int, *, to_end: bool = False) -> bool:
        """Wait until row `position` is there and return true, or false if the table ends before it.

        `to_end` says that there is no hurry: the next row that matters is the last one.
        """
        here, pause_seconds, stillness = (
            self._here,
            _FIRST_PAUSE_SECONDS,
            Stillness("the table of objects has not grown"),
        )
        slept, who = 0.0, _OTHER
        while True:
            progress = here.look()
            if self.table.rows > position:
                return True
            if progress.state is TableState.COMPLETE:
                return False
            if here.failures != self._failures:
                raise here.error
            if progress.state is TableState.FAILED and progress.sequence != self._old_failure:
                raise _rebuilt(*here.reader.failure())
            try:
                stillness.check(progress.sequence, slept, who)
            except NoAnswerError as error:
                raise OssTimeoutError(str(error)) from None
            if not here.fills():
                time.sleep(pause_seconds)
                slept, who = pause_seconds, _OTHER
                pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
                continue
            slept, who = _LOOK_SECONDS, _OWN
            if to_end:
                here.wait_for_end(slept)
            else:
                here.wait_for_change(progress, slept)


def _rebuilt(kind: str, text: str) -> OssError:
    """Return the error that ended the table in another process."""
    known = getattr(errors, kind, None)
    if isinstance(known, type) and issubclass(known, OssError):
        return known(text)
    return OssError(f"{kind}: {text}")
