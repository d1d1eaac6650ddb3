"""Files that processes share: where they are, which user may open them, and how long they live.

A file lives as long as any process has it open. Each process that uses it holds a shared lock on it (`LIFE`), and
forked children hold that lock through the same open file. So it does not matter which process made the file: a process
that lets go tries to get the lock for itself, and if it does, no other process holds the file and it is removed. Killed
processes leave files that no process holds; the next process that makes a file removes those.

The locks are those of open files (`F_OFD_SETLK`): they hold across containers of one machine, and across machines as
far as the file system has locks. Where there are none (not on Linux), each process has a table of its own.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing.util
import os
import platform
import re
import secrets
import stat
import struct
import sys
import tempfile
import time
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path

from ..errors import OssConfigError, OssError

with contextlib.suppress(ImportError):  # on Windows
    import fcntl

SHARED_MEMORY = "/dev/shm"
# With less free space than this, tables go elsewhere: containers have only 64 MiB of shared memory by default.
SHARED_MEMORY_FLOOR_BYTES = 1 << 30
# The locked bytes are far beyond the end of the file: on some file systems no process can read or write locked bytes.
LIFE, WRITING = 1 << 60, (1 << 60) + 1

_PREFIX = "osstorchconnector-index"
_NAME = re.compile(rf"{_PREFIX}-\d+-(?P<machine>[0-9a-f]{{8}})-[0-9a-f]{{16}}(-\d+)*")
# Locks of other machines may be invisible here (NFS without locks): their files are removed by age alone.
_ABANDONED_SECONDS = 30 * 24 * 3600.0
_SET_LOCK = 37  # F_OFD_SETLK on Linux; Python has it only where it was built with new headers
_LOCK = struct.Struct("@hhqqi0q")  # type, whence, start, length, process
_PATIENCE_SECONDS, _PAUSE_SECONDS = 10.0, 0.002
# After multiprocessing has joined this process's children, which may still use the files.
_EXIT_PRIORITY = -100
_FLAGS = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)


class HeldFile:
    """A shared file that this process keeps alive, together with all processes that are forked from it.

    The file is opened when its descriptor is first asked for, or before this process forks, and made with `content` in
    it if it is not there.
    """

    def __init__(self, path: Path, content: bytes | memoryview = b"") -> None:
        self.path, self._content = path, content
        self._opened: dict[str, int] = {}
        self._is_released = False
        weakref.finalize(
            self, _let_go, path, self._opened
        ).atexit = False  # atexit would be too early: children may still use the file
        _held[path] = self

    @property
    def file(self) -> int:
        """The descriptor. Threads and forked children share it with its offset, which nothing may move."""
        if _process.pid != os.getpid():
            _process.begin()
        file = self._opened.get("file")
        return self._open(create=True) if file is None else file

    @property
    def is_open(self) -> bool:
        """Whether this process, or one that it was forked from, has opened the file."""
        return "file" in self._opened

    def reopened(self) -> int:
        """Return a new descriptor of the same file, to lock, read and write; the caller closes it.

        `OssError` if the file has been removed by another program, and can't be opened any more.
        """
        file = self.file
        # The first opens the file even if its name is gone.
        for name in (f"/proc/self/fd/{file}", self.path):
            with contextlib.suppress(OSError):
                other = os.open(name, _FLAGS if name is self.path else _FLAGS & ~getattr(os, "O_NOFOLLOW", 0))
                if os.path.sameopenfile(file, other):
                    return other
                os.close(other)
        raise OssError(
            f"{self.path} has been removed while it was in use: name a folder that nobody clears by indexDir in the "
            "config"
        )

    def is_in_place(self) -> bool:
        """Whether other processes find the file under its name."""
        return _is_at(self.path, self.file)

    def release(self) -> None:
        """Let go of the file, and remove it if no other process holds it."""
        self._is_released = True
        _let_go(self.path, self._opened)

    def _open(self, create: bool) -> int:
        if self._is_released:
            raise OssError(f"{self.path} can't be opened any more: this process is ending")
        opened, is_new = _open_and_hold(self.path, create)
        try:
            if is_new and self._content:
                write_all(opened, self._content, 0, self.path)
        except OssError:
            _let_go(self.path, {"file": opened, "maker": os.getpid()})
            raise
        self._content = b""
        if is_new:
            self._opened["maker"] = os.getpid()
        file = self._opened.setdefault("file", opened)
        # Two threads may open it at once, without a lock: `setdefault` is atomic, and the second closes its own.
        if file != opened:
            os.close(opened)
        return file


_held: weakref.WeakValueDictionary[Path, HeldFile] = weakref.WeakValueDictionary()


def hold(path: Path) -> HeldFile:
    """Return this process's `HeldFile` of a path."""
    return _held.get(path) or HeldFile(path)


