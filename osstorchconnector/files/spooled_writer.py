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
from .publishing import PublishingFile
from .writer import OssWriter

# A longer file is kept in the temporary folder, not in memory.
SPOOLED_BYTES = 64 << 20
PIECE_BYTES, LINE_BYTES = 1 << 20, 1 << 13


class OssSpooledWriter(PublishingFile):
    """A binary file that writes an object in any order, and can be read, like a local file opened with "w+b".

    - The object appears, or replaces the old one, when the writer is closed. Nothing is sent before that.
    - `close` sends the content as an `OssWriter` does: in parts, with the same use of memory.
    - Up to 64 MiB of content are kept in memory, more in a file in the temporary folder (`TMPDIR`). This file has no
      name, so the system removes it when the process ends.
    - `fileno()` creates that file at once, for code that needs a descriptor (`numpy.memmap`, `ndarray.tofile`).
    - Nothing is stored after an exception in the `with` block, a write that failed, or `discard()`.
    - Nothing is stored if the writer is garbage collected, or the interpreter ends, before it is closed: this logs a
      warning.
    - Bytes that `seek` skipped or `truncate` added are zeros, as in a local file.
    - Only one thread at a time may use a writer, and only the process that made it.

    All positions and sizes are in bytes. Using a closed writer raises `ValueError`.
    """

    mode = "w+b"

    def __init__(self, client: OssClient, uri: OssUri, *, transfer: TransferConfig) -> None:
        super().__init__(client, uri, transfer=transfer)
        # Unbuffered: the kernel keeps the position, and a forked child has no buffer that it would write at its end.
        self._file: io.BytesIO | io.FileIO = io.BytesIO()

    def readable(self) -> bool:
        """Return True; `ValueError` if closed."""
        self._check_open()
        return True

    def seekable(self) -> bool:
        """Return True; `ValueError` if closed."""
        self._check_open()
        return True

    def fileno(self) -> int:
        """Return the descriptor of the temporary file; bytes written to it are part of the object.

        Raises `ValueError` if closed, `OSError` if the file can't be created, and `OssError` if an earlier write
        failed.
        """
        self._check_usable()
        if self._unclosed is None:
            self._watch()
        with self._failing():
            self._roll_over()
        return self._file.fileno()

    def isatty(self) -> bool:
        """Return False; `ValueError` if closed."""
        self._check_open()
        return False

    # where

    def tell(self) -> int:
        """Return the position in bytes; `ValueError` if closed."""
        self._check_open()
        return self._file.tell()

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position to `offset` bytes from the beginning (`whence` 0), the position (1) or the end (2).

        Returns the new position, which may be past the end. Raises `ValueError` if closed, for another `whence`, and
        for a position before the beginning (this error is an `OSError`, too).
        """
        self._check_open()
        return self._file.seek(seek_target(offset, whence, position=self._file.tell(), size=self._size))

    def truncate(self, size: int | None = None, /) -> int:
        """Make the file `size` bytes long, by default as long as the position, and return its size.

        Added bytes are zeros. The position does not move. Raises `ValueError` for a negative size or if closed, and
        `OssError` if an earlier write failed.
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
        """Return up to `size` bytes from the position on, or all that are left if `size` is None or negative.

        Returns fewer than `size` bytes only at the end of what was written, and `b""` there. Raises `ValueError` if
        closed, and `OSError` if the temporary file can't be read.
        """
        self._check_open()
        size = -1 if size is None else operator.index(size)
        if isinstance(self._file, io.BytesIO):
            return self._file.read(size)
        left = max(self._size() - self._file.tell(), 0)
        data = bytearray(left if size < 0 else min(size, left))
        return bytes(memoryview(data)[: self.readinto(data)])

    def read1(self, size: int = -1, /) -> bytes:
        """Do the same as `read`."""
        return self.read(size)

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer`, any writable contiguous buffer, from the position on; return the number of bytes read.

        Reads fewer bytes than `buffer` has only at the end of what was written. Raises `TypeError` if `buffer` can't be
        written to, and the errors of `read`.
        """
        self._check_open()
        view, filled = memoryview(buffer).cast("B"), 0
        while filled < len(view) and (count := self._file.readinto(view[filled:])):
            filled += count
        return filled

    def readinto1(self, buffer: Any, /) -> int:
        """Do the same as `readinto`."""
        return self.readinto(buffer)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the bytes up to and including the next `b"\\n"`, at most `size` if it is not None or negative.

        Returns `b""` at the end of what was written. Raises the errors of `read`.
        """
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
