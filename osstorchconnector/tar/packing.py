"""A tar is written: header, body and padding of each source, in order.

Bodies are sent from where they were received, and their CRC-64 is that of the answer which brought them. So what OSS
says of the tar is compared with what it said of the objects. What is short, a header above all, is joined first.
"""

from __future__ import annotations

import functools
import tarfile
from collections.abc import Callable, Iterable
from typing import IO

from ..errors import OssTarError
from ..files.writer import OssWriter
from ..protocol.checksum import crc64
from .headers import BLOCK_BYTES, TarEntry, byte_sum, next_entry
from .sources import Piece, TarSource

END = bytes(2 * BLOCK_BYTES)
_ZEROS = bytes(BLOCK_BYTES)
_SHORT_BYTES = 16 << 10
_JOINED_BYTES = 256 << 10

_LONGEST_NAME, _LARGEST_SIZE = 100, 0o77777777777  # of a header that needs none before it


def pack(
    output: Output,
    sources: Iterable[TarSource],
    bodies: Iterable[Iterable[Piece]],
    start: int,
    note: Callable[[int], object],
) -> list[TarEntry]:
    """Write members from `start` on, and the end of the tar; return their entries. `note` is told the size of each.

    Raises `OssTarError` if a body has not the size of its source, and what `bodies` and `output` raise.
    """
    entries = []
    for source, body in zip(sources, bodies, strict=True):
        header, entry = header_of(source, start)
        output.add(header)
        written = 0
        for data, crc in body:
            output.add(data, crc)
            written += len(data)
        if written != source.size:
            raise OssTarError(f"{source.name} had {source.size} bytes, and now {written}: it changed meanwhile")
        output.add(_ZEROS[: -written % BLOCK_BYTES])
        start = entry.stop
        entries.append(entry)
        note(written)
    output.add(END)
    output.flush()
    return entries


class Output:
    """Writes a tar to a file, behind the first `there` bytes: these are stored already."""

    def __init__(self, file: OssWriter | IO[bytes], there: int) -> None:
        self._file, self._there = file, there
        self._short: list[bytes] = []
        self._short_bytes = 0

    def add(self, data: bytes, crc: int | None = None) -> None:
        """Write what comes next; `crc` is its CRC-64, if it is known. Short pieces wait for `flush`, or for others."""
        if self._there:
            skipped = min(self._there, len(data))
            self._there -= skipped
            data, crc = data[skipped:], None
        if len(data) < _SHORT_BYTES:
            self._short.append(data)
            self._short_bytes += len(data)
            if self._short_bytes >= _JOINED_BYTES:
                self.flush()
            return
        if self._short_bytes:
            self.flush()
        self._write(data, crc)

    def flush(self) -> None:
        """Write the short pieces that wait."""
        joined = b"".join(self._short)
        self._short, self._short_bytes = [], 0
        self._write(joined, crc64(joined))

    def _write(self, data: bytes, crc: int | None) -> None:
        if isinstance(self._file, OssWriter):
            self._file.add(data, crc)
        else:
            self._file.write(data)


def header_of(source: TarSource, start: int) -> tuple[bytes, TarEntry]:
    """Return the headers of a source as tarfile writes them, and what a reader will find if they are at `start`."""
    name, size = source.name, source.size
    field = name.encode("utf-8", "replace")
    if name.isascii() and len(field) <= _LONGEST_NAME and size <= _LARGEST_SIZE and b"\0" not in field:
        before, behind = _template()
        block = b"%b%b%011o%b" % (field, before[len(field) :], size, behind)
        header = b"%b%06o\0%b" % (block[:148], byte_sum(block), block[155:])
        return header, TarEntry(name, True, start, start + BLOCK_BYTES, size)
    header = _by_tarfile(name, size)
    entry = next_entry(lambda position, count: header[position : position + count], 0)
    assert entry is not None
    return header, entry._replace(start=start, body=start + entry.body)


@functools.cache
def _template() -> tuple[bytes, bytes]:
    """Return what stands before and behind the size in the header of a nameless file, blanks for its checksum."""
    block = _by_tarfile("", 0)
    return block[:124], block[135:148] + b" " * 8 + block[156:]


def _by_tarfile(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf(tarfile.PAX_FORMAT)
