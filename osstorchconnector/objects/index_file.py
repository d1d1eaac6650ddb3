"""The file that a table of objects lives in: who may write it, how it is read while it grows, and when it goes away.

The file's name holds the user's id, the process that owns the table and a random part, never the URI: two jobs on
one prefix have two tables. It is readable by its owner only, and whoever opens it checks that.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
import platform
import re
import secrets
import stat
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import OssConfigError, OssError
from .index_layout import (
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

try:
    import fcntl
except ImportError:  # Windows: there each process has a table of its own
    HAS_LOCKS = False
else:
    HAS_LOCKS = True

SHARED_MEMORY = "/dev/shm"
# With less room than this the shared memory is left to those who need it (containers have 64 MiB of it unless told).
SHARED_MEMORY_FLOOR_BYTES = 1 << 30
_PREFIX = "osstorchconnector-index"
_NAME = re.compile(rf"{_PREFIX}-(?P<user>\d+)-(?P<space>\d+)-(?P<pid>\d+)-(?P<started>\d+)-[0-9a-f]+")
_ABANDONED_SECONDS = 24 * 3600.0


class Owner(NamedTuple):
    """A process that can be told from a later one with the same id, and from one in another container or machine."""

    space: int
    pid: int
    started: int


def this_process() -> Owner:
    """Return the process that is running."""
    pid = os.getpid()
    return Owner(process_space(), pid, _start_time(pid))


def is_alive(owner: Owner) -> bool | None:
    """Return whether the process still runs; `None` if that can't be known from here."""
    if owner.space != process_space() or not HAS_LOCKS:  # on Windows os.kill would do what it says
        return None
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return None
    return _start_time(owner.pid) == owner.started


def new_path(folder: str, owner: Owner) -> Path:
    """Return a path for a new table, one that nobody can guess."""
    name = f"{_PREFIX}-{_user()}-{owner.space}-{owner.pid}-{owner.started}-{secrets.token_hex(8)}"
    return Path(folder, name)


def own_path(path: Path, has_locks: bool = HAS_LOCKS) -> Path:
    """Return where this process finds the table: where there are no locks, each process has one of its own."""
    return path if has_locks else path.with_name(f"{path.name}-{os.getpid()}")


def choose_folder(configured: str, shared_memory: str = SHARED_MEMORY) -> str:
    """Return where new tables go: the configured folder, shared memory with enough room, or the temporary folder."""
    if configured:
        if not Path(configured).is_dir():
            raise OssConfigError(f"config key indexDir: {configured!r} is not a folder")
        return configured
    with contextlib.suppress(OSError, AttributeError):
        room = os.statvfs(shared_memory)
        if room.f_bavail * room.f_frsize >= SHARED_MEMORY_FLOOR_BYTES and os.access(shared_memory, os.W_OK):
            return shared_memory
    return tempfile.gettempdir()


def remove_abandoned(folder: Path, now_seconds: float) -> None:
    """Remove what killed processes of this user left in the folder."""
    for path in folder.glob(f"{_PREFIX}-{_user()}-*"):
        named = _NAME.match(path.name)
        if named is None:
            continue
        alive = is_alive(Owner(int(named["space"]), int(named["pid"]), int(named["started"])))
        with contextlib.suppress(OSError):
            if alive is False or (alive is None and now_seconds - path.stat().st_mtime > _ABANDONED_SECONDS):
                path.unlink()


