"""Saved indexes: a listing or a manifest of an earlier job, in a local file or in OSS.

    magic | block, CRC-64 | block, CRC-64 | ... | end mark: number of rows, CRC-64

Blocks are those of the table of objects (index/layout.py). Each CRC-64 is that of all bytes of the file before it, but
for the other sums: a CRC over data and its CRC is the same for all data. So no row is given out before it is known to
be what was saved where it was saved, and the end mark tells that none is missing. Files of earlier versions have
another magic, and neither sums nor an end mark.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import struct
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future
from typing import IO, Any, NamedTuple

from ..client.client import OssClient
from ..errors import OssConfigError, OssError, OssIntegrityError, OssUsageError
from ..files.reader import OssReader
from ..files.writer import OssWriter
from ..index.filters import Filter, Filtered, as_keep, described
from ..index.layout import MAGIC as MAGIC_BEFORE
from ..index.layout import Batch, RowBlock, block_bytes, row_blocks
from ..index.shared import ObjectIndex, SharedIndex
from ..index.shared_file import Source, Wait
from ..index.tar_places import TarPlaces
from ..local_files import written_whole
from ..protocol.checksum import crc64
from ..uri import parse_object_uri
from .numbered_objects import NumberedObjects

MAGIC = struct.pack("=Q", 0x0132_3058_4449_534F)  # "OSIDX02" where the byte order is this machine's

_HEAD_BYTES = 32
_PIECE_BYTES = 8 << 20
_SUM = struct.Struct("=Q")
_END = struct.Struct("=8sQQ")
_END_MARK = b"OSIDXEND"

_logger = logging.getLogger(__name__)


def save_index(index: ObjectIndex, place: str | os.PathLike[str], client: OssClient) -> None:
    """Store a table of objects, when it is complete, in a local file or an `oss://bucket/key`: whole or not at all.

    `OssUsageError` if it has labels that `from_index` would not load.
    """
    blocks, rows, sum_ = index.blocks(), 0, crc64(MAGIC)
    with _written(os.fspath(place), client) as file:
        file.write(MAGIC)
        for block, data in row_blocks(blocks):
            if block.has_pickled_labels:
                raise OssUsageError(
                    "the index can't be saved: it has labels that are not plain values (numbers, texts, lists and "
                    "dictionaries of them), and from_index loads no others, since loading them could run anything"
                )
            for piece in range(0, len(data), _PIECE_BYTES):
                file.write(data[piece : piece + _PIECE_BYTES])
            rows, sum_ = rows + block.rows, crc64(data, sum_)
            file.write(_SUM.pack(sum_))
        end = _END.pack(_END_MARK, rows, 0)[: -_SUM.size]
        file.write(end + _SUM.pack(crc64(end, sum_)))


class _Cursor(NamedTuple):
    """How far a saved index has been read: the offset in bytes, the rows, and the CRC-64 of the blocks before."""

    offset: int
    rows: int
    sum: int


class SavedListing:
    """The rows of a saved index, block by block; `OssIntegrityError` for one that is not as it was saved."""

    def __init__(self, client: OssClient, place: str) -> None:
        self._client, self._place = client, place

    def batches(self, cursor: bytes, wait: Wait = Future.result) -> Generator[Batch, None, None]:
        with _opened(self._place, self._client) as file:
            magic = file.read(len(MAGIC))
            if magic not in (MAGIC, MAGIC_BEFORE):
                raise OssError(
                    f"{self._place} is not a saved index, or one of another version or kind of machine: save it again "
                    "by save_index"
                )
            whole, place = (
                file.seek(0, os.SEEK_END),
                _Cursor(*map(int, cursor.split() or (len(MAGIC), 0, crc64(MAGIC)))),
            )
            file.seek(place.offset)
            if magic == MAGIC:
                yield from self._checked(file, whole, place)
            else:
                if not cursor:
                    _logger.warning(
                        "the saved index %s is of an earlier version, which can't tell whether it is as it was saved: "
                        "save it again by save_index",
                        self._place,
                    )
                yield from self._unchecked(file, whole, place)

    def _checked(self, file: IO[bytes], whole: int, place: _Cursor) -> Generator[Batch, None, None]:
        while True:
            head = file.read(_HEAD_BYTES)
            if head[: len(_END_MARK)] == _END_MARK:
                self._check_end(head, whole, place)
                return
            data, size = self._block(file, head, whole - _SUM.size, place.offset)
            sum_ = crc64(data, place.sum)
            if file.read(_SUM.size) != _SUM.pack(sum_):
                raise self._damaged(place.offset)
            batch = self._batch(data, place.offset)
            place = _Cursor(place.offset + size + _SUM.size, place.rows + len(batch.tails), sum_)
            yield batch._replace(cursor=b"%d %d %d" % place)

    def _unchecked(self, file: IO[bytes], whole: int, place: _Cursor) -> Generator[Batch, None, None]:
        while head := file.read(_HEAD_BYTES):
            data, size = self._block(file, head, whole, place.offset)
            batch = self._batch(data, place.offset)
            place = place._replace(offset=place.offset + size)
            yield batch._replace(cursor=b"%d %d %d" % place)

    def _block(self, file: IO[bytes], head: bytes, whole: int, offset: int) -> tuple[bytes, int]:
        """Return the block that begins with `head`, which can't take more memory than the file is long."""
        size = block_bytes(head)
        if not size or size > whole - offset:
            raise self._damaged(offset)
        data = head + file.read(size - len(head))
        if len(data) != size:
            raise self._damaged(offset)
        return data, size

    def _batch(self, data: bytes, offset: int) -> Batch:
        try:
            return read_block(memoryview(data), b"")
        except OssError as error:
            raise OssError(f"the saved index {self._place}, byte {offset}: {error}") from error

    def _check_end(self, end: bytes, whole: int, place: _Cursor) -> None:
        stated = _END.pack(_END_MARK, place.rows, crc64(end[: -_SUM.size], place.sum))
        if end != stated or place.offset + len(end) != whole:
            raise self._damaged(place.offset)

    def _damaged(self, offset: int) -> OssIntegrityError:
        return OssIntegrityError(
            f"the saved index {self._place} is damaged or cut off: what stands at byte {offset} is not what was saved; "
            "save it again by save_index"
        )


