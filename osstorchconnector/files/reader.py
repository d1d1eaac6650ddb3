"""An object as a binary file that is open for reading."""

from __future__ import annotations

import io
import operator
import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

from ..client.client import OssClient
from ..client.memory import fresh_memory
from ..client.sharing import ClientReference
from ..config import TransferConfig
from ..protocol.values import Download
from ..uri import OssUri
from .blocks import NO_BLOCK, Block
from .named_file import NamedFile, seek_target
from .read_plan import DIRECT_BYTES, FIRST_BYTES
from .source import ObjectSource


class OssReader(NamedFile):
    """A binary file that reads an object, like a local file opened with "rb".

    All sizes and positions are in bytes. The first request is sent when something is read, or when the size is needed.
    A reader that reads forward fetches the next bytes ahead. A large `readinto` fetches its bytes in parallel, directly
    into the buffer. The config key `prefetchConcurrency` limits the number of concurrent requests.

    All bytes come from one version of the object: if it is replaced while it is read, the next fetch raises
    `OssObjectChangedError`. When every byte has been fetched, in any order, the reader checks them against the CRC-64
    that OSS has for the object. To complete this check, `close` fetches the bytes that were not read, if they are few.
    It does not do so after an exception in the `with` block.

    Errors of all methods that read, each an `OssError`; after an error the read can be repeated:

    - `OssNotFoundError`: there is no such object
    - `OssConnectionError`, `OssTimeoutError`: the network still failed after all retries
    - `OssObjectChangedError`: the object was replaced while it was read
    - `OssIntegrityError`: the bytes do not match the CRC-64

    Using a closed reader raises `ValueError`. Only one thread at a time may use a reader. A reader can be
    pickled: the copy, also in another process, continues at the same position with the same version of the object.
    Pickling sends no request.
    """

    mode = "rb"
    label: Any = ""  # an object that is opened by its name has none
    _is_exiting = staticmethod(sys.is_finalizing)  # bound here: at exit the globals of modules may be gone

    def __init__(
        self, client: OssClient, uri: OssUri, *, transfer: TransferConfig, first: Download | None = None
    ) -> None:
        super().__init__(uri)
        self._client, self._transfer = client, transfer
        self._source = ObjectSource(client, uri, transfer, first)
        self._pos = 0
        self._block: Block = NO_BLOCK  # the one read last; small reads are served from it

    def __repr__(self) -> str:
        size = self._source.known_size
        where = f"at byte {self._pos}{'' if size is None else f' of {size}'}"
        return f"<OssReader {str(self._uri)!r}, {'closed' if self.closed else where}>"

    @property
    def size(self) -> int:
        """The object's size in bytes. Sends the first request if none was sent, and raises its errors."""
        self._check_open()
        return self._source.open(self._pos).size

    def copy(self) -> OssReader:
        """Return a new reader of the same object, at its beginning. It shares the bytes of the first request.

        Sends that request if none was sent.
        """
        self._check_open()
        return OssReader(self._client, self._uri, transfer=self._transfer, first=self._source.first_download())

    # what a file can do

    def readable(self) -> bool:
        """Return True; `ValueError` if closed."""
        self._check_open()
        return True

    def seekable(self) -> bool:
        """Return True; `ValueError` if closed."""
        self._check_open()
        return True

    def tell(self) -> int:
        """Return the position in bytes; `ValueError` if closed."""
        self._check_open()
        return self._pos

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position to `offset` bytes from the beginning (`whence` 0), the position (1) or the end (2).

        Returns the new position, which may be past the end. Sends no request, except from the end (2) if none was
        sent before. Raises `ValueError` if closed, for another `whence`, and for a position before the beginning (this
        error is an `OSError`, too).
        """
        self._check_open()
        target = seek_target(offset, whence, position=self._pos, size=lambda: self.size)
        self._pos = target
        return target

    # reading

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes from the position on, or all that are left if `size` is None or negative.

        Returns fewer than `size` bytes only at the end of the object, and `b""` there. For errors see the class.
        """
        block = self._block
        if size.__class__ is int and size > 0:
            start = self._pos - block.start
            if start >= 0 and self._pos + size <= block.stop:
                self._pos += size
                return block.view[start : start + size].tobytes()
        return self._read(size)

    def read1(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes that are already fetched; if there are none, wait for one request.

        If `size` is None or negative, there is no limit. Returns `b""` only at the end. For errors see the class.
        """
        limit = -1 if size is None else operator.index(size)
        wanted = self._step(limit if limit >= 0 else FIRST_BYTES)
        if not wanted:
            return b""
        data = self._block_here(wanted)[: limit if limit >= 0 else None].tobytes()
        self._pos += len(data)
        return data

    def peek(self, size: int = 0, /) -> bytes:
        """Return bytes from the position on without moving it: at least one, except at the end of the object.

        May return more or fewer bytes than `size`. For errors see the class.
        """
        wanted = max(operator.index(size), io.DEFAULT_BUFFER_SIZE)
        if not self._step(1):
            return b""
        return self._block_here(1)[:wanted].tobytes()

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer`, any writable contiguous buffer, from the position on; return the number of bytes read.

        Reads fewer bytes than `buffer` has only at the end of the object. Raises `TypeError` if the buffer can't be
        written to or is not contiguous; for other errors see the class. After an error of OSS or of the network the
        buffer may be partly filled, and nothing writes to it any more.
        """
        view = _writable(buffer)
        block, wanted = self._block, len(view)
        start = self._pos - block.start
        if start >= 0 and wanted and self._pos + wanted <= block.stop:
            view[:] = block.view[start : start + wanted]
        else:
            wanted = self._step(wanted)
            self._fill(view[:wanted])
        self._pos += wanted
        return wanted

    def readinto1(self, buffer: Any, /) -> int:
        """Read as `read1` does, into `buffer`; return the number of bytes read.

        Raises the errors of `readinto`.
        """
        view = _writable(buffer)
        wanted = self._step(len(view))
        if wanted:
            here = self._block_here(wanted)[:wanted]
            wanted = len(here)
            view[:wanted] = here
        self._pos += wanted
        return wanted

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return the bytes up to and including the next `b"\\n"`, at most `size` if it is not None or negative.

        Returns `b""` at the end of the object. For errors see the class.
        """
        self._check_open()
        limit = -1 if size is None else operator.index(size)
        line: list[bytes] = []  # from several blocks, if it goes beyond one
        length = 0
        while length != limit and (data := self._rest_of_line(limit - length if limit >= 0 else -1)):
            line.append(data)
            length += len(data)
            if data.endswith(b"\n"):
                break
        return b"".join(line)

    # closing

    def close(self) -> None:
        """Close the reader, and complete the check of the bytes (see the class). Closing it again does nothing.

        Raises `OssIntegrityError` if the bytes do not match the CRC-64 of the object.
        """
        self._finish(check=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._finish(check=kind is None)

    def __del__(self) -> None:
        if hasattr(self, "_block"):
            self._finish(check=False)

    def __reduce__(self) -> tuple[Callable[..., OssReader], tuple[Any, ...]]:
        first = self._source.first_here()
        return _restored, (self._client.reference(), self._uri, self._transfer, first, self._pos, self.closed)

    def _finish(self, *, check: bool) -> None:
        if self._is_exiting() or self.closed:
            return
        self._block = NO_BLOCK
        super().close()
        self._source.close(check=check)

    # the slow half of reading: bytes that the present block does not hold

    def _step(self, wanted: int) -> int:
        """Begin a read at the present position; return how many of the `wanted` bytes the object has there."""
        self._check_open()
        if not wanted:
            return 0
        size = self._source.open(self._pos).size
        self._source.begin_read(self._pos)
        return max(min(wanted, size - self._pos), 0)

    def _read(self, size: int | None) -> bytes:
        self._check_open()
        wanted = -1 if size is None else operator.index(size)
        wanted = self._step(wanted if wanted >= 0 else max(self.size - self._pos, 0))
        if not wanted:
            return b""
        if wanted < DIRECT_BYTES:
            data = self._gather(wanted)
        else:
            memory = fresh_memory(wanted)
            with memory.getbuffer() as view:
                self._fill(view)
            data = memory.getvalue()
        self._pos += wanted
        return data

    def _gather(self, wanted: int) -> bytes:
        here = self._block_here(wanted)
        if len(here) >= wanted:
            whole = self._block.data
            return whole if len(whole) == wanted and isinstance(whole, bytes) else here[:wanted].tobytes()
        memory = bytearray(wanted)
        self._source.read_into(self._pos, memoryview(memory))
        return bytes(memory)

    def _fill(self, view: memoryview) -> None:
        wanted = len(view)
        if 0 < wanted <= FIRST_BYTES:
            here = self._block_here(wanted)
            if len(here) >= wanted:
                view[:] = here[:wanted]
                return
        if wanted:
            self._source.read_into(self._pos, view)

    def _block_here(self, wanted: int) -> memoryview:
        """Return the bytes of a block from the present position on, at least one."""
        if not self._block.holds(self._pos):
            self._block = self._source.block_at(self._pos, wanted)
        return self._block.view[self._pos - self._block.start :]

    def _rest_of_line(self, limit: int) -> bytes:
        """Return the rest of the present line, as far as one block has it, up to `limit` bytes (-1: no limit)."""
        if not self._block.holds(self._pos):
            if not self._step(1):
                return b""
            self._block_here(FIRST_BYTES)
        block = self._block
        start = self._pos - block.start
        stop = block.stop - block.start
        if 0 <= limit < stop - start:
            stop = start + limit
        newline = block.data.find(b"\n", start, stop)
        data = block.view[start : newline + 1 if newline >= 0 else stop].tobytes()
        self._pos += len(data)
        return data


def _restored(
    client: ClientReference,
    uri: OssUri,
    transfer: TransferConfig,
    first: Download | None,
    position: int,
    is_closed: bool,
) -> OssReader:
    reader = OssReader(client.resolve(), uri, transfer=transfer, first=first)
    reader.seek(position)
    if is_closed:
        reader.close()
    return reader


def _writable(buffer: Any) -> memoryview:
    view = memoryview(buffer)
    if view.readonly or not view.c_contiguous:
        what = "" if view.readonly else " that is not contiguous"
        raise TypeError(f"readinto() argument must be read-write bytes-like object, not {type(buffer).__name__}{what}")
    return view.cast("B") if view.nbytes else memoryview(bytearray())