def hold_named(path: Path, machine: str) -> HeldFile | None:
    """Return a file that a process on `machine` has named; `None` if no process on this machine holds it any more."""
    if machine != this_machine():
        return None  # it may find the file (NFS), but a mapping there does not show how the file grows
    known = _held.get(path)
    if known is not None:
        return known
    found = HeldFile(path)
    try:
        if has_locks():
            _remove_unless_held(path)  # what a killed job left is not shared with a later one
        found._open(create=False)
    except (OssError, OSError):
        return None
    return found


def new_path(folder: str) -> Path:
    """Return a path for a new file that other users can't guess."""
    return Path(folder, f"{_PREFIX}-{_user()}-{_machine_digits()}-{secrets.token_hex(8)}")


def own_path(path: Path) -> Path:
    """Return where this process finds a table: where there are no locks, each process has one of its own."""
    return path if has_locks() else path.with_name(f"{path.name}-{os.getpid()}")


@functools.cache
def has_locks() -> bool:
    """Whether open files can be locked here: on Linux, unless it is an imitation without these locks."""
    if sys.platform != "linux":
        return False
    with contextlib.suppress(OSError), tempfile.TemporaryFile() as file:
        _set_lock(file.fileno(), LIFE, fcntl.F_RDLCK)
        return True
    return False


def choose_folder(configured: str, shared_memory: str = SHARED_MEMORY) -> str:
    """Return where new files go: the configured folder, shared memory with enough room, or the temporary folder."""
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
    """Remove the files that killed processes of this user have left in the folder, and none that a process holds.

    Files of another machine, or from before this machine was last started, stay for a month after their last use.
    """
    for path in folder.glob(f"{_PREFIX}-{_user()}-*"):
        named = _NAME.fullmatch(path.name)
        if named is None:
            continue
        with contextlib.suppress(OSError, OssError):
            age_seconds = now_seconds - path.stat().st_mtime
            if (has_locks() and named["machine"] == _machine_digits()) or age_seconds > _ABANDONED_SECONDS:
                _remove_unless_held(path)


def open_own(path: Path, *, create: bool) -> tuple[int, bool]:
    """Return a descriptor of a shared file, once it is certain that it is ours alone, and whether it is a new one."""
    try:
        file, is_new = _open_or_create(path, create)
    except OSError as error:
        raise OssConfigError(advice(path, "opened", error)) from error
    status = os.fstat(file)
    foreign = hasattr(os, "getuid") and (status.st_uid != os.geteuid() or status.st_mode & 0o077)
    if foreign or not stat.S_ISREG(status.st_mode):
        os.close(file)
        raise OssConfigError(f"the table of objects is not this user's alone: {path}")
    return file, is_new


def write_all(file: int, data: bytes | memoryview, offset: int, path: Path) -> None:
    """Write all of `data` at `offset` of a file that `reopened` or `open_own` gave."""
    # write() rather than a store into a mapping: on a full disk or tmpfs it fails, where the store would kill.
    view = memoryview(data)
    try:
        while view:
            os.lseek(file, offset, os.SEEK_SET)
            written = os.write(file, view)
            view, offset = view[written:], offset + written
    except OSError as error:
        raise OssError(
            f"the table of objects can't be written: {path}: {error.strerror}; "
            "name a folder with more room by indexDir in the config"
        ) from error


def try_lock(file: int, what: int, *, shared: bool = False) -> bool:
    """Take a lock on the open file; return whether it could be had. Where there are no locks, it always can."""
    if not has_locks():
        return True
    try:
        _set_lock(file, what, fcntl.F_RDLCK if shared else fcntl.F_WRLCK)
    except (BlockingIOError, PermissionError):  # EAGAIN or EACCES, depending on the system
        return False
    return True


