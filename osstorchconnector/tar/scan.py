"""The entries of a tar whose index is missing or says too little: its headers are read.

Only a header tells where the next one is. To ask for one after the other takes a round trip for each. So the tar is cut
into segments of some 32 members, and many are looked through at a time, each from the first bytes in it that look like
a header:

    first bytes -> how far members are apart -> segments -> `_look` -> pieces: bytes of headers -> entries, in order

Where members are small, a segment is fetched whole. Where they are large, its headers alone are, one after the other.

What comes this way is bytes, no more: a cache. The chain of headers is followed from the first one to the last, and one
that is not here is asked for alone. So a tar within the tar, whose headers look like others, costs nothing but time.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..client.client import OssClient
from ..client.limits import FAR_SECONDS
from ..client.operations import Operations
from ..client.pipeline import Pipeline
from ..errors import OssTarError
from ..protocol.values import ByteSpan, Download, ObjectStat
from ..uri import OssUri
from .headers import BLOCK_BYTES, TarEntry, entries, next_entry, padded, parse_header
from .index_file import TarIndex, index_of

# The first request: the headers of many small members, or that of a large one.
_FIRST_BYTES = 64 << 10
# Members nearer than this are fetched with the bytes between them, since a request costs client and server about as
# much as 100 KiB. Far away it also costs time, of which large requests take less.
_NEAR_BYTES, _FAR_BYTES = 64 << 10, 256 << 10
_DENSE_BYTES = 4 << 20
# The members of a segment, and how many times their distance is searched for the first of them.
_SEGMENT_MEMBERS, _SEARCHED_MEMBERS = 32, 4
_MOST_WINDOW_BYTES = 4 << 20
# A segment that takes more requests than this is left; the next ones begin there, and are smaller.
_MOST_PIECES = 2 * _SEGMENT_MEMBERS
# Entries over which distances are averaged.
_REMEMBERED = 16
# Segments that are looked through at a time, unless the config says how many; and the bytes that are ahead.
_CONCURRENCY = 64
_AHEAD_BYTES = 96 << 20
# What is fetched of a member to read its headers; eight times as much, up to all of it, where they are longer.
HEADER_BYTES = 4096
_HEADER_GROWTH = 8
# Where a header has its magic word, and how every tar program since 1988 writes it.
_MAGIC_AT, _MAGIC = 257, b"ustar"


class _Segment(NamedTuple):
    span: ByteSpan
    member_bytes: int  # how far members were apart when it was cut
    is_dense: bool


class _Piece(NamedTuple):
    start: int
    data: bytes

    @property
    def stop(self) -> int:
        return self.start + len(self.data)


class _Found(NamedTuple):
    """What a segment has: pieces in their order. From `stop` on it was not looked through."""

    pieces: list[_Piece]
    stop: int


def scan(client: OssClient, uri: OssUri, stat: ObjectStat, start: int = 0) -> Generator[TarEntry, None, None]:
    """Yield the entries of a tar from `start` on, where one begins. Close it if you stop before the end.

    Raises `OssTarError` where the tar is damaged or cut off.
    """
    with contextlib.closing(_Headers(client, uri, stat)) as headers:
        for entry in _whole(entries(headers.read, start), stat.size):
            headers.note(entry)
            yield entry


def scanned_index(client: OssClient, place: OssUri | Path) -> TarIndex:
    """Return the index of a tar in OSS, or of a local one, made of its headers; `OssTarError` if it is no whole tar."""
    try:
        if isinstance(place, OssUri):
            stat = client.head(place)
            return index_of(scan(client, place, stat), tar_size=stat.size, etag=stat.etag)
        with open(place, "rb") as file:

            def read(position: int, count: int) -> bytes:
                file.seek(position)
                return file.read(count)

            size = place.stat().st_size
            return index_of(_whole(entries(read), size), tar_size=size)
    except OssTarError as error:
        raise unreadable(place, error) from None


def unreadable(place: object, error: OssTarError) -> OssTarError:
    """Return the error for a tar that is none, or damaged, with what to do."""
    return OssTarError(f"{place} can't be read as a tar: {error}; pack it again (docs/errors.md#osstarerror)")


def _whole(found: Iterable[TarEntry], size: int) -> Iterator[TarEntry]:
    """Yield the entries of a tar of `size` bytes. Raise `OssTarError` where it ends before the body of one does."""
    for entry in found:
        if entry.body + entry.size > size:
            raise OssTarError(f"cut off in the body of {entry.name!r:.200}, which has {entry.size} bytes")
        yield entry


class _Headers:
    """Reads what stands where headers are, from front to back, and has more of it fetched ahead."""

    def __init__(self, client: OssClient, uri: OssUri, stat: ObjectStat) -> None:
        self._client, self._uri, self._stat = client, uri, stat
        self._pieces: deque[_Piece] = deque()
        self._alone = _Piece(0, b"")  # what was not among them
        self._ahead: Pipeline[_Segment, _Found] | None = None
        self._reached = 0  # what is before it was fetched ahead, as far as it could be
        self._position = 0  # of the next header
        self._seen, self._member_bytes = 0, 0.0
        self._near_bytes = _NEAR_BYTES

    def note(self, entry: TarEntry) -> None:
        """Take in where the next header is."""
        self._seen += 1
        self._member_bytes += (entry.stop - entry.start - self._member_bytes) / min(self._seen, _REMEMBERED)
        self._position = entry.stop

    def read(self, position: int, size: int) -> bytes:
        """Return bytes of the tar: as many as asked for, unless it ends before. Positions never go back."""
        size = min(size, self._stat.size - position)
        if size <= 0:
            return b""
        found = self._here(position, size)
        if len(found) < size and self._seen:
            self._look_ahead(position, position + size)
            found = self._here(position, size)
        if len(found) < size:
            self._alone = self._fetched(position, size)
            found = self._alone.data[:size]
        return found

    def close(self) -> None:
        """Stop fetching."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _here(self, position: int, size: int) -> bytes:
        """Return the bytes that have come, from `position` on without a gap."""
        while self._pieces and self._pieces[0].stop <= position:
            self._pieces.popleft()
        if self._alone.start <= position and position + size <= self._alone.stop:
            return self._alone.data[position - self._alone.start :][:size]
        found = b""
        for piece in self._pieces:
            at = position + len(found) - piece.start
            if len(found) == size or not 0 <= at < len(piece.data):
                break
            found += piece.data[at : at + size - len(found)]
        return found

    def _look_ahead(self, position: int, stop: int) -> None:
        """Wait for the segments up to `stop`; begin to fetch them if that was not done, or went wrong."""
        while self._reached < stop:
            if self._ahead is None:
                self._reached = position
                concurrency = self._client.config.dataset.prefetch_concurrency
                self._ahead = self._client.map(
                    self._look,
                    self._segments(position),
                    concurrency=_CONCURRENCY if concurrency == "auto" else concurrency,
                    workers=1,
                    weight=lambda segment: segment.span.size if segment.is_dense else _FIRST_BYTES,
                    max_bytes=_AHEAD_BYTES,
                )
            found = next(self._ahead)
            self._pieces += found.pieces
            self._reached = found.stop
            if found.stop < self._ahead.item.span.stop:
                self.close()

    def _segments(self, start: int) -> Iterator[_Segment]:
        """Yield the segments from `start` on, as large as members are apart by then."""
        while start < self._stat.size:
            member_bytes = int(self._member_bytes)
            is_dense = member_bytes <= self._near_bytes
            stop = start + (_DENSE_BYTES if is_dense else padded(_SEGMENT_MEMBERS * member_bytes))
            yield _Segment(ByteSpan(start, min(stop, self._stat.size)), member_bytes, is_dense)
            start = max(stop, self._position)  # a large body, which has been passed over

    async def _look(self, operations: Operations, segment: _Segment) -> _Found:
        span = segment.span
        if segment.is_dense:
            found = await operations.get(self._uri, span, if_match=self._stat.etag)
            return _Found([_Piece(span.start, found.body)], span.stop)
        pieces: list[_Piece] = []
        position = await self._search(operations, segment)
        while position < span.stop:
            if len(pieces) == _MOST_PIECES:
                return _Found(pieces, position)
            download, stop = await _headers_from(operations, self._uri, self._stat, position)
            pieces.append(_Piece(position, download.body))
            if stop == position:
                break
            position = stop
        return _Found(pieces, span.stop)

    async def _search(self, operations: Operations, segment: _Segment) -> int:
        """Return where the first header in a segment may be; its end if there is none."""
        span, member_bytes = segment.span, segment.member_bytes
        window_bytes = padded(min(max(member_bytes // 2, _FIRST_BYTES), _MOST_WINDOW_BYTES))
        stop = min(span.start + _SEARCHED_MEMBERS * member_bytes, span.stop)
        for start in range(span.start, stop, window_bytes):
            window = ByteSpan(start, min(start + window_bytes, span.stop))
            download = await operations.get(self._uri, window, if_match=self._stat.etag)
            at = _header_in(download.body)
            if at >= 0:
                return start + at
        return span.stop

    def _fetched(self, position: int, size: int) -> _Piece:
        size = max(size, HEADER_BYTES if self._seen else _FIRST_BYTES)
        begun = time.perf_counter()
        span = ByteSpan(position, min(position + size, self._stat.size))
        download = self._client.get(self._uri, span, if_match=self._stat.etag)
        if time.perf_counter() - begun >= FAR_SECONDS:
            self._near_bytes = _FAR_BYTES
        return _Piece(position, download.body)


def _header_in(data: bytes) -> int:
    """Return where the first header in whole blocks is, by its magic word and its checksum; -1 if there is none."""
    at = data.find(_MAGIC, _MAGIC_AT)
    while at >= 0:
        start = at - _MAGIC_AT
        if not start % BLOCK_BYTES:
            with contextlib.suppress(OssTarError):
                parse_header(data[start : start + BLOCK_BYTES], start)
                return start
        at = data.find(_MAGIC, at + 1)
    return -1


async def _headers_from(operations: Operations, uri: OssUri, stat: ObjectStat, start: int) -> tuple[Download, int]:
    """Return bytes with the headers at `start`, and where the entries in them end; `start` if they are no headers."""
    try:
        entry, download = await headers_at(operations, uri, stat, start, stat.size)
    except OssTarError:
        return Download(stat, ByteSpan(start, start), b"", 0), start
    stop = start
    with contextlib.suppress(_NeedsMoreError, OssTarError):
        while entry is not None:
            stop = entry.stop
            entry = next_entry(_Reading(download), stop)
    return download, stop


async def headers_at(
    operations: Operations, uri: OssUri, stat: ObjectStat, start: int, stop: int
) -> tuple[TarEntry | None, Download]:
    """Return the entry whose first header is at `start`, and the bytes of its headers; None at the end of the tar.

    Bytes from `stop` on are not fetched. Raises `OssTarError` if no whole headers are there.
    """
    size = HEADER_BYTES
    while True:
        span = ByteSpan(start, min(start + size, stop))
        download = await operations.get(uri, span, if_match=stat.etag)
        try:
            return next_entry(_Reading(download), start), download
        except _NeedsMoreError:
            if span.stop == stop:
                raise OssTarError("its headers go on behind it") from None
            size *= _HEADER_GROWTH


class _NeedsMoreError(Exception):
    """The headers go on behind the bytes that were fetched."""


class _Reading:
    """Reads from the bytes that were fetched."""

    def __init__(self, download: Download) -> None:
        self._data, (self._start, stop) = download.body, download.span
        self._goes_on = stop < download.stat.size

    def __call__(self, position: int, size: int) -> bytes:
        found = self._data[position - self._start : position - self._start + size]
        if len(found) < size and self._goes_on:
            raise _NeedsMoreError
        return found
