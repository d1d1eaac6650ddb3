"""What every file object here has: the name of its object, in the forms that users ask for; and what all raise."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, BinaryIO

from ..uri import OssUri

if TYPE_CHECKING:

    class _BinaryFile(io.BufferedIOBase, BinaryIO):
        """What `open(..., "rb")` gives is an `IO[bytes]` to type checkers, and torch and PIL ask for one."""

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

    def write(self, data: Any, /) -> int:
        raise io.UnsupportedOperation(f"write: {self._uri.shown} is open for reading; OssCheckpoint.writer(uri) writes")
