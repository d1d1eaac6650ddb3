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
from .span_reader import SpanReader


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
    """One object of a dataset: a binary file that is open for reading, with the object's name, size and label.

    - `uri` is `oss://bucket/key`, `key` is `/bucket/key`
    - `bucket` is the bucket's name, `name` is the key in the bucket, without a leading `/`
    - `size` is the object's size in bytes
    - `label` is the label from the manifest, `""` if there is none
    - `etag` is the object's ETag, `""` if it is not known

    All positions and sizes are in bytes. A small object is held in memory: reading it sends no request. A large object
    is read by an `OssReader`, which sends requests as bytes are needed and raises its errors (all are `OssError`s).

    A `DataObject` can be copied and pickled, also to another process. The copy of a pickle has the same position, and
    is closed if the original was. The pickle of a small object contains all its bytes. The pickle of a large object
    contains only the bytes of its first request; reading the copy fetches the rest. Pickling sends no request and
    never fails.

    A closed `DataObject` keeps its name, size and label. Reading it, or moving its position, raises `ValueError`.
    """

    __slots__ = ("_file", "etag", "label", "size")

    mode = "rb"
    _when_closed = _ClosedFile  # bound here: a finaliser may close it when the globals of modules are gone

    def __init__(self, uri: OssUri, body: bytes | OssReader | SpanReader, *, label: Any = "", etag: str = "") -> None:
        """Make a `DataObject` from all bytes of the object, or from a reader at its beginning."""
        self._uri = uri  # what the base class does, without the call: there are many small objects
        self.label = label
        self.etag = etag
        self._file: io.BytesIO | OssReader | SpanReader | _ClosedFile
        if isinstance(body, bytes):
            self.size = len(body)
            self._file = io.BytesIO(body)  # copies nothing: it shares the bytes, and `read()` returns them
        else:
            self.size = body.size
            self._file = body

    def __repr__(self) -> str:
        label = "" if isinstance(self.label, str) and not self.label else f", label {self.label!r:.80}"
        return f"<DataObject {str(self._uri)!r}, {self.size} bytes{label}{', closed' if self.closed else ''}>"

    def copy(self) -> DataObject:
        """Return another `DataObject` with the same bytes, at its beginning. Closing one does not close the other.

        Raises `ValueError` if this one is closed.
        """
        file = self._file
        body = file.getvalue() if isinstance(file, io.BytesIO) else file.copy()
        return DataObject(self._uri, body, label=self.label, etag=self.etag)

    def __reduce__(self) -> tuple[Callable[..., DataObject], tuple[Any, ...]]:
        # A multiprocessing queue pickles in a thread of its own. An error there is only printed, and the item is lost.
        file = self._file
        if isinstance(file, OssReader | SpanReader):
            return _with_reader, (self._uri, *file.__reduce__(), self.size, self.label, self.etag)
        try:
            return _with_bytes, (self._uri, file.getvalue(), file.tell(), self.label, self.etag)
        except ValueError:  # closed, perhaps by another thread just now
            return _closed, (self._uri, self.size, self.label, self.etag)

    # what a file can do

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes from the position on, or all that are left if `size` is None or negative.

        Returns fewer than `size` bytes only at the end of the object, and `b""` there. Raises `ValueError` if closed,
        and for a large object the errors of `OssReader`.
        """
        return self._file.read(size)

    def read1(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes, without waiting for more than one request; `b""` only at the end.

        If `size` is None or negative, returns the bytes that are available. Raises the errors of `read`.
        """
        return self._file.read1(size)

    def peek(self, size: int = 0, /) -> bytes:
        """Return bytes from the position on without moving it: at least one, except at the end of the object.

        May return more or fewer bytes than `size`. Raises the errors of `read`.
        """
        file = self._file
        if not isinstance(file, io.BytesIO):
            return file.peek(size)
        wanted, start = max(operator.index(size), io.DEFAULT_BUFFER_SIZE), file.tell()
        data = file.read(wanted)
        file.seek(start)
        return data

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer`, any writable buffer, from the position on, and return the number of bytes read.

        Reads fewer bytes than `buffer` has only at the end of the object. Raises `TypeError` if `buffer` can't be
        written to, and the errors of `read`.
        """
        return self._file.readinto(buffer)

    def readinto1(self, buffer: Any, /) -> int:
        """Read bytes into `buffer` without waiting for more than one request, and return their number.

        Returns 0 only at the end or for an empty buffer. Raises the errors of `readinto`.
        """
        return self._file.readinto1(buffer)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the bytes up to and including the next `b"\\n"`, at most `size` if it is not None or negative.

        Returns `b""` at the end of the object. Raises the errors of `read`.
        """
        return self._file.readline(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position to `offset` bytes from the beginning (`whence` 0), the position (1) or the end (2).

        Returns the new position, which may be past the end. Raises `ValueError` if closed, for another `whence`, and
        for a position before the beginning (this error is an `OSError`, too).
        """
        file, offset = self._file, operator.index(offset)
        if offset < 0 and isinstance(file, io.BytesIO):  # a BytesIO would stop at the beginning
            origins = {os.SEEK_SET: 0, os.SEEK_CUR: file.tell(), os.SEEK_END: self.size}
            origin = origins.get(operator.index(whence))
            if origin is not None and origin + offset < 0:
                raise InvalidSeekError(errno.EINVAL, f"seek to {origin + offset}, before the beginning")
        return file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position in bytes; `ValueError` if closed."""
        return self._file.tell()

    def readable(self) -> bool:
        """Return True; `ValueError` if closed."""
        return self._file.readable()

    def seekable(self) -> bool:
        """Return True; `ValueError` if closed."""
        return self._file.seekable()

    def flush(self) -> None:
        """Do nothing: there is nothing to write; `ValueError` if closed."""
        self._file.flush()

    @property
    def closed(self) -> bool:
        """True if `close` was called."""
        return self._file.closed

    def close(self) -> None:
        """Close the file and release its bytes. Closing it again does nothing.

        Of a large object this may complete the check of its CRC-64, as `OssReader.close` does, and then raises
        `OssIntegrityError` if the bytes are wrong.
        """
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
    make: Callable[..., OssReader | SpanReader],
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
