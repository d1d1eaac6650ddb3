"""The headers of a tar: ustar, pax, GNU and the old ones, read from bytes that nobody has checked.

A tar is a row of entries. An entry is one or more headers of 512 bytes, then a body, filled up to whole blocks:

    [pax or GNU header | its body]... | header with kind and size | body | padding

Entries that are regular files are members. Directories, links and devices have no bytes of their own and are passed
over. A sparse file's bytes are not what its reader would expect, so it is an error, as is everything that is damaged:
no byte is guessed. All sizes are checked against limits before memory is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple
from zlib import adler32

from ..errors import OssTarError

BLOCK_BYTES = 512
LARGEST_SIZE = (1 << 63) - 1

# Names, and what else pax says of a member. Those that tar programs write have a few hundred bytes.
MAX_EXTENSION_BYTES = 1 << 20
_MOST_EXTENSIONS = 16

_REGULAR = frozenset({b"0", b"\0", b"7"})
# The entries that have no body, whatever their size field says. An unknown kind has one (POSIX).
_WITHOUT_BODY = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})
_GNU_LONG_NAME, _GNU_LONG_LINK, _GNU_SPARSE = b"L", b"K", b"S"
_PAX, _PAX_GLOBAL = frozenset({b"x", b"X"}), b"g"
_EXTENSIONS = _PAX | {_PAX_GLOBAL, _GNU_LONG_NAME, _GNU_LONG_LINK}

_POSIX_MAGIC = b"ustar\0"
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}

# Returns the bytes at a position: as many as asked for, unless the tar ends before.
Read = Callable[[int, int], bytes]


class TarEntry(NamedTuple):
    """One entry. `start` is the position of its first header, `body` that of its first byte, both from the tar's.

    `size` is the number of bytes in the body. `stop` is where the next entry begins.
    """

    name: str
    is_member: bool
    start: int
    body: int
    size: int

    @property
    def stop(self) -> int:
        """The position behind the entry."""
        return self.body + padded(self.size)


class _Header(NamedTuple):
    name: str
    kind: bytes
    size: int


class _Overrides(NamedTuple):
    name: str | None = None
    size: int | None = None


def padded(size: int) -> int:
    """Return the size of a body in whole blocks, in bytes."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def entries(read: Read, position: int = 0) -> Iterator[TarEntry]:
    """Yield the entries from `position` on, members and others, up to the end of the tar.

    Raises `OssTarError` where there is no header, or only a part of one.
    """
    while (entry := next_entry(read, position)) is not None:
        yield entry
        position = entry.stop


def next_entry(read: Read, position: int) -> TarEntry | None:
    """Return the entry whose first header is at `position`; None at the end of the tar.

    Whether its body is there is not checked. Raises `OssTarError`.
    """
    start, name, size = position, None, None
    for _ in range(_MOST_EXTENSIONS + 1):
        block = read(position, BLOCK_BYTES)
        if not block.strip(b"\0") and len(block) in (0, BLOCK_BYTES):
            if position != start:
                raise OssTarError(f"cut off at byte {position}: the header of a member is missing")
            if not block and not position:
                raise OssTarError("no tar: it is empty")
            return None
        header = parse_header(block, position)
        position += BLOCK_BYTES
        if header.kind not in _EXTENSIONS:
            return _entry(header, start, position, _Overrides(name, size))
        found = _extension(read, header, position)
        if header.kind != _PAX_GLOBAL:
            name = found.name if found.name is not None else name
            size = found.size if found.size is not None else size
        position += padded(header.size)
    raise OssTarError(f"more than {_MOST_EXTENSIONS} extended headers in a row at byte {start}")


def is_plain_header(block: bytes, name: str, size: int) -> bool:
    """Say whether `block` is the header of a regular file of this name and size, and needs none before it.

    False says nothing: then `next_entry` tells what stands there. This takes half of its time, and there is one for
    each member.
    """
    field = name.encode("utf-8", "replace") + b"\0"
    return (
        len(block) == BLOCK_BYTES
        and block.startswith(field)
        and block[124:136] == b"%011o\0" % size
        and block[156:157] == b"0"
        and not (block[345:346].strip(b"\0") or len(field) > 100)
        and block[148:156] == b"%06o\0 " % (byte_sum(block) - sum(block[148:156]) + 8 * ord(" "))
    )