def read_block(memory: memoryview, cursor: bytes) -> Batch:
    """Return the rows of a block that may come from another user.

    Raises `OssError` if it is damaged, if a name is not an object's, or if reading it could run code.
    """
    try:
        batch = RowBlock(memory, 0).batch(cursor)
        if len(batch.sizes) != len(batch.tails):
            raise ValueError("as many sizes as names are needed")
        if batch.places is None:
            _check_names(batch.base, batch.tails)
        else:
            _check_places(batch.places)
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError, struct.error) as error:
        if isinstance(error, OssError):
            raise
        raise OssError(f"a block of rows is damaged: {type(error).__name__}: {error}") from error
    return batch


def _check_names(base: str, tails: Sequence[str]) -> None:
    """Raise unless each name is that of an object.

    If the base has the bucket and a beginning of the key, only a name's length can still be wrong: check the longest.
    """
    if tails and re.search("/[^/\\\\]", base):
        tails = [max(tails, key=lambda tail: len(tail.encode()))]
    for tail in tails:
        parse_object_uri(f"/{base}{tail}")


def _check_places(places: TarPlaces) -> None:
    """Raise unless the tar is an object, and each member lies somewhere in it."""
    parse_object_uri(f"/{places.tar}")
    if any(not 0 <= start < stop for start, stop in zip(places.starts, places.stops, strict=True)):
        raise ValueError("a member of a tar has no place in it")


class OssSavedObjects(NumberedObjects):
    """Yield an `ObjectInfo` for each object of a saved index; nothing is listed."""

    def __init__(self, place: str | os.PathLike[str], client: OssClient, *, filter: Filter = None) -> None:
        name, keep = os.fspath(place), as_keep(filter)
        if name.startswith("oss://"):
            parse_object_uri(name)
        source: Source = SavedListing(client, name)
        if keep is not None:
            source = Filtered(source, keep)
        super().__init__(SharedIndex(source, folder=client.config.index_dir), f"saved {name} {described(keep)}")
        self.where = name


@contextlib.contextmanager
def _opened(place: str, client: OssClient) -> Iterator[Any]:
    if place.startswith("oss://"):
        with OssReader(client, parse_object_uri(place), transfer=client.config.dataset) as reader:
            yield reader
        return
    try:
        file = open(place, "rb")
    except OSError as error:
        raise OssConfigError(f"the saved index {place} can't be opened: {error.strerror}") from error
    with file:
        yield file


@contextlib.contextmanager
def _written(place: str, client: OssClient) -> Iterator[OssWriter | IO[bytes]]:
    if place.startswith("oss://"):
        with OssWriter(client, parse_object_uri(place), transfer=client.config.checkpoint) as writer:
            yield writer
        return
    try:
        with written_whole(place) as file:
            yield file
    except OSError as error:
        if isinstance(error, OssError):
            raise
        raise OssConfigError(f"the index can't be saved: {place}: {error.strerror}") from error
