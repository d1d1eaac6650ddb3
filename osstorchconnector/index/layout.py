"""The bytes of the table of objects: a head of one page, then blocks of rows, which are only ever appended.

    head    magic, two slots that are written in turn with the table's progress, and the reason if it failed
    block   counts | sizes: q[rows] | ends of names: I[rows] | ends of labels: I[rows] | base | names | labels | cursor

A name is `bucket/key`. The common beginning of all names of a block is stored once, as its base. A block also has the
point where its source resumes after it (the cursor), so that another process can continue an unfinished table.

A block of members of a tar also has where each of them lies, before the ends of the names: starts: q[rows] |
stops: q[rows]. Its names are those in the tar, and its base is JSON: the tar, its ETag, whether a row is a
sample of several members, and the names' base.

If labels are numbers of classes, a block without rows comes first, whose base is JSON: the names of the classes.
"""

from __future__ import annotations

import enum
import struct
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, repeat
from os.path import commonprefix
from typing import Any, NamedTuple, TypeVar

from ..errors import OssError
from ..uri import MemberUri, OssUri
from .info import ObjectInfo
from .labels import pack_classes, pack_label, unpack_classes, unpack_label
from .tar_places import TarPlaces, tar_head

T = TypeVar("T")
N = TypeVar("N", bound=tuple[Any, ...])

HEAD_BYTES = 4096
MAGIC = struct.pack("=Q", 0x0131_3058_4449_534F)  # "OSIDX01", or another number in a file of the other byte order

_SLOT_OFFSETS = (64, 128)
_SLOT = struct.Struct("=QQQQQI")
_CHECK = struct.Struct("=I")
_FAILURE_OFFSET = 256
_FAILURE = struct.Struct("=II")
UNKNOWN_SIZE = -1

_BLOCK = struct.Struct("=IIIIIIII")
_SIZE, _END, _SPAN = struct.Struct("=q"), struct.Struct("=I"), struct.Struct("=II")
_BLOCK_MAGIC = 0x4B4C_4249
_ASCII, _LABELLED, _MEMBERS, _CLASSES = 1, 2, 4, 8


class TableState(enum.IntEnum):
    """Whether more rows will come."""

    GROWING = 0
    COMPLETE = 1
    FAILED = 2


class TableProgress(NamedTuple):
    """The progress of a table.

    `last` is the offset of the latest block (0 if there is none), `end` that of the next one. `skipped` is the number
    of objects that were left out on purpose. `sequence` grows with every change.
    """

    sequence: int = 0
    rows: int = 0
    last: int = 0
    end: int = HEAD_BYTES
    skipped: int = 0
    state: TableState = TableState.GROWING


class Batch(NamedTuple):
    """Rows to append. A name is `base + tail`. A size may be `UNKNOWN_SIZE`. `labels=None` means that all are empty.

    With `places` the rows are members of a tar, and a name is the member's, "" if it is not known. A batch with
    `classes`, the names of the classes that labels of later rows are numbers of, has no rows.
    """

    base: str
    tails: Sequence[str]
    sizes: Sequence[int]
    labels: Sequence[Any] | None = None
    cursor: bytes = b""
    skipped: int = 0
    places: TarPlaces | None = None
    classes: Sequence[str] = ()


def pack_progress(progress: TableProgress) -> tuple[int, bytes]:
    """Return offset and bytes of the progress. They never overwrite the current slot, since readers take no lock.

    So a reader finds at least one slot whole, even if the writer is killed in the middle of a write.
    """
    body = _SLOT.pack(*progress)
    return _SLOT_OFFSETS[progress.sequence % 2], body + _CHECK.pack(zlib.crc32(body))