def parse_header(block: bytes, position: int) -> _Header:
    """Return what a header says, its checksum checked. `position` is where it stands, for errors (`OssTarError`)."""
    if len(block) < BLOCK_BYTES:
        raise OssTarError(f"cut off in the header at byte {position}" if position else _not_a_tar(block))
    stated = _number(block, 148, 156)
    unsigned = byte_sum(block) - sum(block[148:156]) + 8 * ord(" ")
    if stated != unsigned and stated != _signed_sum(block, unsigned):
        raise OssTarError(f"there is no header at byte {position}" if position else _not_a_tar(block))
    size = _number(block, 124, 136)
    if size is None:
        raise OssTarError(f"the size in the header at byte {position} is no number that a size can have")
    name, prefix = _text(block[:100]), b""
    if block[257:263] == _POSIX_MAGIC:
        prefix = block[345:500].partition(b"\0")[0]
    kind = block[156:157]
    if kind == b"\0" and name.endswith("/"):
        kind = b"5"  # how tars before POSIX wrote a directory
    return _Header(f"{_text(prefix)}/{name}" if prefix else name, kind, size)


def _entry(header: _Header, start: int, body: int, overrides: _Overrides) -> TarEntry:
    name = header.name if overrides.name is None else overrides.name
    size = header.size if overrides.size is None else overrides.size
    if header.kind == _GNU_SPARSE:
        raise _sparse(name, start)
    if header.kind in _WITHOUT_BODY:
        size = 0
    if body + size > LARGEST_SIZE:
        raise OssTarError(f"the size of {name!r:.200} at byte {start} is larger than any tar")
    return TarEntry(name, header.kind in _REGULAR, start, body, size)


def _extension(read: Read, header: _Header, position: int) -> _Overrides:
    """Return what an extended header says of the next one."""
    if header.size > MAX_EXTENSION_BYTES:
        raise OssTarError(f"the extended header before byte {position} has {header.size} bytes, too many for names")
    data = read(position, header.size)
    if len(data) < header.size:
        raise OssTarError(f"cut off in the extended header at byte {position}")
    if header.kind == _GNU_LONG_NAME:
        return _Overrides(name=_text(data))
    if header.kind == _GNU_LONG_LINK:
        return _Overrides()
    records = dict(_pax_records(data, position))
    name = _text(records[b"path"]) if b"path" in records else None
    if any(key.startswith(b"GNU.sparse.") for key in records):
        raise _sparse(name or "", position - BLOCK_BYTES)
    size = _pax_size(records[b"size"], position) if b"size" in records else None
    if header.kind == _PAX_GLOBAL and not (name is None and size is None):
        raise OssTarError(f"the global header at byte {position} names all members or their sizes, which can't be true")
    return _Overrides(name, size)


def _pax_records(data: bytes, position: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and value of each record `length key=value\\n`."""
    start = 0
    while start < len(data) and data[start]:
        digits, blank, _ = data[start : start + 20].partition(b" ")
        length = int(digits) if blank and digits.isdigit() else 0
        record = data[start + len(digits) + 1 : start + length]
        key, equals, value = record[:-1].partition(b"=")
        if not equals or record[-1:] != b"\n" or start + length > len(data):
            raise OssTarError(f"the pax header at byte {position} is damaged")
        yield key, value
        start += length


def _pax_size(value: bytes, position: int) -> int:
    if not value.isdigit() or len(value) > 19:
        raise OssTarError(f"the pax header at byte {position} has a size that is no number: {value!r:.40}")
    return int(value)


def _number(block: bytes, start: int, stop: int) -> int | None:
    """Return a number field, octal or (if its first bit is set) binary; None if it has no size's value."""
    field = block[start:stop]
    if field[0] & 0x80:
        number = int.from_bytes(field, "big") - (0x80 << 8 * (len(field) - 1))
        return number if field[0] == 0x80 and number <= LARGEST_SIZE else None
    digits = field.partition(b"\0")[0].strip(b" ")
    if digits.strip(b"01234567"):
        return None
    return int(digits or b"0", 8)


def byte_sum(block: bytes) -> int:
    """Return the sum of a header's bytes: a tenth of the time that `sum` takes, and there is one for each member."""
    # The lower half of an Adler-32 is 1 plus the sum of the bytes, modulo 65521; that of 256 bytes is smaller.
    half = BLOCK_BYTES // 2
    return (adler32(block[:half]) & 0xFFFF) + (adler32(block[half:]) & 0xFFFF) - 2


def _signed_sum(block: bytes, unsigned: int) -> int:
    """Return the checksum as programs compute it that take bytes for signed numbers."""
    rest = block[:148] + block[156:]
    return unsigned - 256 * sum(byte >= 0x80 for byte in rest)


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _sparse(name: str, position: int) -> OssTarError:
    return OssTarError(
        f"{name!r:.200} at byte {position} is a sparse file, which only tar itself can unpack: make the tar without "
        "--sparse"
    )


def _not_a_tar(block: bytes) -> str:
    for magic, program in _COMPRESSED.items():
        if block.startswith(magic):
            return f"compressed by {program}, so that members can't be read one by one: decompress it first"
    return "no tar: there is no header at its beginning"
