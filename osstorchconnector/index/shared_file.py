"""The file that a table of objects lives in: one process fills it from a source while all read it.

    Source --batches--> `Filling` (a thread) --`IndexWriter`--> file --`IndexReader`--> `Follower` (waits for rows)

- The process that gets the lock `WRITING` fills the table. If it is killed, the lock is free, and the next process that
  waits for rows goes on from the cursor of the last block. If nobody waits any more, it stops.
- Readers take no lock. The writer appends a block and only then publishes, in the head, how far the table has come
  (layout.py). A reader looks at the head first and reads no further than it says. What is published never changes, so
  rows that were read stay valid. The head has two slots with checksums: a reader that meets a half-written slot takes
  the other one, which is the state before.
- Memory visibility: a `write` that has returned is visible in every mapping of the file on the same machine, and the
  lock inside each `write` keeps the two in order. Readers have no barrier, since Python offers none: this assumes that
  a processor does not move a load of rows before that of the head, with a checksum and its Python code in between.

How long the file lives, and the locks, are in held_file.py.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import sys
import threading
import time
from collections.abc import Callable, Generator
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

# The descriptors of this process's writers. A forked child closes its copies: otherwise, if this process is killed, the
# child keeps the lock, and no process can go on with the table.
_writing: set[int] = set()


class IndexReader:
    """One process's view of a table; what was appended becomes visible with `refresh`, for one thread at a time."""

    def __init__(self, held: HeldFile) -> None:
        held.file  # noqa: B018 - now, since an error belongs here
        self._held = held
        self.table, self.progress = Table(), TableProgress()
        self._memory = memoryview(b"")

    def refresh(self) -> TableProgress:
        """Look at the file again; return how far the table has come. The head is read before the rows (see above)."""
        if not len(self._memory) and not self._map():
            return self.progress
        progress = unpack_progress(self._memory)
        if progress.sequence <= self.progress.sequence:  # less, if each slot was being written when it was looked at
            return self.progress
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
        # A mapping keeps the descriptor it was made from open, and with it any lock: so it gets one of its own.
        file = self._held.reopened()
        try:
            size = os.fstat(file).st_size
            if size >= HEAD_BYTES:
                # The older mapping is freed with the last view of it: rows that were read stay valid.
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
        """Write the rows, then publish them: in this order, since readers take no lock."""
        block = pack_block(batch)
        start = self.progress.end
        self._write(block, start)
        self.cursor = batch.cursor
        rows, skipped = self.progress.rows + len(batch.tails), self.progress.skipped + batch.skipped
        self._publish(rows=rows, last=start, end=start + len(block), skipped=skipped)

    def complete(self) -> None:
        """Publish that no more rows will come."""
        self._publish(state=TableState.COMPLETE)

    def fail(self, kind: str, text: str) -> None:
        """Publish that the rest can't be had, and why: the reason first."""
        offset, record = pack_failure(kind, text)
        self._write(record, offset)
        self._publish(state=TableState.FAILED)

    def close(self) -> None:
        """Let another writer in."""
        unlock(self._file, WRITING)  # closing does not unlock while a child that is being forked has a copy
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
# The process that fills the table may be killed without a sign, so those that wait look again after this time.
_LOOK_SECONDS = 60.0


class Source(Protocol):
    """Where rows come from, in an order that does not change. Pickles."""

    def batches(self, cursor: bytes, wait: Wait) -> Generator[Batch, None, None]:
        """Yield the rows after `cursor`, which is that of the last batch that was taken (empty: from the start).

        `wait` waits for a request, and gives up when nobody waits for rows any more.
        """


class Filling:
    """What one process knows of a table and does for it."""

    _is_exiting = staticmethod(sys.is_finalizing)  # kept here: at exit the globals of modules may be gone

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

    def join(self) -> None:
        """Count a follower more: while there is one, the table grows if this process fills it."""
        with self._changed:
            self._followers += 1

    def leave(self) -> None:
        """Count a follower less."""
        # Not at the interpreter's end, nor in a forked child: the thread and the lock belong to the parent.
        if self._is_exiting() or self._pid != os.getpid():
            return
        with self._changed:
            self._followers -= 1
            if not self._followers and self._pending is not None:
                self._given_up = self._pending.cancel()

    def fills(self) -> bool:
        """Return whether this process fills the table, after trying to become the one that does."""
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
        """Wait until the table is not filled any more, without being woken for each page."""
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
        except BaseException as error:  # any error is raised in the threads that wait for rows
            if isinstance(error, CancelledError) and self._given_up:
                return
            with self._changed:
                self.failures, self.error = self.failures + 1, error
            with contextlib.suppress(
                OssError
            ):  # if it can't be written, other processes find the same error themselves
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
    """Waits in its `with` for rows of a table. A failure from before it is tried again; a new one is raised."""

    # Not a `contextmanager`: in Python 3.10, one that GeneratorExit passes is a cycle. It would keep the table's file
    # after an epoch that is broken off.

    def __init__(self, here: Filling) -> None:
        self._here = here
        self.table = here.reader.table
        self._failures = here.failures
        progress = here.look()
        self._old_failure = progress.sequence if progress.state is TableState.FAILED else -1

    def __enter__(self) -> Follower:
        self._here.join()
        return self

    def __exit__(self, *raised: object) -> None:
        self._here.leave()

    def wait_beyond(self, position: int, *, to_end: bool = False) -> bool:
        """Wait until row `position` is there and return true, or false if the table ends before it.

        `to_end`: only the end of the table matters, so there is no need to wake up for each page.
        """
        here, pause_seconds, stillness = (
            self._here,
            _FIRST_PAUSE_SECONDS,
            Stillness("the table of objects has not grown"),
        )
        slept, cause = 0.0, _OTHER
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
                stillness.check(progress.sequence, slept, cause)
            except NoAnswerError as error:
                raise OssTimeoutError(str(error)) from None
            if not here.fills():
                time.sleep(pause_seconds)
                slept, cause = pause_seconds, _OTHER
                pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)
                continue
            slept, cause = _LOOK_SECONDS, _OWN
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
