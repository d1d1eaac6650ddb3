"""The file that a table of objects lives in: who may write it, and how it is read while it grows.

What keeps the file alive, and from whom it is kept, is in claims.py.
"""

from __future__ import annotations

import mmap
import os
from typing import Any

from ..errors import OssConfigError, OssError
from .claims import WRITING, Claim, advice, try_lock, unlock, write_all
from .layout import (
    HEAD_BYTES,
    MAGIC,
    Batch,
    Block,
    Progress,
    State,
    Table,
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

    def __init__(self, held: Claim) -> None:
        held.file  # noqa: B018 - now, since an error belongs here
        self._held = held
        self.table, self.progress = Table(), Progress()
        self._memory = memoryview(b"")

    def refresh(self) -> Progress:
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

    def __init__(self, held: Claim, file: int) -> None:
        self._path, self._file = held.path, file
        self.progress, self.cursor = self._resume()

    @classmethod
    def try_lock(cls, held: Claim) -> IndexWriter | None:
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
        self._publish(state=State.COMPLETE)

    def fail(self, kind: str, text: str) -> None:
        """Say that the rest can't be had, and why."""
        offset, record = pack_failure(kind, text)
        self._write(record, offset)
        self._publish(state=State.FAILED)

    def close(self) -> None:
        """Let another writer in."""
        unlock(self._file, WRITING)  # closing alone does not unlock while a child that is just being forked has a copy
        _close(self._file)

    def _resume(self) -> tuple[Progress, bytes]:
        """Begin the table, or read where the writer before this one stopped."""
        size = os.fstat(self._file).st_size
        if size < HEAD_BYTES:
            self._write(MAGIC.ljust(HEAD_BYTES, b"\0"), 0)
            return Progress(), b""
        with mmap.mmap(self._file, size, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as memory:
            _check_magic(memory)
            progress = unpack_progress(memory)
            cursor = Block(memory[: progress.end], progress.last).cursor if progress.last else b""
        return progress, cursor

    def _publish(self, *, state: State = State.GROWING, **counts: Any) -> None:
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
