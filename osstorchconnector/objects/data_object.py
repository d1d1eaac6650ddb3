"""One object of a dataset, as a transform gets it: a binary file that knows its name, size and label."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ..uri import OssUri
from .named import NamedFile
from .reader import InvalidSeekError, OssReader


class DataObject(NamedFile):
    """An object's bytes as a file open for reading; `key` is `/bucket/key`, `uri` is `oss://bucket/key`.

    `body` is the whole object, or a reader for one that is too large to be held. It pickles with its bytes, so it
    can cross processes; closed, it keeps name, size and label, and reading it raises `ValueError`.
    """

    __slots__ = ("_file", "etag", "label", "size")

    mode = "rb"

    def __init__(self, uri: OssUri, body: bytes | OssReader, *, label: Any = "", etag: str = "") -> None:
        super().__init__(uri)
        self.label = label
        self.etag = etag
        self._file: io.BytesIO | OssReader
        if isinstance(body, bytes):
            self.size = len(body)
            self._file = io.BytesIO(body)  # shares the bytes, and gives out the very same when all are read at once
        else:
            self.size = body.size
            self._file = body

    def __repr__(self) -> str:
        return f"<DataObject {str(self._uri)!r}, {self.size} bytes{', closed' if self.closed else ''}>"

    def copy(self) -> DataObject:
        """Return another one over the same bytes, at its beginning; each is closed on its own."""
        file = self._file
        body = file.getvalue() if isinstance(file, io.BytesIO) else file.copy()
        return DataObject(self._uri, body, label=self.label, etag=self.etag)

    def __reduce__(self) -> tuple[Callable[..., DataObject], tuple[Any, ...]]:
        file = self._file
        if isinstance(file, io.BytesIO):
            body = file.getvalue()
        else:
            with file.copy() as whole:
                body = whole.read()
        return _restored, (self._uri, body, self.label, self.etag, file.tell())

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
        start = file.tell()
        data = file.read(max(size, io.DEFAULT_BUFFER_SIZE))
        file.seek(start)
        return data

    def readinto(self, buffer: Any, /) -> int:
        return self._file.readinto(buffer)

    def readinto1(self, buffer: Any, /) -> int:
        return self._file.readinto1(buffer)

    def readline(self, size: int | None = -1, /) -> bytes:
        return self._file.readline(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        file = self._file
        if offset < 0 and isinstance(file, io.BytesIO):  # which would stop at the beginning
            origin = {os.SEEK_SET: 0, os.SEEK_CUR: file.tell(), os.SEEK_END: self.size}.get(whence)
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.__exit__(kind, error, traceback)

    def __del__(self) -> None:
        """Leave closing to the file below, which knows what a finaliser may do."""


def _restored(uri: OssUri, body: bytes, label: Any, etag: str, position: int) -> DataObject:
    data_object = DataObject(uri, body, label=label, etag=etag)
    data_object.seek(position)
    return data_object
