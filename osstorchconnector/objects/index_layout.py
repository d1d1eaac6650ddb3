"""How the table of objects looks in bytes: a head of one page, then blocks of rows, only ever appended. Pure.

    head    magic, two slots that take turns telling how far the table has come, and why it failed if it did
    block   counts | sizes: q[rows] | ends of names: I[rows] | ends of labels: I[rows] | base | names | labels | cursor

A name is `bucket/key`; what all names of a block begin with is stored once, as its base. A block also says where
its source can go on after it (the cursor), so that whoever takes over an unfinished table needs nothing else.
"""

from __future__ import annotations

import enum
import json
import pickle
import struct
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, repeat
from os.path import commonprefix
from typing import Any, NamedTuple

from ..errors import OssError
from ..uri import OssUri
from .info import ObjectInfo

HEAD_BYTES = 4096
MAGIC = struct.pack("=Q", 0x0131_3058_4449_534F)  # "OSIDX01" where the byte order is this machine's
UNKNOWN_SIZE = -1

_SLOT_OFFSETS = (64, 128)
_SLOT = struct.Struct("=QQQQQI")
_CHECK = struct.Struct("=I")
_FAILURE_OFFSET = 256
_FAILURE = struct.Struct("=II")
_BLOCK = struct.Struct("=IIIIIIII")
_BLOCK_MAGIC = 0x4B4C_4249
_ASCII, _LABELLED = 1, 2


class State(enum.IntEnum):
    """Whether more rows are to come."""

    GROWING = 0
    COMPLETE = 1
    FAILED = 2


class Progress(NamedTuple):
    """How far a table has come.

    `last` is where the latest block stands (0 if there is none) and `end` where the next one goes; `skipped` objects
    were left out on purpose; `sequence` grows with every change.
    """

    sequence: int = 0
    rows: int = 0
    last: int = 0
    end: int = HEAD_BYTES
    skipped: int = 0
    state: State = State.GROWING


class Batch(NamedTuple):
    """Rows to append: names are `base + tail`, sizes may be `UNKNOWN_SIZE`, no labels means that all are empty."""

    base: str
    tails: Sequence[str]
    sizes: Sequence[int]
    labels: Sequence[Any] | None = None
    cursor: bytes = b""
    skipped: int = 0


def pack_progress(progress: Progress) -> tuple[int, bytes]:
    """Return where the progress goes and its bytes: never over the slot that is valid now."""
    body = _SLOT.pack(*progress)
    return _SLOT_OFFSETS[progress.sequence % 2], body + _CHECK.pack(zlib.crc32(body))


def unpack_progress(head: memoryview) -> Progress:
    """Return the latest progress that was written whole; that of an empty table if there is none."""
    latest = Progress()
    for offset in _SLOT_OFFSETS:
        body = head[offset : offset + _SLOT.size]
        if _CHECK.unpack_from(head, offset + _SLOT.size)[0] == zlib.crc32(body):
            sequence, rows, last, end, skipped, state = _SLOT.unpack(body)
            if sequence > latest.sequence:
                latest = Progress(sequence, rows, last, end, skipped, State(state))
    return latest


def pack_failure(kind: str, text: str) -> tuple[int, bytes]:
    """Return where the reason of a failure goes and its bytes, the text shortened to what the head has room for."""
    room = HEAD_BYTES - _FAILURE_OFFSET - _FAILURE.size - len(kind)
    shown = text.encode("utf-8", "backslashreplace")[:room]
    return _FAILURE_OFFSET, _FAILURE.pack(len(kind), len(shown)) + kind.encode() + shown


def unpack_failure(head: memoryview) -> tuple[str, str]:
    """Return the class name and the text of the error that ended the table."""
    kind_bytes, text_bytes = _FAILURE.unpack_from(head, _FAILURE_OFFSET)
    start = _FAILURE_OFFSET + _FAILURE.size
    kind = bytes(head[start : start + kind_bytes])
    text = bytes(head[start + kind_bytes : start + kind_bytes + text_bytes])
    return kind.decode("utf-8", "replace"), text.decode("utf-8", "replace")


