"""One object of a dataset, as a transform gets it: a binary file that knows its name, size and label."""

from __future__ import annotations

import errno
import io
import operator
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

from ..uri import OssUri
from .named_file import InvalidSeekError, NamedFile
from .reader import OssReader


class _ClosedFile:
    """The file of a closed `DataObject`: every operation raises a `ValueError` that names the object."""

    __slots__ = ("_uri",)

    closed = True

    def __init__(self, uri: OssUri) -> None:
        self._uri = uri

    def _refuse(self, *_: Any) -> NoReturn:
        raise ValueError(f"I/O operation on closed file: {self._uri}")

    read = read1 = peek = readinto = readinto1 = readline = seek = tell = readable = seekable = flush = _refuse
    copy = getvalue = _refuse

    def close(self) -> None:
        """Do nothing: it is closed."""

    def __exit__(self, *_: object) -> None:
        """Do nothing: it is closed."""


class DataObject(NamedFile):
    """A binary file open for reading that holds an object of a dataset, and knows what it is.

    - `key` is `/bucket/key`, `uri` is `oss://bucket/key`, `bucket` and `name` are the two parts
    - `size` is in bytes
    - `label` is the manifest's, empty if there is none; `etag` is the object's ETag, empty if unknown

    A small object is held in memory, so reading it sends nothing. One that is too large for that is read by an
    `OssReader` as it is needed, and raises its errors.

    It can be copied and pickled, also to another process, and arrives as it was: open at its position, or closed. The
    bytes of a small object are pickled too; of a large one only those of its first request, and whoever reads the
    copy fetches the rest. Pickling sends nothing and never fails.

    Closed, it keeps name, size and label; reading it raises `ValueError`.
    """

    __slots__ = ("_file", "etag", "label", "size")

    mode = "rb"
    _when_closed = _ClosedFile  # bound here: a finaliser may close it when the globals of modules are gone

    def __init__(self, uri: OssUri, body: bytes | OssReader, *, label: Any = "", etag: str = "") -> None:
        """Make one of the whole object's bytes, or of a reader at its beginning."""
        super().__init__(uri)
        self.label = label
        self.etag = etag
        self._file: io.BytesIO | OssReader | _ClosedFile
        if isinstance(body, bytes):
            self.size = len(body)
            self._file = io.BytesIO(body)  # copies nothing: it shares the bytes, and `read()` returns them
        else:
            self.size = body.size
            self._file = body

    def __repr__(self) -> str:
        return f"<DataObject {str(self._uri)!r}, {self.size} bytes{', closed' if self.closed else ''}>"

    def copy(self) -> DataObject:
        """Return another `DataObject` over the same bytes, at its beginning. Each is closed on its own."""
        file = self._file
        body = file.getvalue() if isinstance(file, io.BytesIO) else file.copy()
        return DataObject(self._uri, body, label=self.label, etag=self.etag)

    def __reduce__(self) -> tuple[Callable[..., DataObject], tuple[Any, ...]]:
        # A multiprocessing queue pickles in a thread of its own. An error there is only printed, and the item is lost.
        file = self._file
        if isinstance(file, OssReader):
            return _with_reader, (self._uri, *file.__reduce__(), self.size, self.label, self.etag)
        try:
            return _with_bytes, (self._uri, file.getvalue(), file.tell(), self.label, self.etag)
        except ValueError:  # closed, perhaps by another thread just now
            return _closed, (self._uri, self.size, self.label, self.etag)

    # what a file can do

    def read(self, size: int | None = -1, /) -> bytes:
        return self._file.read(size)

    def read1(self, size: int | None = -1, /) -> bytes:
        return self._file.read1(size)

    def peek(self, size: int = 0, /) -> bytes:
        """Return the bytes that come next without moving, at least one unless at the end."""
        file = self._file
        if not isinstance(file, io.BytesIO):
            return file.peek(size)
        wanted, start = max(operator.index(size), io.DEFAULT_BUFFER_SIZE), file.tell()
        data = file.read(wanted)
        file.seek(start)
        return data

    def readinto(self, buffer: Any, /) -> int:
        return self._file.readinto(buffer)

    def readinto1(self, buffer: Any, /) -> int:
        return self._file.readinto1(buffer)

    def readline(self, size: int | None = -1, /) -> bytes:
        return self._file.readline(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        file, offset = self._file, operator.index(offset)
        if offset < 0 and isinstance(file, io.BytesIO):  # a BytesIO would stop at the beginning
            origins = {os.SEEK_SET: 0, os.SEEK_CUR: file.tell(), os.SEEK_END: self.size}
            origin = origins.get(operator.index(whence))
            if origin is not None and origin + offset < 0:
                raise InvalidSeekError(errno.EINVAL, f"seek to {origin + offset}, before the beginning")
        return file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return self._file.readable()

    def seekable(self) -> bool:
        return self._file.seekable()

    def flush(self) -> None:
        self._file.flush()

    @property
    def closed(self) -> bool:
        return self._file.closed

    def close(self) -> None:
        self._file.close()
        self._file = self._when_closed(self._uri)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, traceback)
        self._file = self._when_closed(self._uri)

    def __del__(self) -> None:
        """Do nothing: `io.IOBase` would close, but the file below closes itself and knows what a finaliser may do."""


def _with_bytes(uri: OssUri, data: bytes, position: int, label: Any, etag: str) -> DataObject:
    data_object = DataObject(uri, data, label=label, etag=etag)
    data_object.seek(position)
    return data_object


def _with_reader(
    uri: OssUri,
    make: Callable[..., OssReader],
    arguments: tuple[Any, ...],
    size: int,
    label: Any,
    etag: str,
) -> DataObject:
    reader = make(*arguments)
    return _closed(uri, size, label, etag) if reader.closed else DataObject(uri, reader, label=label, etag=etag)


def _closed(uri: OssUri, size: int, label: Any, etag: str) -> DataObject:
    data_object = DataObject(uri, b"", label=label, etag=etag)
    data_object.size = size
    data_object.close()
    return data_object
