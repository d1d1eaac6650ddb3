"""The common base of the files here: a file is named after its object, and fails as other files do."""

from __future__ import annotations

import errno
import io
import operator
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

from ..uri import OssUri

if TYPE_CHECKING:

    class _BinaryFile(io.BufferedIOBase, BinaryIO):
        """Type checkers know the result of `open(..., "rb")` as `IO[bytes]`; torch and PIL ask for that type."""

else:
    _BinaryFile = io.BufferedIOBase


class InvalidSeekError(OSError, ValueError):
    """A seek to before the beginning: an `OSError` as files raise it, a `ValueError` as `BytesIO` does."""


class NamedFile(_BinaryFile):
    """A binary file that is an object in OSS."""

    __slots__ = ("_uri",)

    def __init__(self, uri: OssUri) -> None:
        self._uri = uri

    @property
    def uri(self) -> str:
        """The object as `oss://bucket/key`."""
        return str(self._uri)

    @property
    def key(self) -> str:
        """The object as `/bucket/key`."""
        return self._uri.path

    @property
    def bucket(self) -> str:
        """The name of the object's bucket."""
        return self._uri.bucket

    @property
    def name(self) -> str:
        """The object's key in its bucket."""
        return self._uri.key

    def err(self) -> int:
        """Return the number of the error that stands in the place of this object, as `errno` has it; 0 for none.

        Errors of reading and writing are raised. Only `OssClient.list_objects...(include_errors=True)` gives objects
        that stand for an error.
        """
        return 0

    def error_msg(self) -> str:
        """Return the text of that error; `""` for none."""
        return ""

    def write(self, data: Any, /) -> int:
        """Always raises `io.UnsupportedOperation`: the file is open for reading."""
        raise io.UnsupportedOperation(f"write: {self._uri.shown} is open for reading; OssCheckpoint.writer(uri) writes")

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"I/O operation on closed file: {self._uri.shown}")


def seek_target(offset: int, whence: int, *, position: int, size: Callable[[], int]) -> int:
    """Return the position that `seek(offset, whence)` goes to in a file that stands at `position`.

    `size` is asked only where the end matters. Raises `ValueError` for an unknown `whence`, `InvalidSeekError` before
    the beginning, `OverflowError` beyond the largest possible file.
    """
    target, whence = operator.index(offset), operator.index(whence)
    if whence == os.SEEK_CUR:
        target += position
    elif whence == os.SEEK_END:
        target += size()
    elif whence != os.SEEK_SET:
        raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
    if target < 0:
        raise InvalidSeekError(errno.EINVAL, f"seek to {target}, before the beginning")
    if target > sys.maxsize:
        raise OverflowError(f"seek to {target}, further than any file goes")
    return target
