"""The files that `OssFileSystem.open` returns: ours, with what users of fsspec expect of a file besides."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from fsspec.core import OpenFile
from fsspec.spec import AbstractBufferedFile

from ..files.publishing import PublishingFile
from ..files.reader import OssReader
from ..files.writer import OssWriter
from ..protocol.attributes import attributes
from .paths import Entry, object_uri_of

if TYPE_CHECKING:
    from .access import OssAccess

LINE_BYTES = 1 << 16


class OssReadFile(OssReader):
    """An object that is open for reading: an `OssReader` that also knows its file system and path.

    It reads ahead as its reads suggest, and brings large reads in parallel. `size`, in bytes, is the one that was
    given to `open`, else the first request tells it.
    """

    def __init__(self, fs: OssAccess, path: str, *, block_size: int | None = None, size: int | None = None) -> None:
        super().__init__(fs.client, object_uri_of(path), transfer=fs.client.config.checkpoint)
        self.fs, self.path, self.blocksize = fs, path, block_size or fs.blocksize
        self._stated_size = size

    @property
    def size(self) -> int:
        """The object's size in bytes."""
        return super().size if self._stated_size is None else self._stated_size

    @property
    def loc(self) -> int:
        """The position, as `tell` returns it."""
        return self.tell()

    @property
    def full_name(self) -> str:
        """The object as `oss://bucket/key`."""
        return self.uri

    @property
    def details(self) -> Entry:
        """What `fs.info` says of the object."""
        return self.info()

    def info(self) -> Entry:
        """Return what `fs.info` says of the object."""
        found: Entry = self.fs.info(self.path)
        return found

    def readuntil(self, char: bytes = b"\n", blocks: int | None = None) -> bytes:
        """Return the bytes up to and including `char`, or all that are left if it does not come."""
        found = bytearray()
        while piece := self.read(blocks or LINE_BYTES):
            before = max(len(found) - len(char) + 1, 0)
            found += piece
            end = found.find(char, before)
            if end >= 0:
                self.seek(end + len(char) - len(found), io.SEEK_CUR)
                return bytes(found[: end + len(char)])
        return bytes(found)

    def __reduce__(self) -> tuple[Callable[..., OssReadFile], tuple[Any, ...]]:
        position = None if self.closed else self.tell()
        return _reopened, (self.fs, self.path, self.blocksize, self._stated_size, position)


def _reopened(fs: OssAccess, path: str, block_size: int, size: int | None, position: int | None) -> OssReadFile:
    file = OssReadFile(fs, path, block_size=block_size, size=size)
    if position is None:
        file.close()
    else:
        file.seek(position)
    return file


class OssCachedFile(AbstractBufferedFile):
    """An object that is open for reading through one of fsspec's caches, in blocks of the size that was asked for."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        data: bytes = self.fs.cat_file(self.path, start, end)
        return data


class Published(PublishingFile):
    """What files for writing have in common here: paths, transactions, and caches that forget what is replaced.

    Without `autocommit`, `close` keeps the object back until `commit`; `discard` drops it.
    """

    fs: OssAccess
    path: str
    autocommit = True
    _is_kept_back = False

    @property
    def closed(self) -> bool:
        """True after `close` or `discard`."""
        return self._is_kept_back or super().closed

    def flush(self, force: bool = False) -> None:
        """Do nothing: `close` stores the object, all at once. Raises `ValueError` if closed."""
        super().flush()

    def close(self) -> None:
        """Store the object, unless a transaction does that later, or the `with` block of `fsspec.open` fails."""
        if self.closed:
            return
        if _is_left_by_error():
            self.discard()
        elif self.autocommit:
            super().close()
            self.fs.invalidate_cache(self.path)
        else:
            self._check_usable()
            self._is_kept_back = True

    def commit(self) -> None:
        """Store the object, after `close`; a file that was discarded stays so."""
        if self._is_kept_back:
            self._is_kept_back, self.autocommit = False, True
            self.close()

    def discard(self) -> None:
        """Store nothing. An object that exists already stays as it was."""
        self._is_kept_back = False
        super().discard()


class OssWriteFile(Published, OssWriter):
    """An object that is open for writing: an `OssWriter` that also knows its file system and path."""

    def __init__(
        self,
        fs: OssAccess,
        path: str,
        *,
        mode: str,
        autocommit: bool = True,
        block_size: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            fs.client,
            object_uri_of(path),
            transfer=fs.client.config.checkpoint,
            forbid_overwrite=mode == "xb",
            attributes=attributes(metadata=metadata),
        )
        self.fs, self.path, self.mode, self.autocommit = fs, path, mode, autocommit
        self.blocksize = block_size or fs.blocksize

    @property
    def loc(self) -> int:
        """The position, as `tell` returns it."""
        return self.tell()


def _is_left_by_error() -> bool:
    """Say whether the file is being closed because the block of a `with fsspec.open(...)` raised.

    `OpenFile` closes its files all the same, and does not tell them why.
    """
    frame: FrameType | None = sys._getframe()
    for _ in range(6):
        if frame is None:  # called by a thread that is not Python's
            break
        if frame.f_code is OpenFile.__exit__.__code__:
            return any(argument is not None for argument in frame.f_locals.get("args", ()))
        frame = frame.f_back
    return False


# --- what `open` puts around a file for writing, so that an error in the `with` block stores nothing


class TextWriter(io.TextIOWrapper):
    """Text on a file for writing."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()

    def __del__(self) -> None:
        if not self.closed:
            self._discard()

    def _discard(self) -> None:
        self.buffer.discard()  # type: ignore[attr-defined]


class Outlet:
    """What a compressor writes to: a file, or nothing at all once it is shut.

    Compressors write their last bytes when they are closed, and complain when they are destroyed unclosed. So one whose
    file is discarded is closed after its outlet is shut.
    """

    def __init__(self, file: Published) -> None:
        self.file = file
        self._is_shut = False
        self._position = file.tell()

    def write(self, data: Any, /) -> int:
        """Write bytes to the file, unless this is shut."""
        size = memoryview(data).nbytes
        if not self._is_shut:
            self.file.write(data)
        self._position += size
        return size

    def tell(self) -> int:
        """Return the position in the file, as if it were never shut."""
        return self._position

    def flush(self) -> None:
        """Do nothing: the file is stored all at once."""

    def close(self) -> None:
        """Do nothing: `CompressedWriter` closes the file."""

    def shut(self) -> None:
        """From now on, let nothing through."""
        self._is_shut = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class CompressedWriter(io.BufferedIOBase):
    """A compressor on a file for writing. Closing it closes both, in order."""

    def __init__(self, compressor: Any, outlet: Outlet) -> None:
        self._compressor, self._outlet, self._file = compressor, outlet, outlet.file

    @property
    def closed(self) -> bool:
        """True after `close` or `discard`."""
        return self._file.closed

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        """Compress bytes and write them."""
        return int(self._compressor.write(data))

    def close(self) -> None:
        """End the compressed data, and store the object."""
        if not self.closed:
            self._compressor.close()
            self._file.close()

    def discard(self) -> None:
        """Store nothing."""
        self._outlet.shut()
        try:
            self._compressor.close()
        finally:
            self._file.discard()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        """Store nothing: it was never closed."""
        if not self.closed:
            self.discard()
