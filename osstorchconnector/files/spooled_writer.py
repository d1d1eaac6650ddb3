"""An object as a binary file that is written in any order, and read again, before it is stored."""

from __future__ import annotations

import io
import operator
import os
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NoReturn

from ..client.client import OssClient
from ..config import TransferConfig
from ..errors import OssError, OssUsageError
from ..uri import OssUri
from .named_file import NamedFile, seek_target
from .writer import OssWriter, told_if_unclosed

# What is longer lies in a temporary file.
SPOOLED_BYTES = 64 << 20
PIECE_BYTES, LINE_BYTES = 1 << 20, 1 << 13


class OssSpooledWriter(NamedFile):
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
        super().__init__(uri)
        self._client, self._transfer = client, transfer
        # Not buffered: where it is, the kernel knows, and a forked child has nothing to write there at its end.
        self._file: io.BytesIO | io.FileIO = io.BytesIO()
        self._failure = ""  # what went wrong first; not the error, which knows the frames that know this writer
        self._unclosed: weakref.finalize[..., NamedFile] | None = None
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"<OssSpooledWriter {str(self._uri)!r}{' closed' if self.closed else ''}>"

    @property
    def closed(self) -> bool:
        return self._file.closed

    def readable(self) -> bool:
        self._check_open()
        return True

    def writable(self) -> bool:
        self._check_open()
        return True

    def seekable(self) -> bool:
        self._check_open()
        return True

    def fileno(self) -> int:
        """Return the descriptor of the temporary file; what is written by way of it is part of the object."""
        self._check_usable()
        self._watch()
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
        """Make the file as long as this, or up to here; what is added are zeros. The position stays."""
        self._check_usable()
        size = self._file.tell() if size is None else operator.index(size)
        if size < 0:
            raise ValueError(f"negative size {size}")
        self._make_room(size)
        missing = size - self._size()
        if isinstance(self._file, io.BytesIO) and missing > 0:  # which can only be made shorter
            position = self._file.seek(0, os.SEEK_CUR)
            self._file.seek(0, os.SEEK_END)
            self._put(memoryview(bytes(missing)))
            self._file.seek(position)
        else:
            with self._failing():
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

    def write(self, data: Any, /) -> int:
        """Take `data`, all of it; it may be changed as soon as this returns."""
        self._check_usable()
        view = memoryview(data)
        if not view.c_contiguous:
            raise BufferError("write() needs a contiguous buffer")
        self._watch()
        if view.nbytes:
            self._make_room(self._file.tell() + view.nbytes)
            self._put(view.cast("B"))
        return view.nbytes

    def flush(self) -> None:
        """Do nothing: what was written is stored by `close`, all at once."""
        self._check_open()

    # the end

    def close(self) -> None:
        """Publish the object. Raises, and stores nothing, if that can't be done or an earlier write failed."""
        if self.closed:
            return
        try:
            self._check_usable()
            self._publish()
        finally:
            self._let_go()

    def discard(self) -> None:
        """Close without storing anything: the object, if there was one, stays as it was."""
        self._let_go()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        file = getattr(self, "_file", None)
        if file is not None:
            file.close()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError(f"a writer can't be pickled, no more than an open file ({self._uri})")

    # the steps

    def _watch(self) -> None:
        self._unclosed = self._unclosed or told_if_unclosed(self, self._uri)

    def _let_go(self) -> None:
        self._file.close()
        if self._unclosed is not None:
            self._unclosed.detach()

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

    def _put(self, view: memoryview) -> None:
        with self._failing():
            while len(view):
                view = view[self._file.write(view) :]

    def _make_room(self, size: int) -> None:
        if size > SPOOLED_BYTES:
            self._roll_over()

    def _roll_over(self) -> None:
        """Go on in a temporary file."""
        memory = self._file
        if isinstance(memory, io.BytesIO):
            with self._failing():
                self._file = tempfile.TemporaryFile(buffering=0)
            self._put(memory.getbuffer())
            self._file.seek(memory.tell())

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """After an error, a full disk for one, nothing of what was written can be stored."""
        try:
            yield
        except BaseException as error:  # an interrupt too: a part may have been written
            self._failure = self._failure or str(error) or type(error).__name__
            raise

    def _check_open(self) -> None:
        super()._check_open()
        if self._pid != os.getpid():  # a child shares the file's position
            raise OssUsageError(f"the writer of {self._uri} belongs to another process: write where it was made")

    def _check_usable(self) -> None:
        self._check_open()
        if self._failure:
            raise OssError(f"an earlier write to {self._uri} failed, nothing is stored: {self._failure}")
