"""The zip archive that `torch.save` makes of one tensor, written and read around the tensor's own bytes.

Written is what torch writes, byte for byte but for the serialization id: a head, the tensor's bytes, and a tail that
holds their CRC-32. Read is any archive of that kind, whatever the order of its records.
"""

from __future__ import annotations

import struct
import sys
from typing import NamedTuple

from ..protocol.checksum import crc32
from ..protocol.values import Buffer

DATA_ALIGNMENT_BYTES = 64
_MAX_32 = 0xFFFFFFFF
LOCAL_SIGNATURE, _DESCRIPTOR, _CENTRAL, _END64, _LOCATOR64, _END = (
    b"PK\x03\x04",
    b"PK\x07\x08",
    b"PK\x01\x02",
    b"PK\x06\x06",
    b"PK\x06\x07",
    b"PK\x05\x06",
)
_FLAGS = 0x0808  # names are UTF-8, sizes and CRC-32 stand behind the data
_END_BYTES, _LOCATOR_BYTES, _END64_BYTES = 22, 20, 56
_ALL_ENDS_BYTES = _END_BYTES + _LOCATOR_BYTES + _END64_BYTES
# Of the records' names; a checksum that differs from machine to machine in torch, too.
_ID_OF_NAMES = b"15728199511854643026"


class Record(NamedTuple):
    """A record of an archive: where its bytes are, counted from the archive's beginning, and their CRC-32."""

    start: int
    size: int
    crc: int


class NotAnArchiveError(ValueError):
    """These bytes are not an archive as `torch.save` writes one."""


class Archive(NamedTuple):
    """An archive around `data_bytes` bytes that are not here: what stands before and behind them."""

    head: bytes
    data_bytes: int
    tail_template: bytes
    directory_crc_at: int  # where in the tail the directory has the data's CRC-32

    @property
    def size(self) -> int:
        return len(self.head) + self.data_bytes + len(self.tail_template)

    def tail(self, data_crc: int) -> bytes:
        """What stands behind the data, whose CRC-32 is `data_crc`."""
        tail = bytearray(self.tail_template)
        tail[4:8] = tail[self.directory_crc_at : self.directory_crc_at + 4] = data_crc.to_bytes(4, "little")
        return bytes(tail)


def archive_around(pickle: bytes, data_bytes: int) -> Archive:
    """Return the archive of a tensor with this pickle, whose storage has `data_bytes` bytes, at least one."""
    writer = _Writer(0, [])
    writer.add(b"archive/data.pkl", pickle)
    writer.add(b"archive/.format_version", b"1")
    writer.add(b"archive/.storage_alignment", b"%d" % DATA_ALIGNMENT_BYTES)
    writer.add(b"archive/byteorder", sys.byteorder.encode())
    start = writer.position
    writer.out += _local_header(b"archive/data/0", start, data_bytes)
    head = bytes(writer.out)
    behind = _Writer(len(head) + data_bytes, writer.entries)
    behind.entries.append((b"archive/data/0", start, data_bytes, 0))
    behind.out += _descriptor(0, data_bytes, start)
    behind.add(b"archive/version", b"3\n")
    behind.add(b"archive/.data/serialization_id", _ID_OF_NAMES + b"%020d" % data_bytes)
    before_data_entry = _directory(behind.entries[:4], 0)
    directory_crc_at = len(behind.out) + len(before_data_entry) - _ALL_ENDS_BYTES + 16
    tail = bytes(behind.out) + _directory(behind.entries, behind.position)
    return Archive(head, data_bytes, tail, directory_crc_at)


class _Writer:
    """Records one after another, in the way of torch's miniz."""

    def __init__(self, base: int, entries: list[tuple[bytes, int, int, int]]) -> None:
        self.base, self.entries, self.out = base, entries, bytearray()

    @property
    def position(self) -> int:
        return self.base + len(self.out)

    def add(self, name: bytes, data: bytes) -> None:
        start, crc = self.position, crc32(data)
        self.out += _local_header(name, start, len(data)) + data + _descriptor(crc, len(data), start)
        self.entries.append((name, start, len(data), crc))


def _zip64(*values: int) -> bytes:
    return struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values) if values else b""


def _local_header(name: bytes, start: int, size: int) -> bytes:
    values = (size, size) if size >= _MAX_32 else ()
    extra = _zip64(*values, *((start,) if start >= _MAX_32 else ()))
    padding = -(start + 30 + len(name) + len(extra) + 4) % DATA_ALIGNMENT_BYTES
    extra += b"FB" + struct.pack("<H", padding) + b"Z" * padding
    return struct.pack("<4s5H3I2H", LOCAL_SIGNATURE, 0, _FLAGS, 0, 0, 0, 0, 0, 0, len(name), len(extra)) + name + extra


