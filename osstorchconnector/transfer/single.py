"""One file and one object: the bytes of an open file to a writer, and those of an object into an open file."""

from __future__ import annotations

import contextlib
import errno
import io
import mmap
import os
import stat
from collections.abc import Callable, Iterator
from typing import IO, Any

from ..client.client import OssClient
from ..errors import OssError
from ..files.reader import OssReader
from ..files.writer import OssWriter
from ..protocol.values import Download
from ..uri import OssUri

# Both are told how many bytes more are done after each piece of this size.
PIECE_BYTES = 64 << 20
# An object of this size comes with the first request. The rest of a larger one is fetched in parallel.
FIRST_BYTES = 1 << 20

Told = Callable[[int], object]


@contextlib.contextmanager
def opened_unchanged(path: str | os.PathLike[str]) -> Iterator[io.FileIO]:
    """Open a file, all of which is read in the block; publish what was read after the block, not before.

    Raises `OssError` at the end of the block if the file was written to since: what was read may be half old, half new.
    Pipes and devices are as they come.
    """
    with open(path, "rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        yield file
        now = os.fstat(file.fileno())
        if stat.S_ISREG(now.st_mode) and (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise OssError(f"{os.fspath(path)} was changed while it was copied: copy it again")


def send_file(file: io.FileIO, writer: OssWriter, told: Told) -> None:
    """Write all bytes of an open file, straight into the memory from which they are sent; close neither.

    Raises the errors of the writer, and `OSError` if the file becomes shorter meanwhile.
    """
    left = os.fstat(file.fileno()).st_size
    if not left:  # empty, or of a system that does not know the size
        send_stream(file, writer, told)
        return
    while left and (count := writer.write_from(file, min(left, PIECE_BYTES))):
        left -= count
        told(count)
    if left:
        raise OSError(errno.EIO, "it became shorter while it was uploaded, nothing is stored", str(file.name))


def send_stream(file: Any, writer: OssWriter, told: Told) -> None:
    """Write all that `file.read` gives."""
    while piece := file.read(PIECE_BYTES):
        writer.write(piece)
        told(len(piece))


def receive_object(client: OssClient, uri: OssUri, first: Download, file: IO[bytes], told: Told) -> None:
    """Write an object, of which `first` is the beginning, into an open file. Raises the errors of `OssReader`."""
    size = first.stat.size
    if first.span.stop >= size:
        file.write(first.body)
        told(size)
        return
    reader = OssReader(client, uri, transfer=client.config.checkpoint, first=first)
    with _mapped(file, size) as memory:
        for start in range(0, size, PIECE_BYTES):
            count = min(PIECE_BYTES, size - start)
            if memory is None:
                file.write(reader.read(count))
            else:
                reader.readinto(memory[start : start + count])
            told(count)


@contextlib.contextmanager
def _mapped(file: IO[bytes], size: int) -> Iterator[memoryview | None]:
    """Give an empty file as memory of `size` bytes; None if it has bytes, or can't be mapped.

    Its blocks are allocated first: on a full disk, writing to mapped memory would kill the process.
    """
    mapped: mmap.mmap | None = None
    if isinstance(file, io.BufferedWriter) and not file.tell() and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        with contextlib.suppress(OSError):  # opened for writing only, or where the file system maps none (some FUSEs)
            mapped = mmap.mmap(file.fileno(), size)
    try:
        yield None if mapped is None else memoryview(mapped)
    finally:
        if mapped is not None:
            with contextlib.suppress(BufferError):  # a traceback has views of it: it ends with them
                mapped.close()
