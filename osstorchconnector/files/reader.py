"""An object as a binary file that is open for reading."""

from __future__ import annotations

import errno
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
from .named_file import InvalidSeekError, NamedFile
from .read_plan import DIRECT_BYTES, FIRST_BYTES
from .source import ObjectSource


class OssReader(NamedFile):
    """Reads an object as one reads a local file opened with "rb": seek, read, readinto, lines, peek.

    Nothing is sent until something is read (or the size is needed). All bytes come from one and the same object: if
    it is replaced meanwhile, the next fetch raises `OssObjectChangedError`. When every byte has been fetched, in any
    order, their CRC-64 is held against OSS's, and `OssIntegrityError` raised if they differ; `close` fetches the last
    few bytes that nobody asked for, if they are few. A reader is for one thread at a time. Pickled, it goes on where it
    stands, with the same object, in another process; that sends nothing.
    """

    mode = "rb"
    _is_exiting = staticmethod(sys.is_finalizing)  # then the globals of modules may be gone

    def __init__(
        self, client: OssClient, uri: OssUri, *, transfer: TransferConfig, first: Download | None = None
    ) -> None:
        super().__init__(uri)
        self._client, self._transfer = client, transfer
        self._source = ObjectSource(client, uri, transfer, first)
        self._pos = 0
        self._block: Block = NO_BLOCK  # the one read last; small reads are served from it

    def __repr__(self) -> str:
        return f"<OssReader {str(self._uri)!r}{' closed' if self.closed else ''}>"

    @property
    def size(self) -> int:
        """The object's size in bytes; the first request is sent if there was none."""
        self._check_open()
        return self._source.open(self._pos).size

    def copy(self) -> OssReader:
        """Return a new reader of the same object, at its beginning; what the first request brought is shared."""
        self._check_open()
        return OssReader(self._client, self._uri, transfer=self._transfer, first=self._source.first_download())

    # what a file can do

    def readable(self) -> bool:
        self._check_open()
        return True

    def seekable(self) -> bool:
        self._check_open()
        return True

    def tell(self) -> int:
        self._check_open()
        return self._pos

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._check_open()
        offset, whence = operator.index(offset), operator.index(whence)
        if whence == os.SEEK_SET:
            target = offset
        elif whence == os.SEEK_CUR:
            target = self._pos + offset
        elif whence == os.SEEK_END:
            target = self.size + offset
        else:
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        if target < 0:
            raise InvalidSeekError(errno.EINVAL, f"seek to {target}, before the beginning")
        if target > sys.maxsize:
            raise OverflowError(f"seek to {target}, further than any file goes")
        self._pos = target
        return target

    # reading

    def read(self, size: int | None = -1, /) -> bytes:
        block = self._block
        if size.__class__ is int and size > 0:
            start = self._pos - block.start
            if start >= 0 and self._pos + size <= block.stop:
                self._pos += size
                return block.view[start : start + size].tobytes()
        return self._read(size)

    def read1(self, size: int | None = -1, /) -> bytes:
        """Return what is here, up to `size` bytes: at most one request, and none if there is something."""
        limit = -1 if size is None else operator.index(size)
        wanted = self._step(limit if limit >= 0 else FIRST_BYTES)
        if not wanted:
            return b""
        data = self._block_here(wanted)[: limit if limit >= 0 else None].tobytes()
        self._pos += len(data)
        return data

    def peek(self, size: int = 0, /) -> bytes:
        """Return the bytes that come next without moving, at least one unless at the end."""
        wanted = max(operator.index(size), io.DEFAULT_BUFFER_SIZE)
        if not self._step(1):
            return b""
        return self._block_here(1)[:wanted].tobytes()

    def readinto(self, buffer: Any, /) -> int:
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
        """As `read1`, into `buffer`."""
        view = _writable(buffer)
        wanted = self._step(len(view))
        if wanted:
            here = self._block_here(wanted)[:wanted]
            wanted = len(here)
            view[:wanted] = here
        self._pos += wanted
        return wanted

    def readline(self, size: int | None = -1, /) -> bytes:
        self._check_open()
        limit = -1 if size is None else operator.index(size)
        pieces: list[bytes] = []
        length = 0
        while length != limit and (piece := self._line_piece(limit - length if limit >= 0 else -1)):
            pieces.append(piece)
            length += len(piece)
            if piece.endswith(b"\n"):
                break
        return b"".join(pieces)

    # closing

    def close(self) -> None:
        """Close; see the class for what is checked then. Once closed, whatever is called raises `ValueError`."""
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

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"I/O operation on closed file: {self._uri}")

    # the slow half of reading: bytes that are not in the present block

    def _step(self, wanted: int) -> int:
        """Begin a read at the present position: return how many of the `wanted` bytes there are."""
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
        """Return the bytes of the block at the present position, from there on: one at least."""
        if not self._block.holds(self._pos):
            self._block = self._source.block_at(self._pos, wanted)
        return self._block.view[self._pos - self._block.start :]

    def _line_piece(self, limit: int) -> bytes:
        """Return the rest of the present line, as far as the block has it, up to `limit` bytes (-1: no limit)."""
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
        piece = block.view[start : newline + 1 if newline >= 0 else stop].tobytes()
        self._pos += len(piece)
        return piece


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