def _descriptor(crc: int, size: int, start: int) -> bytes:
    sizes = "QQ" if size >= _MAX_32 or start >= _MAX_32 else "II"
    return struct.pack(f"<4sI{sizes}", _DESCRIPTOR, crc, size, size)


def _directory(entries: list[tuple[bytes, int, int, int]], position: int) -> bytes:
    out = bytearray()
    for name, start, size, crc in entries:
        values = (size, size) if size >= _MAX_32 else ()
        extra = _zip64(*values, *((start,) if start >= _MAX_32 else ()))
        short_size, short_start = min(size, _MAX_32), min(start, _MAX_32)
        out += struct.pack("<4s6H3I5H2I", _CENTRAL, 0, 0, _FLAGS, 0, 0, 0, crc, short_size, short_size,
                           len(name), len(extra), 0, 0, 0, 0, short_start)  # fmt: skip
        out += name + extra
    size, count, end64 = len(out), len(entries), position + len(out)
    out += struct.pack("<4sQ2H2I4Q", _END64, 44, 0x031E, 45, 0, 0, count, count, size, position)
    out += struct.pack("<4sIQI", _LOCATOR64, 0, end64, 1)
    out += struct.pack("<4s4H2IH", _END, 0, 0, count, count, size, min(position, _MAX_32), 0)
    return bytes(out)


def stated_crc(tail: Buffer) -> int | None:
    """Return the CRC-32 that stands right behind a record's data; None if nothing stands there."""
    descriptor = bytes(tail[:8])
    return int.from_bytes(descriptor[4:], "little") if descriptor.startswith(_DESCRIPTOR) else None


def read_directory(archive: Buffer) -> dict[str, Record]:
    """Return the records of a whole archive by name, without the folder they are in (`data.pkl`, `data/0`).

    Raises `NotAnArchiveError` unless it is an uncompressed archive that ends where the bytes end.
    """
    view = memoryview(archive)
    try:
        return dict(_central_entries(view))
    except (struct.error, IndexError, OverflowError, UnicodeDecodeError) as error:
        raise NotAnArchiveError(f"a damaged archive: {error}") from None


def _central_entries(view: memoryview) -> list[tuple[str, Record]]:
    position, count = _find_directory(view)
    found = []
    for _ in range(count):
        fields = struct.unpack_from("<4s6H3I5H2I", view, position)
        signature, method, crc, size = fields[0], fields[4], fields[7], fields[9]
        name_bytes, extra_bytes, comment_bytes, start = fields[10], fields[11], fields[12], fields[16]
        if signature != _CENTRAL or method != 0:
            raise NotAnArchiveError("an archive with records that torch does not write")
        name_stop = position + 46 + name_bytes
        name = bytes(view[position + 46 : name_stop]).decode()
        size, start = _full_values(view[name_stop : name_stop + extra_bytes], fields[8], size, start)
        found.append((name.partition("/")[2], Record(_data_start(view, start), size, crc)))
        position = name_stop + extra_bytes + comment_bytes
    return found


def _find_directory(view: memoryview) -> tuple[int, int]:
    end = len(view) - _END_BYTES
    if end < 0 or bytes(view[end : end + 4]) != _END:
        raise NotAnArchiveError("no archive ends here")
    count, _, start = struct.unpack_from("<HII", view, end + 10)
    locator = end - _LOCATOR_BYTES
    if locator >= 0 and bytes(view[locator : locator + 4]) == _LOCATOR64:
        end64 = struct.unpack_from("<Q", view, locator + 8)[0]
        if bytes(view[end64 : end64 + 4]) != _END64:
            raise NotAnArchiveError("the archive's directory is not where it should be")
        count, _, start = struct.unpack_from("<3Q", view, end64 + 32)
    return start, count


def _full_values(extra: memoryview, packed: int, size: int, start: int) -> tuple[int, int]:
    """Return size and start, from the ZIP64 field where they do not fit into 32 bits."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        if kind == 1:
            values = list(struct.unpack_from(f"<{length // 8}Q", extra, 4))
            size = values.pop(0) if size == _MAX_32 else size
            if packed == _MAX_32:
                values.pop(0)
            start = values.pop(0) if start == _MAX_32 else start
        extra = extra[4 + length :]
    return size, start


def _data_start(view: memoryview, header: int) -> int:
    signature, name_bytes, extra_bytes = struct.unpack_from("<4s22xHH", view, header)
    if signature != LOCAL_SIGNATURE:
        raise NotAnArchiveError("a record is not where the archive's directory says")
    return int(header + 30 + name_bytes + extra_bytes)
