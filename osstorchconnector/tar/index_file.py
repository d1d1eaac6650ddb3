"""The index of a tar: where its members are. The C++ connector's format, with an addition that it passes over.

    head    0    `TarIdx\\0\\0`
            8    u16 version 1 | u8 1 (zlib) | u8 6 (its level) | 8 zero bytes
            20   u64 bytes of the table | u64 numbers in it | u32 CRC-32C of the table
            40   our addition: magic, version, CRC-32C and sizes of the details, size and ETag of the tar
            508  u32 CRC-32C of the head, with zeros in its place
    table   zlib of u32 each: from one member's first header to the next one's, in blocks; the last one leads to the end
    details zlib of sizes: u64 each | from first header to body: u32 each | bytes of names: u32 each | names

Numbers are little-endian. The CRC-32Cs are begun with 0 and not inverted. Without details an index tells where members
begin and end, no more. An index comes from elsewhere: everything is checked before it is used, and before memory is
taken for it.
"""

from __future__ import annotations

import struct
import sys
import zlib
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from operator import add, sub
from typing import NamedTuple

from fastcrc.crc32 import iscsi

from ..errors import OssTarError
from .headers import BLOCK_BYTES, TarEntry, padded

HEAD_BYTES = 512
MAX_INDEX_BYTES = 1 << 30

_HEAD = struct.Struct("<8sHBB8xQQI")
_MAGIC, _VERSION, _ZLIB, _LEVEL = b"TarIdx\0\0", 1, 1, 6
_ADDITION = struct.Struct("<8sIIQQQB64s")
_ADDITION_MAGIC, _ADDITION_VERSION = b"OSSTORCH", 1
_CHECK = struct.Struct("<I")
_CHECK_AT = HEAD_BYTES - _CHECK.size
_LARGEST_STEP = (1 << 32) - 1
# Details of longer names are not written, and not read.
_MEAN_NAME_BYTES = 1 << 10
_DETAIL_BYTES = 16


class MemberDetails(NamedTuple):
    """What the index tells of the members beyond their places: columns, one entry for each member."""

    names: Sequence[str]
    bodies: Sequence[int]  # the position of the first byte
    sizes: Sequence[int]


class TarIndex(NamedTuple):
    """Where the members of a tar are: member n from `bounds[n]` up to `bounds[n + 1]`, its headers first.

    Behind a member's body there may be headers of directories and links. `tar_size` is the size in bytes of the tar
    that the index was made of, `etag` its ETag; -1 and "" where that is not known.
    """

    bounds: Sequence[int]
    details: MemberDetails | None = None
    tar_size: int = -1
    etag: str = ""

    @property
    def members(self) -> int:
        """The number of members."""
        return len(self.bounds) - 1


def index_of(entries: Iterable[TarEntry], *, tar_size: int = -1, etag: str = "") -> TarIndex:
    """Return the index of a tar with these entries, members and others."""
    members, stop = [], 0
    for entry in entries:
        stop = entry.stop
        if entry.is_member:
            members.append(entry)
    details = MemberDetails(
        [member.name for member in members], [member.body for member in members], [member.size for member in members]
    )
    return TarIndex([*(member.start for member in members), stop], details, tar_size, etag)


