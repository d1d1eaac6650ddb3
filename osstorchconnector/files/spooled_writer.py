"""An object as a binary file that is written in any order, and read again, before it is stored."""

from __future__ import annotations

import io
import operator
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..client.client import OssClient
from ..config import TransferConfig
from ..uri import OssUri
from .named_file import seek_target
from .writer import OssWriter, PublishingFile

# A longer file is kept in the temporary folder, not in memory.
SPOOLED_BYTES = 64 << 20
PIECE_BYTES, LINE_BYTES = 1 << 20, 1 << 13


class OssSpooledWriter(PublishingFile):
    """Writes an object as one writes a local file opened with "w+b": anywhere in it, and what was written can be read.

    Up to 64 MiB are kept in memory, more in a file in the temporary folder (`TMPDIR`). It has no name, so the system
    removes it when the process ends. `fileno()` makes this file at once, for code that needs a descriptor
    (`numpy.memmap`, `ndarray.tofile`). The object appears, or replaces the old one, when the writer is closed. Nothing
    is sent before that; then it goes in parts, in as much memory as `OssWriter` takes. Nothing is stored if anything
    went wrong: an exception in the `with` block, a write that failed, `discard()`, garbage collection, the end of the
    interpreter (the last two log a warning). As in a local file, zeros fill what was skipped by `seek` or added by
    `truncate`. For one thread at a time.
    """

    mode = "w+b"

    def __init__(self, client: OssClient, uri: OssUri, *, transfer: TransferConfig) -> None:
        super().__init__(client, uri, transfer=transfer)
        # Unbuffered: the kernel keeps the position, and a forked child has no buffer that it would write at its end.
        self._file: io.BytesIO | io.FileIO = io.BytesIO()

    def readable(self) -> bool:
        self._check_open()
        return True

    def seekable(self) -> bool:
        self._check_open()
        return True

    def fileno(self) -> int:
        """Return the descriptor of the temporary file; bytes written to it are part of the object."""
        self._check_usable()
        if self._unclosed is None:
            self._watch()
        with self._failing():
            self._roll_over()
        return self._file.fileno()

    def isatty(self) -> bool:
        self._check_open()
        return False

    # where

    def tell(self) -> int:
        self._check_open()
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check_open()
        return self._file.seek(seek_target(offset, whence, position=self._file.tell(), size=self._size))

    def truncate(self, size: int | None = None, /) -> int:
        """Make the file `size` bytes long, or end it at the position; added bytes are zeros. The position stays.

        Raises `ValueError` for a negative size, and `OssError` if an earlier write failed.
        """
        self._check_usable()
        size = self._file.tell() if size is None else operator.index(size)
        if size < 0:
            raise ValueError(f"negative size {size}")
        with self._failing():
            self._make_room(size)
            missing = size - self._size()
            if isinstance(self._file, io.BytesIO) and missing > 0:  # a `BytesIO` can only be made shorter
                position = self._file.tell()
                self._file.seek(0, os.SEEK_END)
                self._put(memoryview(bytes(missing)))
                self._file.seek(position)
            else:
                self._file.truncate(size)
        return size

    # reading and writing

    def read(self, size: int | None = -1, /) -> bytes:
        self._check_open()
        size = -1 if size is None else operator.index(size)
        if isinstance(self._file, io.BytesIO):
            return self._file.read(size)
        left = max(self._size() - self._file.tell(), 0)
        data = bytearray(left if size < 0 else min(size, left))
        return bytes(memoryview(data)[: self.readinto(data)])

    def read1(self, size: int = -1, /) -> bytes:
        return self.read(size)

    def readinto(self, buffer: Any, /) -> int:
        self._check_open()
        view, filled = memoryview(buffer).cast("B"), 0
        while filled < len(view) and (count := self._file.readinto(view[filled:])):
            filled += count
        return filled

    def readinto1(self, buffer: Any, /) -> int:
        return self.readinto(buffer)

    def readline(self, size: int | None = -1, /) -> bytes:
        self._check_open()
        size = -1 if size is None else operator.index(size)
        if isinstance(self._file, io.BytesIO):
            return self._file.readline(size)
        begin, line = self._file.tell(), bytearray()
        while size < 0 or len(line) < size:
            piece = self._file.read(LINE_BYTES)
            end = piece.find(b"\n") + 1
            line += piece[:end] if end else piece
            if end or not piece:
                break
        if size >= 0:
            del line[size:]
        self._file.seek(begin + len(line))
        return bytes(line)

    def __del__(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None:
            file.close()

    # the steps

    def _publish(self) -> None:
        self._file.seek(0)
        piece = memoryview(bytearray(PIECE_BYTES))
        with OssWriter(self._client, self._uri, transfer=self._transfer) as writer:
            while count := self._file.readinto(piece):
                writer.write(piece[:count])

    def _size(self) -> int:
        if isinstance(self._file, io.BytesIO):
            return self._file.getbuffer().nbytes
        return os.fstat(self._file.fileno()).st_size

    def _take(self, view: memoryview, *, is_constant: bool) -> None:
        self._make_room(self._file.tell() + len(view))
        self._put(view)

    def _put(self, view: memoryview) -> None:
        while len(view):
            view = view[self._file.write(view) :]

    def _make_room(self, size: int) -> None:
        if size > SPOOLED_BYTES:
            self._roll_over()

    def _roll_over(self) -> None:
        """Go on in a temporary file."""
        memory = self._file
        if isinstance(memory, io.BytesIO):
            self._file = tempfile.TemporaryFile(buffering=0)
            self._put(memory.getbuffer())
            self._file.seek(memory.tell())

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """After an error, a full disk for one, nothing of what was written can be stored."""
        try:
            yield
        except BaseException as error:  # an interrupt too: a part may have been written
            self._fail(error)
            raise

    def _end(self) -> None:
        super()._end()
        self._file.close()

    def _check_open(self) -> None:
        super()._check_open()
        if self._pid != os.getpid():  # a forked child shares the position of the temporary file
            raise self._of_another_process()
