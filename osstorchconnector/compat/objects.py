"""The `DataObject`s that the methods of 1.2.3's client return."""

from __future__ import annotations

import io
from collections.abc import Callable
from types import TracebackType
from typing import Any, NoReturn

from ..errors import OssError, OssUsageError
from ..files.data_object import DataObject
from ..files.reader import OssReader
from ..files.writer import OssWriter
from ..uri import OssUri, parse_object_uri


class OpenedObject(DataObject):
    """An object that is open for reading. The first request is sent when it is read, or when its size is needed."""

    __slots__ = ()

    def __init__(self, uri: OssUri, reader: OssReader, *, label: Any = "", etag: str = "") -> None:
        self._uri, self._file, self.label, self.etag = uri, reader, label, etag

    @property
    def size(self) -> int:  # type: ignore[override]
        """The object's size in bytes. Sends the first request if none was sent, and raises its errors."""
        return self._reader().size

    def __repr__(self) -> str:
        return f"<DataObject {str(self._uri)!r}{', closed' if self.closed else ''}>"

    def copy(self) -> DataObject:
        """Return another `DataObject` of the same object, at its beginning. Closing one does not close the other."""
        return OpenedObject(self._uri, self._reader().copy(), label=self.label, etag=self.etag)

    def __reduce__(self) -> tuple[Callable[..., DataObject], tuple[Any, ...]]:
        return _opened, (self._uri, self._file if isinstance(self._file, OssReader) else None, self.label, self.etag)

    def _reader(self) -> OssReader:
        if isinstance(self._file, OssReader):
            return self._file
        raise ValueError(f"I/O operation on closed file: {self._uri.shown}")


def _opened(uri: OssUri, reader: OssReader | None, label: Any, etag: str) -> DataObject:
    if reader is not None:
        return OpenedObject(uri, reader, label=label, etag=etag)
    closed = DataObject(uri, b"", label=label, etag=etag)
    closed.close()
    return closed


class WrittenObject(DataObject):
    """An object that is open for writing. `close` stores it; an exception in the `with` block stores nothing.

    It is an `OssWriter` with the names of a `DataObject`: `size` is the number of bytes written so far.
    """

    __slots__ = ("_writer",)

    mode = "wb"

    def __init__(self, writer: OssWriter, uri: OssUri) -> None:
        self._uri, self.label, self.etag, self._writer = uri, "", "", writer
        self._file = writer  # type: ignore[assignment]  # it refuses to be read

    def __repr__(self) -> str:
        return f"<DataObject {str(self._uri)!r}, written{', closed' if self.closed else ''}>"

    @property
    def size(self) -> int:  # type: ignore[override]
        """The number of bytes written so far."""
        return self._writer.size

    def write(self, data: Any, /) -> int:
        """Write all bytes of `data`, any contiguous buffer, and return their number. Raises as `OssWriter.write`."""
        return self._writer.write(data)

    def writable(self) -> bool:
        """Return True; `ValueError` if closed."""
        return self._writer.writable()

    def discard(self) -> None:
        """Close the object and store nothing. An object that exists already stays as it was."""
        self._writer.discard()

    def close(self) -> None:
        """Store the object. Raises `OssError`, and stores nothing, if it can't be stored or a write failed."""
        self._writer.close()

    @property
    def closed(self) -> bool:
        """True after `close` or `discard`."""
        return self._writer.closed

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, traceback)

    def peek(self, size: int = 0, /) -> bytes:
        """Always raises `io.UnsupportedOperation`: the object is written."""
        return self._writer.read(size)

    def copy(self) -> NoReturn:
        """Always raises `io.UnsupportedOperation`: the object is written."""
        raise io.UnsupportedOperation(f"copy: {self._uri.shown} is open for writing")

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self._writer.__reduce_ex__(protocol)


class _Refusing:
    """The file of an object that has no bytes: whatever reads it raises the error."""

    closed = False

    def __init__(self, error: OssError) -> None:
        self._error = error

    def _refuse(self, *_: Any) -> NoReturn:
        raise self._error

    read = read1 = peek = readinto = readinto1 = readline = seek = tell = copy = _refuse

    def readable(self) -> bool:
        return True

    seekable = readable

    def flush(self) -> None:
        """Do nothing: there is nothing to write."""

    def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def __exit__(self, *_: object) -> None:
        """Do nothing: there is nothing to close."""


class UnreadObject(DataObject):
    """An object without bytes: one that is only named (`new_data_object`), or one that could not be read.

    `err()` and `error_msg()` tell which; reading it raises the error.
    """

    __slots__ = ("_error", "_is_failure")

    def __init__(
        self, uri: OssUri, error: OssError, *, size: int = 0, label: Any = "", is_failure: bool = True
    ) -> None:
        self._uri, self.label, self.etag, self.size = uri, label, "", size
        self._error, self._is_failure = error, is_failure
        self._file = _Refusing(error)  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<DataObject {str(self._uri)!r}, {self._error if self._is_failure else 'not opened'}>"

    def err(self) -> int:
        """Return the `errno` of the error that was met, `EIO` (5) where it has none; 0 for an object that is named."""
        return (getattr(self._error, "errno", None) or 5) if self._is_failure else 0

    def error_msg(self) -> str:
        """Return the text of that error."""
        return str(self._error) if self._is_failure else ""

    def copy(self) -> DataObject:
        """Return another such object."""
        make, arguments = self.__reduce__()
        return make(*arguments)

    def __reduce__(self) -> tuple[Callable[..., DataObject], tuple[Any, ...]]:
        return _unread, (self._uri, self._error, self.size, self.label, self._is_failure)


def _unread(uri: OssUri, error: OssError, size: int, label: Any, is_failure: bool) -> DataObject:
    return UnreadObject(uri, error, size=size, label=label, is_failure=is_failure)


def new_data_object(key: str, size: int, label: Any) -> DataObject:
    """Return a `DataObject` that only names an object, for `OssClient.list_objects_from_uris`.

    `key` is `oss://bucket/key` or `/bucket/key`; `OssUriError` for any other. `size` in bytes, 0 if it is not known,
    saves nothing and may be wrong: objects have the size that OSS says.
    """
    uri = parse_object_uri(key)
    error = OssUsageError(f"{uri.shown} is only named: list_objects_from_uris opens it")
    return UnreadObject(uri, error, size=size, label=label, is_failure=False)