class IndexReader:
    """One process's view of a table; what was appended becomes visible with `refresh`, which one thread may call."""

    def __init__(self, path: Path) -> None:
        self._file = -1
        self.table, self.progress = Table(), Progress()
        self._memory = memoryview(b"")
        self._file = open_own(path)

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

    def failure(self) -> tuple[str, str]:
        """Return class name and text of the error that the table ended with."""
        return unpack_failure(self._memory)

    def close(self) -> None:
        """Close the file; what was handed out stays good."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    __del__ = close

    def _map(self) -> bool:
        """Map the file as it is now; say whether its head is there."""
        size = os.fstat(self._file).st_size
        if size >= HEAD_BYTES:
            # The older mapping goes when the last view of it does.
            self._memory = memoryview(mmap.mmap(self._file, size, access=mmap.ACCESS_READ))
            _check_magic(self._memory)
        return size >= HEAD_BYTES


class IndexWriter:
    """The one process that may append to a table, for as long as it holds the lock on the file."""

    def __init__(self, file: int) -> None:
        self._file = file
        self.progress, self.cursor = self._resume()

    @classmethod
    def try_lock(cls, path: Path) -> IndexWriter | None:
        """Return the table's writer, or `None` while another one is at work."""
        file = open_own(path)
        try:
            if HAS_LOCKS:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cls(file)
        except BlockingIOError:
            os.close(file)
            return None
        except BaseException as error:
            os.close(file)
            if isinstance(error, OSError) and not isinstance(error, OssError):
                raise OssConfigError(_advice(path, "locked", error)) from error
            raise

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
        if HAS_LOCKS:
            # Closing alone would not do it: a child forked meanwhile has the same open file.
            fcntl.flock(self._file, fcntl.LOCK_UN)
        os.close(self._file)

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
        # write() rather than a store into a mapping: on a full disk or tmpfs it fails, where the store would kill.
        view = memoryview(data)
        try:
            while view:
                os.lseek(self._file, offset, os.SEEK_SET)
                written = os.write(self._file, view)
                view, offset = view[written:], offset + written
        except OSError as error:
            raise OssError(
                f"the table of objects can't be written: {error.strerror}; "
                "name a folder with more room by indexDir in the config"
            ) from error


@contextlib.contextmanager
def locked(file: int) -> Iterator[None]:
    """Keep other processes from writing, if they ask in the same way."""
    if HAS_LOCKS:
        fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if HAS_LOCKS:
            fcntl.flock(file, fcntl.LOCK_UN)


def open_own(path: Path) -> int:
    """Return a descriptor of a shared file, created if need be, once it is certain that it is ours alone."""
    flags = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    try:
        try:
            file = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
            remove_abandoned(path.parent, time.time())
        except FileExistsError:
            file = os.open(path, flags)
    except OSError as error:
        raise OssConfigError(_advice(path, "opened", error)) from error
    status = os.fstat(file)
    foreign = hasattr(os, "getuid") and (status.st_uid != os.geteuid() or status.st_mode & 0o077)
    if foreign or not stat.S_ISREG(status.st_mode):
        os.close(file)
        raise OssConfigError(f"the table of objects is not this user's alone: {path}")
    return file


def write_own(path: Path, data: bytes | memoryview) -> None:
    """Write a shared file, whole or not at all."""
    beside = path.with_name(f"{path.name}-{secrets.token_hex(4)}")
    file = open_own(beside)
    try:
        with open(file, "wb") as opened:
            opened.write(data)
        beside.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise OssError(_advice(path, "written", error)) from error


def _check_magic(head: memoryview) -> None:
    if head[: len(MAGIC)] != MAGIC:
        raise OssError("the table of objects is damaged, or of another version of this library")


def _advice(path: Path, what: str, error: OSError) -> str:
    return f"the table of objects can't be {what}: {path}: {error.strerror}; name a folder by indexDir in the config"


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


@functools.cache
def this_machine() -> str:
    """Return what tells this machine, since it was last started, from others that may see the same folder."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return platform.node()


def process_space(machine: str = "") -> int:
    """Return what tells process ids of this container on `machine` (this one if empty) from those of others."""
    try:
        container = Path("/proc/self/ns/pid").stat().st_ino  # where there is none, the same number on all machines
    except OSError:
        container = 0
    return zlib.crc32(f"{machine or this_machine()} {container}".encode())


def _start_time(pid: int) -> int:
    """Return when the process started, in the kernel's ticks; 0 where that can't be known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
        return int(fields.split()[19])
    except (OSError, IndexError, ValueError):
        return 0
