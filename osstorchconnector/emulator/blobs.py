"""Bytes on disk: blobs are files that are written once, shared by reference count, and unlinked when unused.

A blob is part of an object only once a line of a journal names it (`storage`). So a server that is killed while it
writes leaves no half object behind, only a file that the next start deletes.
"""

from __future__ import annotations

import mmap
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

WINDOW_BYTES = 4 * 1024 * 1024
MAX_MAPPED_BYTES = 4 * 1024 * 1024 * 1024
_OPEN = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# To map pages one by one, at first use, would cost more than to send them.
_POPULATE = getattr(mmap, "MAP_POPULATE", 0)
MAX_OPEN_FILES = 8192
MAX_SMALL_BYTES = 64 * 1024 * 1024
_OPEN_TO_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


class Blob:
    """One file; the server chooses `name`, never a client."""

    __slots__ = ("name", "references")

    def __init__(self, name: str) -> None:
        self.name = name
        self.references = 0


class BlobSpan(NamedTuple):
    """Bytes `start` to `stop` of a blob."""

    blob: Blob
    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start


Content = tuple[BlobSpan, ...]


def size_of(content: Content) -> int:
    """Return the number of bytes."""
    if len(content) == 1:
        return content[0].stop - content[0].start
    return sum(piece.stop - piece.start for piece in content)


def cut(content: Content, start: int, stop: int) -> Content:
    """Return bytes `start` to `stop` of `content`."""
    pieces = []
    position = 0
    for piece in content:
        first, last = max(start - position, 0), min(stop - position, piece.size)
        if first < last:
            pieces.append(BlobSpan(piece.blob, piece.start + first, piece.start + last))
        position += piece.size
        if position >= stop:
            break
    return tuple(pieces)


class BlobWriter:
    """A blob that is being written; `finish()` or `discard()` ends it."""

    __slots__ = ("_blobs", "_descriptor", "_name", "size")

    def __init__(self, blobs: BlobFolder, name: str, descriptor: int) -> None:
        self._blobs, self._name, self._descriptor = blobs, name, descriptor
        self.size = 0

    def write(self, data: memoryview) -> None:
        while data:
            written = os.write(self._descriptor, data)
            self.size += written
            data = data[written:]

    def finish(self) -> Content:
        """Return the written content; empty content has no file."""
        os.close(self._descriptor)
        if self.size:
            return (BlobSpan(Blob(self._name), 0, self.size),)
        self._blobs.path(self._name).unlink()
        return ()

    def discard(self) -> None:
        os.close(self._descriptor)
        self._blobs.path(self._name).unlink()


class BlobFolder:
    """A folder of blobs, with a cache of windows and one of small contents."""

    def __init__(
        self, folder: Path, *, max_open_files: int | None = None, max_small_bytes: int = MAX_SMALL_BYTES
    ) -> None:
        self._folder = folder
        self._small: OrderedDict[Content, bytes] = OrderedDict()
        self._small_bytes, self._max_small_bytes = 0, max_small_bytes
        self._windows = Windows(self.path, max_windows=max_open_files or _open_files_allowed())
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, name: str) -> Path:
        return self._folder / name[:2] / name

    def create(self) -> BlobWriter:
        name = os.urandom(12).hex()
        path = self.path(name)
        try:
            descriptor = os.open(path, _OPEN_TO_WRITE, 0o600)
        except FileNotFoundError:
            path.parent.mkdir(exist_ok=True)
            descriptor = os.open(path, _OPEN_TO_WRITE, 0o600)
        return BlobWriter(self, name, descriptor)

    def store(self, data: bytes) -> Content:
        """Write `data` as one blob."""
        writer = self.create()
        writer.write(memoryview(data))
        return writer.finish()

    def view(self, piece: BlobSpan) -> memoryview:
        """Return the beginning of a span, up to the end of a window."""
        return self._windows.view(piece.blob.name, piece.start, piece.stop)

    def read_small(self, content: Content) -> bytes:
        """Return a small content, from the cache if it was read lately; blobs never change."""
        data = self._small.get(content)
        if data is None:
            data = self._small[content] = self.read(content)
            self._small_bytes += len(data)
            while self._small_bytes > self._max_small_bytes:
                self._small_bytes -= len(self._small.popitem(last=False)[1])
        return data

    def read(self, content: Iterable[BlobSpan]) -> bytes:
        """Return the bytes of `content`; meant for small ones."""
        return b"".join(self._views(content))

    def _views(self, content: Iterable[BlobSpan]) -> Iterator[memoryview]:
        for piece in content:
            while piece.size:
                view = self.view(piece)
                yield view
                piece = piece._replace(start=piece.start + len(view))

    def retain(self, content: Content) -> None:
        for piece in content:
            piece.blob.references += 1

    def release(self, content: Content) -> None:
        """Undo `retain`; unlink the blobs that have no references left."""
        for piece in content:
            blob = piece.blob
            blob.references -= 1
            if not blob.references:
                self._windows.forget(blob.name)
                self.path(blob.name).unlink(missing_ok=True)

    def sweep(self, wanted: set[str]) -> None:
        """Unlink every blob that is not `wanted`: a killed server had not finished them."""
        for path in self._folder.glob("*/*"):
            if path.name not in wanted:
                path.unlink()

    def close(self) -> None:
        self._windows.close()