def unlock(file: int, what: int) -> None:
    """Give up the lock, also for the children that have been forked with the open file."""
    if has_locks():
        _set_lock(file, what, fcntl.F_UNLCK)


@contextlib.contextmanager
def locked(file: int, what: int, path: Path) -> Iterator[None]:
    """Keep others from doing `what` to the file; `OssError` if they don't let go of it for ten seconds."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not try_lock(file, what):
        if time.monotonic() > deadline:
            raise OssError(f"{path} has been locked for {_PATIENCE_SECONDS:.0f} s by another process of this job")
        time.sleep(_PAUSE_SECONDS)
    try:
        yield
    finally:
        unlock(file, what)


@functools.cache
def this_machine() -> str:
    """Return an identity of this machine since its last start: other machines may see the same folder."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return platform.node()


def advice(path: Path, what: str, error: OSError) -> str:
    """Return the text of an error about a shared file."""
    return f"the table of objects can't be {what}: {path}: {error.strerror}; name a folder by indexDir in the config"


def _open_and_hold(path: Path, create: bool) -> tuple[int, bool]:
    """Open the file and lock its life; try again if another process removed it in between."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        file, is_new = open_own(path, create=create)
        try:
            if try_lock(file, LIFE, shared=True) and _is_at(path, file):
                break
        except OSError as error:
            os.close(file)
            raise OssConfigError(advice(path, "locked", error)) from error
        os.close(file)
        if time.monotonic() > deadline:
            raise OssConfigError(f"the table of objects can't be held: {path}: others keep removing it")
        time.sleep(_PAUSE_SECONDS)
    if is_new:
        remove_abandoned(path.parent, time.time())
    elif os.utime in os.supports_fd:
        with contextlib.suppress(OSError):
            os.utime(file)
    return file, is_new


def _open_or_create(path: Path, create: bool) -> tuple[int, bool]:
    while True:
        try:
            return os.open(path, _FLAGS), False
        except FileNotFoundError:
            if not create:
                raise
        with contextlib.suppress(FileExistsError):  # another process was faster
            return os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600), True


def _let_go(path: Path, opened: dict[str, int]) -> None:
    file = opened.pop("file", None)
    if file is None:
        return
    os.close(file)
    with contextlib.suppress(OSError, OssError):
        if has_locks() or opened.get("maker") == os.getpid():
            _remove_unless_held(path)


def _remove_unless_held(path: Path) -> None:
    if not has_locks():  # Windows removes no open file
        path.unlink()
        return
    file, _ = open_own(path, create=False)
    try:
        if try_lock(file, LIFE) and _is_at(path, file):
            path.unlink()
    finally:
        os.close(file)


def _is_at(path: Path, file: int) -> bool:
    """Whether this open file is the one that the path leads to."""
    try:
        return os.path.samestat(path.lstat(), os.fstat(file))
    except OSError:
        return False


def _set_lock(file: int, what: int, kind: int) -> None:
    fcntl.fcntl(file, _SET_LOCK, _LOCK.pack(kind, os.SEEK_SET, what, 1, 0))


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _machine_digits() -> str:
    return f"{zlib.crc32(this_machine().encode()):08x}"


class _Process:
    """Registers, once in each process, that it lets go of its files when it ends."""

    def __init__(self) -> None:
        self.pid = 0

    def begin(self) -> None:
        # A finalizer of multiprocessing also runs at the end of the processes that it started, where atexit does not.
        # A child loses those it inherited, so each process registers its own.
        self.pid = os.getpid()
        multiprocessing.util.Finalize(None, _release_all, exitpriority=_EXIT_PRIORITY)


_process = _Process()


def _release_all() -> None:
    for reference in _held.valuerefs():
        found = reference()
        if found is not None:
            found.release()


def _open_all() -> None:
    """Open the files that a child is about to inherit: so they live as long as the child does."""
    for reference in _held.valuerefs():
        found = reference()
        # If the folder is gone, the child that needs a file in it raises the error.
        with contextlib.suppress(OssError):
            if found is not None:
                found.file  # noqa: B018


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_open_all)
