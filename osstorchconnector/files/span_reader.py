"""A part of an object as a file: a member of a tar, too large to be fetched at once."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ..protocol.values import ByteSpan
from ..uri import OssUri
from .named_file import NamedFile, seek_target
from .reader import OssReader


class SpanReader(NamedFile):
    """The bytes of `span` of the object that `reader` reads, as a file of that size. It owns the reader.

    It reads as `OssReader` does, and raises the same errors. `uri` is what the file is named after.
    """

    mode = "rb"

    def __init__(self, reader: OssReader, uri: OssUri, span: ByteSpan) -> None:
        super().__init__(uri)
        self._reader, self._span, self._pos = reader, span, 0

    def __repr__(self) -> str:
        where = "closed" if self.closed else f"at byte {self._pos} of {self.size}"
        return f"<SpanReader {str(self._uri)!r}, {where}>"

    @property
    def size(self) -> int:
        """The number of bytes in the file."""
        return self._span.size

    @property
    def closed(self) -> bool:
        """True if `close` was called."""
        return self._reader.closed

    def copy(self) -> SpanReader:
        """Return a new reader of the same bytes, at their beginning."""
        self._check_open()
        return SpanReader(self._reader.copy(), self._uri, self._span)

    def readable(self) -> bool:
        """Return True; `ValueError` if closed."""
        return self._reader.readable()

    def seekable(self) -> bool:
        """Return True; `ValueError` if closed."""
        return self._reader.seekable()

    def tell(self) -> int:
        """Return the position in bytes; `ValueError` if closed."""
        self._check_open()
        return self._pos

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position, as `OssReader.seek` does, and return it; sends no request."""
        self._check_open()
        self._pos = seek_target(offset, whence, position=self._pos, size=lambda: self.size)
        return self._pos

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes from the position on, or all that are left if `size` is None or negative."""
        return self._moved(self._here().read(self._limit(size)))

    def read1(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes, without waiting for more than one request; `b""` only at the end."""
        return self._moved(self._here().read1(self._limit(size)))

    def peek(self, size: int = 0, /) -> bytes:
        """Return bytes from the position on without moving it: at least one, except at the end."""
        return self._here().peek(size)[: self._left] if self._left else b""

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the bytes up to and including the next `b"\\n"`, at most `size` if it is not None or negative."""
        return self._moved(self._here().readline(self._limit(size)))

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer`, any writable contiguous buffer, from the position on; return the number of bytes read."""
        return self._filled(buffer, self._here().readinto)

    def readinto1(self, buffer: Any, /) -> int:
        """Read as `read1` does, into `buffer`; return the number of bytes read."""
        return self._filled(buffer, self._here().readinto1)

    def close(self) -> None:
        """Close the file, and the reader below."""
        self._reader.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._reader.__exit__(kind, error, traceback)

    def __del__(self) -> None:
        """Do nothing: the reader below closes itself."""

    def __reduce__(self) -> tuple[Callable[..., SpanReader], tuple[Any, ...]]:
        make, arguments = self._reader.__reduce__()
        return _restored, (make, arguments, self._uri, self._span, self._pos)

    @property
    def _left(self) -> int:
        return max(self._span.size - self._pos, 0)

    def _here(self) -> OssReader:
        self._check_open()
        self._reader.seek(self._span.start + self._pos)
        return self._reader

    def _limit(self, size: int | None) -> int:
        wanted = -1 if size is None else operator.index(size)
        return self._left if wanted < 0 else min(wanted, self._left)

    def _moved(self, data: bytes) -> bytes:
        self._pos += len(data)
        return data

    def _filled(self, buffer: Any, read: Callable[[Any], int]) -> int:
        if memoryview(buffer).nbytes <= self._left:
            count = read(buffer)
        else:
            view = memoryview(buffer)
            if not view.c_contiguous:
                raise TypeError("readinto() argument must be contiguous")
            count = read(view.cast("B")[: self._left])
        self._pos += count
        return count


def _restored(
    make: Callable[..., OssReader], arguments: tuple[Any, ...], uri: OssUri, span: ByteSpan, position: int
) -> SpanReader:
    reader = SpanReader(make(*arguments), uri, span)
    reader._pos = position
    return reader