def unpack_progress(head: memoryview) -> TableProgress:
    """Return the latest progress with a valid checksum; that of an empty table if there is none."""
    latest = TableProgress()
    for offset in _SLOT_OFFSETS:
        slot = bytes(head[offset : offset + _SLOT.size + _CHECK.size])  # what is checked may change meanwhile
        body = slot[: _SLOT.size]
        if _CHECK.unpack_from(slot, _SLOT.size)[0] == zlib.crc32(body):
            sequence, rows, last, end, skipped, state = _SLOT.unpack(body)
            if sequence > latest.sequence:
                latest = TableProgress(sequence, rows, last, end, skipped, TableState(state))
    return latest


def pack_failure(kind: str, text: str) -> tuple[int, bytes]:
    """Return offset and bytes of the reason of a failure. The text is cut to the space in the head."""
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
    """Return the rows as one block. Its length is a multiple of eight bytes."""
    shared = commonprefix([min(batch.tails), max(batch.tails)]) if batch.tails else ""
    tails = [tail[len(shared) :] for tail in batch.tails] if shared else batch.tails
    places = batch.places
    whole = batch.base + shared
    base = (whole if places is None else places.head(whole)).encode()
    if batch.classes:
        base = pack_classes(batch.classes)
    joined = "".join(tails)
    names = joined.encode()
    lengths = map(len, tails) if joined.isascii() else (len(tail.encode()) for tail in tails)
    labels = [pack_label(label) for label in batch.labels or ()]
    label_text = b"".join(labels)
    flags = (_ASCII if joined.isascii() else 0) | (_LABELLED if label_text else 0)
    flags |= (0 if places is None else _MEMBERS) | (_CLASSES if batch.classes else 0)
    parts = [
        array("q", batch.sizes).tobytes(),
        b"" if places is None else array("q", [*places.starts, *places.stops]).tobytes(),
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


class RowBlock:
    """The rows of one block, read in place. Nothing is decoded before it is asked for."""

    __slots__ = (
        "_base_at",
        "_cursor_at",
        "_ends_at",
        "_has_classes",
        "_is_ascii",
        "_label_ends_at",
        "_labels_at",
        "_memory",
        "_names_at",
        "_sizes_at",
        "_stop",
        "is_of_tar",
        "rows",
    )

    def __init__(self, memory: memoryview, offset: int) -> None:
        _, _, flags, rows, base_bytes, name_bytes, label_bytes, cursor_bytes = _block_counts(memory, offset)
        self.rows, self._memory, self._is_ascii = rows, memory, bool(flags & _ASCII)
        self._has_classes = bool(flags & _CLASSES)
        self._sizes_at = offset + _BLOCK.size
        self.is_of_tar = bool(flags & _MEMBERS)
        self._ends_at = self._sizes_at + 8 * rows * (3 if self.is_of_tar else 1)
        self._label_ends_at = self._ends_at + 4 * rows
        self._base_at = self._label_ends_at + (4 * rows if flags & _LABELLED else 0)
        self._names_at = self._base_at + base_bytes
        self._labels_at = self._names_at + name_bytes
        self._cursor_at = self._labels_at + label_bytes
        self._stop = self._cursor_at + cursor_bytes

    @property
    def cursor(self) -> bytes:
        """The point where the source resumes after this block."""
        return bytes(self._memory[self._cursor_at : self._stop])

    def info(self, row: int) -> ObjectInfo:
        """Return one row of the block."""
        if self.is_of_tar:
            return self._member(row)
        memory, names_at = self._memory, self._names_at
        start, end = self._span(self._ends_at, row)
        (size,) = _SIZE.unpack_from(memory, self._sizes_at + 8 * row)
        name = str(memory[self._base_at : names_at], "utf-8") + str(memory[names_at + start : names_at + end], "utf-8")
        return ObjectInfo(_uri(name), size if size >= 0 else None, self._label(row) if self.is_labelled else "")

    def infos(self, first: int = 0, step: int = 1) -> list[ObjectInfo]:
        """Return the rows `first`, `first + step` and so on to the block's end."""
        if self.is_of_tar:
            return self._members(first, step)
        base = str(self._memory[self._base_at : self._names_at], "utf-8")
        bucket, slash, key_base = base.partition("/")
        tails = self._tails(first, step)
        uris: Iterable[OssUri]
        if slash:
            uris = _named_tuples(OssUri, zip(repeat(bucket), [key_base + tail for tail in tails]))
        else:
            uris = [_uri(base + tail) for tail in tails]
        stored = self._column(0)[first::step]
        sizes = [size if size >= 0 else None for size in stored]
        labels = self._labels(first, step)
        return list(_named_tuples(ObjectInfo, zip(uris, sizes, labels, repeat(""))))

    def batch(self, cursor: bytes) -> Batch:
        """Return the rows as they were appended. Raise `OssError` if labels are pickled."""
        if self._has_classes:
            return Batch("", (), (), None, cursor, classes=self.classes)
        places, base = None, str(self._memory[self._base_at : self._names_at], "utf-8")
        if self.is_of_tar:
            tar, etag, are_samples, base = self._tar_and_base()
            places = TarPlaces(tar, etag, self._column(1).tolist(), self._column(2).tolist(), are_samples)
        sizes = self._column(0).tolist()
        labels = None
        if self.is_labelled:
            if self.has_pickled_labels:
                raise OssError("the saved index has labels that are not plain values: loading them could run anything")
            labels = list(map(unpack_label, self.stored_labels()))
        return Batch(base, self._tails(), sizes, labels, cursor, places=places)

    @property
    def sizes(self) -> memoryview:
        """The sizes of all rows in bytes, as 64-bit numbers; `UNKNOWN_SIZE` where it is not known."""
        return self._column(0)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that labels of later rows are numbers of; none in a block of rows."""
        return unpack_classes(bytes(self._memory[self._base_at : self._names_at])) if self._has_classes else ()

    def stored_labels(self) -> list[bytes]:
        """Return the labels of all rows as they are stored, for `unpack_label`; equal labels are equal bytes."""
        if not self.is_labelled:
            return [b""] * self.rows
        ends = self._memory[self._label_ends_at : self._base_at].cast("I").tolist()
        data = bytes(self._memory[self._labels_at : self._cursor_at])
        return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]

    @property
    def has_pickled_labels(self) -> bool:
        """Whether labels are pickled, so that reading them could run code."""
        return self.is_labelled and any(label[:1] == b"p" for label in self.stored_labels())

    @property
    def is_labelled(self) -> bool:
        """Whether any row has a label."""
        return self._base_at != self._label_ends_at

    def _member(self, row: int) -> ObjectInfo:
        memory, names_at, sizes_at = self._memory, self._names_at, self._sizes_at + 8 * row
        tar, etag, are_samples, base = self._tar_and_base()
        bucket, _, tar_key = tar.partition("/")
        start, end = self._span(self._ends_at, row)
        name = base + str(memory[names_at + start : names_at + end], "utf-8")
        size, first, stop = (_SIZE.unpack_from(memory, sizes_at + 8 * self.rows * column)[0] for column in range(3))
        uri = MemberUri(bucket, name, tar_key, first, stop, are_samples)
        return ObjectInfo(uri, size if size >= 0 else None, self._label(row) if self.is_labelled else "", etag)

    def _members(self, first: int, step: int) -> list[ObjectInfo]:
        tar, etag, are_samples, base = self._tar_and_base()
        bucket, _, tar_key = tar.partition("/")
        sizes, starts, stops = (self._column(number)[first::step] for number in range(3))
        names = [base + tail for tail in self._tails(first, step)]
        fields = zip(repeat(bucket), names, repeat(tar_key), starts, stops, repeat(are_samples))
        known_sizes = [size if size >= 0 else None for size in sizes]
        uris = _named_tuples(MemberUri, fields)
        return list(_named_tuples(ObjectInfo, zip(uris, known_sizes, self._labels(first, step), repeat(etag))))

    def _tar_and_base(self) -> tuple[str, str, bool, str]:
        return tar_head(bytes(self._memory[self._base_at : self._names_at]))

    def _column(self, number: int) -> memoryview:
        """Return the sizes (0), or where members begin (1) and end (2)."""
        start = self._sizes_at + 8 * self.rows * number
        return self._memory[start : start + 8 * self.rows].cast("q")

    def _tails(self, first: int = 0, step: int = 1) -> list[str]:
        ends = self._memory[self._ends_at : self._label_ends_at].cast("I").tolist()
        spans = zip([0, *ends][first : self.rows : step], ends[first::step], strict=True)
        names = self._memory[self._names_at : self._labels_at]
        if self._is_ascii:
            text = str(names, "ascii")
            return [text[start:end] for start, end in spans]
        data = bytes(names)
        return [data[start:end].decode() for start, end in spans]

    def _labels(self, first: int, step: int) -> Iterable[Any]:
        return map(unpack_label, self.stored_labels()[first::step]) if self.is_labelled else repeat("")

    def _label(self, row: int) -> Any:
        start, end = self._span(self._label_ends_at, row)
        return unpack_label(bytes(self._memory[self._labels_at + start : self._labels_at + end]))

    def _span(self, ends_at: int, row: int) -> tuple[int, int]:
        if row:
            start, end = _SPAN.unpack_from(self._memory, ends_at + 4 * (row - 1))
            return start, end
        return 0, _END.unpack_from(self._memory, ends_at)[0]


def row_blocks(memory: memoryview) -> Iterator[tuple[RowBlock, memoryview]]:
    """Yield each of the blocks that follow one another in `memory`, and its bytes."""
    start = 0
    while start < len(memory):
        stop = start + block_bytes(bytes(memory[start : start + _BLOCK.size]))
        yield RowBlock(memory, start), memory[start:stop]
        start = stop


def block_bytes(head: bytes) -> int:
    """Return the length of the block that begins with `head`; 0 if no block begins so."""
    if len(head) < _BLOCK.size:
        return 0
    magic, total, *_ = _BLOCK.unpack_from(head)
    return total if magic == _BLOCK_MAGIC and total >= _BLOCK.size else 0


class Table:
    """The rows of all blocks so far. Only one thread at a time may call `extend`."""

    def __init__(self) -> None:
        self._memory = memoryview(b"")
        self._offsets, self._firsts = array("Q"), array("Q")
        self._latest: tuple[int, RowBlock] | None = None
        self.rows = 0

    def extend(self, memory: memoryview, start: int, end: int) -> None:
        """Add the blocks between `start` and `end` of `memory`, which must also have all earlier blocks."""
        self._memory = memory
        while start < end:
            _, total, _, rows, *_ = _block_counts(memory[:end], start)
            if rows:
                self._offsets.append(start)
                self._firsts.append(self.rows)
                self.rows += rows
            start += total

    def infos_from(self, position: int, step: int = 1) -> list[ObjectInfo]:
        """Return rows `position`, `position + step` and so on to the end of its block; none if it is not there yet."""
        if position >= self.rows:
            return []
        block, first = self._block_of(position)
        return block.infos(position - first, step)

    def info(self, position: int) -> ObjectInfo:
        """Return one row, which must exist."""
        block, first = self._block_of(position)
        return block.info(position - first)

    def _block_of(self, position: int) -> tuple[RowBlock, int]:
        number = bisect_right(self._firsts, position) - 1
        # One load and one store of a whole tuple: threads that look up rows at once need no lock.
        latest = self._latest
        if latest is None or latest[0] != number:
            self._latest = latest = (number, RowBlock(self._memory, self._offsets[number]))
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


def _named_tuples(kind: type[N], rows: Iterable[tuple[Any, ...]]) -> Iterator[N]:
    # The same as `kind._make`, without a Python call per row.
    return map(tuple.__new__, repeat(kind), rows)