def pack_index(index: TarIndex) -> bytes:
    """Return the index as the bytes of a file. Raise `OssTarError` if there is no room for a distance in it."""
    bounds = [bound // BLOCK_BYTES for bound in index.bounds]
    steps = list(map(sub, bounds, [0, *bounds]))
    if max(steps) > _LARGEST_STEP:
        raise OssTarError("the index can't be written: a member is larger than 2 TiB")
    table = zlib.compress(_little_endian("I", steps), _LEVEL)
    addition, details = _pack_details(index)
    head = _HEAD.pack(_MAGIC, _VERSION, _ZLIB, _LEVEL, len(table), len(steps), _crc32c(table)) + addition
    head = head.ljust(_CHECK_AT, b"\0")
    return b"".join([head, _CHECK.pack(_crc32c(head + bytes(_CHECK.size))), table, details])


def table_bytes(head: bytes) -> int:
    """Return how many bytes follow the head of an index. Raise `OssTarError` if it is no head of an index."""
    _, _, _, _, packed_bytes, _, _ = _checked_head(head)
    addition = _addition(head)
    return packed_bytes + (addition[3] if addition is not None else 0)


def unpack_index(data: bytes, tar_size: int) -> TarIndex:
    """Return the index whose file has these bytes, of a tar that has `tar_size` bytes.

    Raises `OssTarError` if it is damaged, or can't be of a tar of this size.
    """
    _, _, _, _, packed_bytes, count, check = _checked_head(data)
    if not 1 <= count <= tar_size // BLOCK_BYTES + 1:
        raise OssTarError(f"it has {count - 1} members, and the tar of {tar_size} bytes can't")
    packed = data[HEAD_BYTES : HEAD_BYTES + packed_bytes]
    steps = _unpacked(packed, packed_bytes, check, 4 * count, "table")
    bounds = [bound * BLOCK_BYTES for bound in accumulate(_from_little_endian("I", steps))]
    if bounds[-1] > padded(tar_size) or 0 in _from_little_endian("I", steps)[1:]:
        raise OssTarError(f"its members end at byte {bounds[-1]}, and the tar has {tar_size} bytes")
    addition = _addition(data)
    if addition is None:
        return TarIndex(bounds)
    _, _, check, details_bytes, raw_bytes, stated_size, etag_bytes, etag = addition
    shown = etag[:etag_bytes].decode("ascii", "replace")
    if stated_size != tar_size:
        raise OssTarError(f"it was made of a tar of {stated_size} bytes, and this one has {tar_size}")
    most = (count - 1) * (_DETAIL_BYTES + _MEAN_NAME_BYTES)
    if not details_bytes:
        return TarIndex(bounds, None, tar_size, shown)
    if raw_bytes > most:
        raise OssTarError("the names in it are longer than names can be")
    start = HEAD_BYTES + packed_bytes
    raw = _unpacked(data[start : start + details_bytes], details_bytes, check, raw_bytes, "details")
    return TarIndex(bounds, _checked_details(raw, bounds), tar_size, shown)


def _pack_details(index: TarIndex) -> tuple[bytes, bytes]:
    """Return our addition to the head, and the details. They are left out where names are very long."""
    etag = index.etag.encode("ascii", "replace")
    if index.tar_size < 0 or len(etag) > 64:
        return b"", b""
    raw = details = b""
    if index.details is not None and index.members:
        names = [name.encode("utf-8", "surrogatepass") for name in index.details.names]
        raw = b"".join(
            [
                _little_endian("Q", index.details.sizes),
                _little_endian("I", map(sub, index.details.bodies, index.bounds)),
                _little_endian("I", map(len, names)),
                *names,
            ]
        )
        if len(raw) <= index.members * (_DETAIL_BYTES + _MEAN_NAME_BYTES):
            details = zlib.compress(raw, _LEVEL)
        else:
            raw = b""
    sizes = (len(details), len(raw), index.tar_size, len(etag))
    return _ADDITION.pack(_ADDITION_MAGIC, _ADDITION_VERSION, _crc32c(details), *sizes, etag), details


def _checked_head(head: bytes) -> tuple[bytes, int, int, int, int, int, int]:
    if len(head) < HEAD_BYTES or not head.startswith(_MAGIC):
        raise OssTarError("it is no index of a tar: it does not begin with TarIdx")
    (check,) = _CHECK.unpack_from(head, _CHECK_AT)
    if _crc32c(head[:_CHECK_AT] + bytes(_CHECK.size)) != check:
        raise OssTarError("its head is damaged: the checksum is wrong")
    fields: tuple[bytes, int, int, int, int, int, int] = _HEAD.unpack_from(head)
    if fields[1:3] != (_VERSION, _ZLIB):
        raise OssTarError(f"its format is {fields[1]}.{fields[2]}, and only {_VERSION}.{_ZLIB} is known")
    return fields


def _addition(head: bytes) -> tuple[bytes, int, int, int, int, int, int, bytes] | None:
    """Return our addition to the head; None if there is none, or one of a later version."""
    fields: tuple[bytes, int, int, int, int, int, int, bytes] = _ADDITION.unpack_from(head, _HEAD.size)
    return fields if fields[:2] == (_ADDITION_MAGIC, _ADDITION_VERSION) else None


def _unpacked(packed: bytes, packed_bytes: int, check: int, raw_bytes: int, what: str) -> bytes:
    if len(packed) != packed_bytes or _crc32c(packed) != check:
        raise OssTarError(f"its {what} is damaged or cut off: the checksum is wrong")
    unpacker = zlib.decompressobj()
    try:
        raw = unpacker.decompress(packed, raw_bytes + 1)
    except zlib.error as error:
        raise OssTarError(f"its {what} is damaged: {error}") from None
    if len(raw) != raw_bytes or not unpacker.eof:
        raise OssTarError(f"its {what} has not the size that it states")
    return raw


def _checked_details(raw: bytes, bounds: Sequence[int]) -> MemberDetails:
    count = len(bounds) - 1
    fixed = raw[: _DETAIL_BYTES * count]
    if len(fixed) < _DETAIL_BYTES * count:
        raise OssTarError("its details are of fewer members than its table")
    sizes = _from_little_endian("Q", fixed[: 8 * count])
    bodies = list(map(add, bounds, _from_little_endian("I", fixed[8 * count : 12 * count])))
    ends = list(accumulate(_from_little_endian("I", fixed[12 * count :])))
    names = raw[_DETAIL_BYTES * count :]
    if (ends[-1] if ends else 0) != len(names):
        raise OssTarError("its names have not the lengths that it states")
    for start, body, size, stop in zip(bounds, bodies, sizes, bounds[1:], strict=False):
        if body < start + BLOCK_BYTES or body + padded(size) > stop:
            raise OssTarError(f"the member at byte {start} has {size} bytes in it, and there is no room for them")
    try:
        text = [names[start:stop].decode() for start, stop in zip([0, *ends], ends, strict=False)]
    except UnicodeDecodeError as error:
        raise OssTarError(f"a name in it is not UTF-8: {error.reason}") from None
    return MemberDetails(text, bodies, sizes)


def _crc32c(data: bytes) -> int:
    # The function begins with the complement of what it is given, and returns the complement of what it found.
    return iscsi(data, 0xFFFF_FFFF) ^ 0xFFFF_FFFF


def _little_endian(kind: str, numbers: Iterable[int]) -> bytes:
    column = array(kind, numbers)
    if sys.byteorder == "big":
        column.byteswap()
    return column.tobytes()


def _from_little_endian(kind: str, data: bytes) -> array[int]:
    column = array(kind)
    column.frombytes(data)
    if sys.byteorder == "big":
        column.byteswap()
    return column
