"""What becomes a tar: objects below a prefix, or files of a folder, and their bytes in order.

Objects are fetched ahead, many at a time; memory for what is ahead is bounded. The first request of each takes the
short way to the wire, which pins no ETag. So the answer's ETag is compared with that of the listing here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..client.client import OssClient
from ..client.local.folders import UNFINISHED
from ..client.operations import Operations
from ..errors import OssObjectChangedError, OssTarError
from ..files.reader import OssReader
from ..protocol.values import ByteSpan, Download
from ..redaction import printable
from ..uri import OssUri, parse_object_uri, parse_uri

# The first request of an object. The rest of a larger one is read while it is written.
_FIRST_BYTES = 4 << 20
_AHEAD_BYTES = 64 << 20
_PIECE_BYTES = 4 << 20

Place = OssUri | Path
Piece = tuple[bytes, int | None]  # with their CRC-64, if it is known already


class TarSource(NamedTuple):
    """What becomes a member: its name, its size in bytes, where it is, and which bytes it has: ETag or times."""

    name: str
    size: int
    place: Place
    etag: str


def place_of(path: str) -> Place:
    """Return where `oss://bucket/key` or a local path is."""
    return parse_object_uri(path) if path.startswith("oss://") else Path(path)


def sources_in(client: OssClient, source_path: str) -> Iterator[TarSource]:
    """Yield the objects below a prefix, or the files of a folder, by name."""
    if not source_path.startswith("oss://"):
        files = (path for path in Path(source_path).rglob("*") if path.is_file())
        for path in sorted(path for path in files if not path.name.startswith(UNFINISHED)):
            stat = path.stat()
            yield TarSource(str(path), stat.st_size, path, f"{stat.st_mtime_ns} {stat.st_ctime_ns}")
        return
    prefix = parse_uri(source_path)
    for listed in client.list(prefix):
        if listed.size or not listed.key.endswith("/"):
            uri = OssUri(prefix.bucket, listed.key)
            yield TarSource(uri.path, listed.size, uri, listed.etag)


def bodies_of(client: OssClient, sources: list[TarSource]) -> Generator[Iterable[Piece], None, None]:
    """Yield the pieces of each source, in order. All are objects, or all are files.

    Raises `OssObjectChangedError` for an object that was replaced since it was listed, `OssTarError` for a file that is
    written to while it is read.
    """
    if all(isinstance(source.place, Path) for source in sources):
        yield from (_pieces_of_file(source.place) for source in sources if isinstance(source.place, Path))
        return
    config = client.config.dataset
    downloads = client.map(
        _fetch,
        sources,
        concurrency=config.prefetch_concurrency,
        workers=config.prefetch_worker,
        weight=lambda source: min(source.size, _FIRST_BYTES),
        max_bytes=_AHEAD_BYTES,
        size=lambda download: len(download.body),
    )
    with contextlib.closing(downloads):
        for download in downloads:
            if download.span.stop >= download.stat.size:
                yield ((download.body, download.crc64),)
            else:
                yield _pieces(client, downloads.item, download)


async def _fetch(operations: Operations, source: TarSource) -> Download:
    uri = source.place
    assert isinstance(uri, OssUri)
    download = await operations.get(uri, ByteSpan(0, min(source.size, _FIRST_BYTES) or 1))
    if source.etag not in ("", download.stat.etag):
        raise OssObjectChangedError(
            f"{uri.shown} was replaced since it was listed (ETag {printable(source.etag, 40)}, "
            f"now {printable(download.stat.etag, 40)}): pack again"
        )
    return download


def _pieces(client: OssClient, source: TarSource, download: Download) -> Iterator[Piece]:
    assert isinstance(source.place, OssUri)
    with OssReader(client, source.place, transfer=client.config.dataset, first=download) as reader:
        yield from ((piece, None) for piece in iter(lambda: reader.read(_PIECE_BYTES), b""))


def _pieces_of_file(path: Path) -> Iterator[Piece]:
    before = path.stat().st_mtime_ns
    with open(path, "rb") as file:
        yield from ((piece, None) for piece in iter(lambda: file.read(_PIECE_BYTES), b""))
    if path.stat().st_mtime_ns != before:
        raise OssTarError(f"{path} was written to while it was packed: it changed meanwhile")