class Windows:
    """Memory-mapped windows on files, which may be deleted but never change; `path_of` finds a file by name."""

    def __init__(
        self,
        path_of: Callable[[str], Path],
        *,
        max_windows: int,
        max_bytes: int = MAX_MAPPED_BYTES,
        window_bytes: int = WINDOW_BYTES,
    ) -> None:
        self._path_of = path_of
        self._max_windows, self._max_bytes, self._window_bytes = max_windows, max_bytes, window_bytes
        self._open: OrderedDict[tuple[str, int], mmap.mmap] = OrderedDict()
        self._numbers: dict[str, set[int]] = {}
        self._mapped_bytes = 0

    def view(self, name: str, start: int, stop: int) -> memoryview:
        """Return a file's bytes from `start` up to `stop` or the end of a window. `OSError` if the file is too short.

        The view stays valid after the window is closed.
        """
        number, offset = divmod(start, self._window_bytes)
        window = self._open.get((name, number))
        if window is None:
            window = self._map(name, number, stop)
        else:
            self._open.move_to_end((name, number))
        return memoryview(window)[offset : offset + stop - start]

    def forget(self, name: str) -> None:
        """Close the windows of a file that is deleted."""
        for number in list(self._numbers.get(name, ())):
            self._close(name, number)

    def close(self) -> None:
        for name in list(self._numbers):
            self.forget(name)

    def _map(self, name: str, number: int, stop: int) -> mmap.mmap:
        start = number * self._window_bytes
        descriptor = os.open(self._path_of(name), _OPEN)
        try:
            size = os.fstat(descriptor).st_size
            if size < stop:
                raise OSError(f"blob {name} is shorter than its record says")
            length = min(size - start, self._window_bytes)
            self._make_room(length)
            window = _mapped(descriptor, length, start)
        finally:
            os.close(descriptor)
        self._open[name, number] = window
        self._numbers.setdefault(name, set()).add(number)
        self._mapped_bytes += length
        return window

    def _make_room(self, length: int) -> None:
        while self._open and (len(self._open) >= self._max_windows or self._mapped_bytes + length > self._max_bytes):
            self._close(*next(iter(self._open)))

    def _close(self, name: str, number: int) -> None:
        # The mapping stays until its last view is gone: one may still be in use for sending.
        self._mapped_bytes -= len(self._open.pop((name, number)))
        self._numbers[name].discard(number)
        if not self._numbers[name]:
            del self._numbers[name]


def _mapped(descriptor: int, length: int, start: int) -> mmap.mmap:
    if _POPULATE:
        return mmap.mmap(descriptor, length, mmap.MAP_SHARED | _POPULATE, mmap.PROT_READ, offset=start)
    return mmap.mmap(descriptor, length, access=mmap.ACCESS_READ, offset=start)


def _open_files_allowed() -> int:
    """Return how many files may stay open: a quarter of the process's limit; the rest is for connections."""
    if sys.platform == "win32":  # pragma: no cover - no such limit there
        return 512
    import resource

    return max(min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4, MAX_OPEN_FILES), 1)