def pack_block(batch: Batch) -> bytes:
    """Return the rows as one block; its length is a multiple of eight."""
    shared = commonprefix([min(batch.tails), max(batch.tails)]) if batch.tails else ""
    tails = [tail[len(shared) :] for tail in batch.tails] if shared else batch.tails
    base = (batch.base + shared).encode()
    joined = "".join(tails)
    names = joined.encode()
    lengths = map(len, tails) if joined.isascii() else (len(tail.encode()) for tail in tails)
    labels = [_pack_label(label) for label in batch.labels or ()]
    label_text = b"".join(labels)
    flags = (_ASCII if joined.isascii() else 0) | (_LABELLED if label_text else 0)
    parts = [
        array("q", batch.sizes).tobytes(),
        array("I", accumulate(lengths)).tobytes(),
        array("I", accumulate(map(len, labels))).tobytes() if label_text else b"",
        base,
        names,
        label_text,
        batch.cursor,
    ]
    used = _BLOCK.size + sum(map(len, parts))
    total = -(-used // 8) * 8
    counts = (_BLOCK_MAGIC, total, flags, len(tails), len(base), len(names), len(label_text), len(batch.cursor))
    return b"".join([_BLOCK.pack(*counts), *parts, bytes(total - used)])


class Block:
    """The rows of one block, read where they lie; nothing is decoded before it is asked for."""

    __slots__ = ("_ascii", "_base", "_ends", "_label_ends", "_labels", "_names", "_sizes", "cursor", "rows")

    def __init__(self, table: memoryview, offset: int) -> None:
        _, _, flags, rows, base_bytes, name_bytes, label_bytes, cursor_bytes = _block_counts(table, offset)
        self.rows, self._ascii = rows, bool(flags & _ASCII)
        place = offset + _BLOCK.size
        place, self._sizes = place + 8 * rows, table[place : place + 8 * rows].cast("q")
        place, self._ends = place + 4 * rows, table[place : place + 4 * rows].cast("I")
        label_rows = rows if flags & _LABELLED else 0
        place, self._label_ends = place + 4 * label_rows, table[place : place + 4 * label_rows].cast("I")
        place, self._base = place + base_bytes, str(table[place : place + base_bytes], "utf-8")
        place, self._names = place + name_bytes, table[place : place + name_bytes]
        place, self._labels = place + label_bytes, table[place : place + label_bytes]
        self.cursor = bytes(table[place : place + cursor_bytes])

    def info(self, row: int) -> ObjectInfo:
        """Return one row of the block."""
        start = self._ends[row - 1] if row else 0
        uri = _uri(self._base + str(self._names[start : self._ends[row]], "utf-8"))
        return ObjectInfo(uri, _size(self._sizes[row]), self._label(row) if self._label_ends else "")

    def infos(self, first: int = 0, step: int = 1) -> list[ObjectInfo]:
        """Return the rows `first`, `first + step` and so on to the block's end."""
        tails = self._tails(first, step)
        bucket, slash, key_base = self._base.partition("/")
        if slash:
            uris = list(map(OssUri, repeat(bucket), [key_base + tail for tail in tails]))
        else:
            uris = [_uri(bucket + tail) for tail in tails]
        sizes = [size if size >= 0 else None for size in self._sizes[first::step]]
        labels = [self._label(row) for row in range(first, self.rows, step)] if self._label_ends else repeat("")
        return list(map(ObjectInfo, uris, sizes, labels))

    def _tails(self, first: int, step: int) -> list[str]:
        ends = self._ends.tolist()
        spans = zip([0, *ends[:-1]][first::step], ends[first::step], strict=True)
        if self._ascii:
            text = str(self._names, "ascii")
            return [text[start:end] for start, end in spans]
        data = bytes(self._names)
        return [data[start:end].decode() for start, end in spans]

    def _label(self, row: int) -> Any:
        start = self._label_ends[row - 1] if row else 0
        return _unpack_label(bytes(self._labels[start : self._label_ends[row]]))


class Table:
    """The rows of all blocks so far: appended to with `extend`, which one thread at a time may call."""

    def __init__(self) -> None:
        self._memory = memoryview(b"")
        self._offsets, self._firsts = array("Q"), array("Q")
        self._latest: tuple[int, Block] | None = None
        self.rows = 0

    def extend(self, memory: memoryview, start: int, end: int) -> None:
        """Take in the blocks between `start` and `end` of `memory`, which also holds all that came before."""
        self._memory = memory
        while start < end:
            _, total, _, rows, *_ = _block_counts(memory[:end], start)
            if rows:
                self._offsets.append(start)
                self._firsts.append(self.rows)
                self.rows += rows
            start += total

    def infos_from(self, position: int, step: int = 1) -> list[ObjectInfo]:
        """Return rows `position`, `position + step` and so on as far as one block goes; none if it is not there yet."""
        if position >= self.rows:
            return []
        block, first = self._block_of(position)
        return block.infos(position - first, step)

    def info(self, position: int) -> ObjectInfo:
        """Return one row, which must be there."""
        block, first = self._block_of(position)
        return block.info(position - first)

    def _block_of(self, position: int) -> tuple[Block, int]:
        number = bisect_right(self._firsts, position) - 1
        latest = self._latest
        if latest is None or latest[0] != number:
            self._latest = latest = (number, Block(self._memory, self._offsets[number]))
        return latest[1], self._firsts[number]


def _block_counts(table: memoryview, offset: int) -> tuple[int, ...]:
    if offset + _BLOCK.size <= len(table):
        counts = _BLOCK.unpack_from(table, offset)
        if counts[0] == _BLOCK_MAGIC and _BLOCK.size <= counts[1] <= len(table) - offset:
            return counts
    raise OssError(f"the table of objects is damaged: there is no block of rows at byte {offset}")


def _uri(name: str) -> OssUri:
    bucket, _, key = name.partition("/")
    return OssUri(bucket, key)


def _size(stored: int) -> int | None:
    return stored if stored >= 0 else None


def _pack_label(label: Any) -> bytes:
    if type(label) is str:
        return b"s" + label.encode("utf-8", "surrogatepass") if label else b""
    if _is_plain(label):
        return b"j" + json.dumps(label).encode()
    return b"p" + pickle.dumps(label, pickle.HIGHEST_PROTOCOL)


def _unpack_label(stored: bytes) -> Any:
    kind, body = stored[:1], stored[1:]
    if kind == b"s":
        return body.decode("utf-8", "surrogatepass")
    if kind == b"j":
        return json.loads(body)
    # The file is the user's own: no other user could have written it (see index_file.py).
    return pickle.loads(body) if kind == b"p" else ""


def _is_plain(value: Any) -> bool:
    """Whether JSON gives the value back exactly as it was."""
    kind = type(value)
    if kind is list:
        return all(map(_is_plain, value))
    if kind is dict:
        return all(type(key) is str for key in value) and all(map(_is_plain, value.values()))
    return value is None or kind in (bool, int, float, str)
