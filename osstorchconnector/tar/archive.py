"""Tars made of objects or of local files, and indexes of tars: `generate_tar_archive`.

    objects below a prefix, or files of a folder -> shards -> header and body of each, in order -> tar, then its index

Objects are fetched ahead, many at a time, while the tar is written; memory for what is ahead is bounded. A tar appears
when it is whole, and its index after it. So a run that was killed leaves whole shards, and the next run can keep them.
"""

from __future__ import annotations

import contextlib
import itertools
import tarfile
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from ..client.client import OssClient, as_client
from ..client.operations import Operations
from ..errors import OssConfigError, OssError, OssNotFoundError, OssTarError
from ..files.reader import OssReader
from ..files.writer import OssWriter
from ..local_files import written_whole
from ..protocol.values import ByteSpan, Download
from ..uri import OssUri, parse_object_uri, parse_uri
from .headers import BLOCK_BYTES, TarEntry, entries, next_entry, padded
from .index_file import TarIndex, index_of, pack_index, unpack_index

# The first request of an object. The rest of a larger one is read while it is written.
_FIRST_BYTES = 4 << 20
_AHEAD_BYTES = 64 << 20
_PIECE_BYTES = 4 << 20
_END = bytes(2 * BLOCK_BYTES)

Progress = Callable[[int, int], object]


class _Source(NamedTuple):
    """What becomes a member: its name, its size in bytes, and where it is."""

    name: str
    size: int
    place: OssUri | Path
    etag: str = ""


def generate_tar_archive(
    endpoint: str | OssClient,
    cred_path: str,
    config_path: str,
    tar_path: str,
    index_path: str,
    source_path: str,
    index_only: bool = False,
    cred_provider: object | None = None,
    region: str = "",
    *,
    shard_bytes: int = 0,
    resume: bool = False,
    progress: Progress | None = None,
) -> int:
    """Pack the objects below a prefix, or the files of a folder, into a tar with an index; return 0.

    All paths are `oss://bucket/key` or local. Members are in the order of the listing, by name; empty ones are kept. A
    member of an object is named `/bucket/key`, that of a file by its path. With `index_only` nothing is packed: the
    index is made of the tar that is at `tar_path`, and `source_path` is not looked at.

    With `shard_bytes` several tars are made, each of about so many bytes: of `a.tar` and `a.tar.idx`, `a-00000.tar`,
    `a-00000.tar.idx` and so on. `resume` keeps tars that are there already with an index of the same names and sizes.
    `progress` is called with the bytes of the bodies that are packed, and those of all.

    An error leaves no tar that is not whole. Raises `OssNotFoundError` if there is nothing to pack, `OssTarError` for a
    tar that can't be indexed or a file that changes meanwhile, and the errors of requests.
    """
    client = as_client(
        endpoint, cred_path=cred_path, cred_provider=cred_provider, config_path=config_path, region=region
    )
    tar, index = _place(tar_path), _place(index_path)
    if index_only:
        _write_index(client, index, _index_of_tar(client, tar))
        return 0
    sources = [source for source in _sources(client, source_path) if source.place not in (tar, index)]
    if not sources:
        raise OssNotFoundError(f"there is nothing to pack under {source_path}")
    packed = _Packed(progress, sum(source.size for source in sources))
    for number, shard in enumerate(_shards(sources, shard_bytes)):
        tar_place = _numbered(tar, number) if shard_bytes else tar
        index_place = _numbered(index, number) if shard_bytes else index
        if resume and _is_there(client, tar_place, index_place, shard):
            packed.add(sum(source.size for source in shard))
            continue
        _write_index(client, index_place, _pack(client, tar_place, shard, packed))
    return 0


class _Packed:
    """Counts the bytes that are packed, and tells the user's function."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            self._progress(self._done, self._total)


def _place(path: str) -> OssUri | Path:
    return parse_object_uri(path) if path.startswith("oss://") else Path(path)


def _sources(client: OssClient, source_path: str) -> Iterator[_Source]:
    if not source_path.startswith("oss://"):
        for path in sorted(path for path in Path(source_path).rglob("*") if path.is_file()):
            yield _Source(str(path), path.stat().st_size, path)
        return
    prefix = parse_uri(source_path)
    for listed in client.list(prefix):
        if listed.size or not listed.key.endswith("/"):
            uri = OssUri(prefix.bucket, listed.key)
            yield _Source(uri.path, listed.size, uri, listed.etag)


def _shards(sources: list[_Source], shard_bytes: int) -> Iterator[list[_Source]]:
    """Yield the members of each tar: as many as it takes, by the bytes of their bodies and headers."""
    if shard_bytes < 0:
        raise OssConfigError(f"shard_bytes: {shard_bytes} is less than 0")
    shard: list[_Source] = []
    size = 0
    for source in sources:
        needed = BLOCK_BYTES + padded(source.size)
        if shard_bytes and shard and size + needed > shard_bytes:
            yield shard
            shard, size = [], 0
        shard.append(source)
        size += needed
    yield shard


def _numbered(place: OssUri | Path, number: int) -> OssUri | Path:
    name = place.key if isinstance(place, OssUri) else str(place)
    folder, slash, file = name.rpartition("/")
    base, dot, rest = file.partition(".")
    numbered = f"{folder}{slash}{base}-{number:05}{dot}{rest}"
    return OssUri(place.bucket, numbered) if isinstance(place, OssUri) else Path(numbered)


def _pack(client: OssClient, place: OssUri | Path, sources: list[_Source], packed: _Packed) -> TarIndex:
    """Write a tar, and return its index: of what its headers say to a reader, without reading it again."""
    found: list[TarEntry] = []
    position = 0
    with _writing(client, place) as tar, contextlib.closing(_bodies(client, sources)) as bodies:
        for source, body in zip(sources, bodies, strict=True):
            headers, entry = _headers(source, position)
            tar.write(headers)
            written = 0
            for piece in body:
                tar.write(piece)
                written += len(piece)
            if written != source.size:
                raise OssTarError(f"{source.name} had {source.size} bytes, and now {written}: it changed meanwhile")
            tar.write(bytes(padded(written) - written))
            found.append(entry)
            position = entry.stop
            packed.add(written)
        tar.write(_END)
    etag = client.head(place).etag if isinstance(place, OssUri) else ""
    return index_of(found, tar_size=position + len(_END), etag=etag)


def _headers(source: _Source, position: int) -> tuple[bytes, TarEntry]:
    """Return the headers of a member at this position, and the entry that they make."""
    member = tarfile.TarInfo(source.name)
    member.size = source.size
    headers = member.tobuf(tarfile.PAX_FORMAT)
    entry = next_entry(lambda start, size: headers[start - position : start - position + size], position)
    assert entry is not None
    return headers, entry


def _bodies(client: OssClient, sources: list[_Source]) -> Generator[Iterable[bytes], None, None]:
    """Yield the pieces of each source, in order. All are objects, or all are files."""
    if isinstance(sources[0].place, Path):
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
            place = downloads.item.place
            assert isinstance(place, OssUri)
            yield _pieces(client, place, download)


async def _fetch(operations: Operations, source: _Source) -> Download:
    assert isinstance(source.place, OssUri)
    span = ByteSpan(0, min(source.size, _FIRST_BYTES) or 1)
    return await operations.get(source.place, span, if_match=source.etag)


def _pieces(client: OssClient, uri: OssUri, download: Download) -> Iterator[bytes]:
    if download.span.stop >= download.stat.size:
        yield download.body
        return
    with OssReader(client, uri, transfer=client.config.dataset, first=download) as reader:
        yield from iter(lambda: reader.read(_PIECE_BYTES), b"")


def _pieces_of_file(path: Path) -> Iterator[bytes]:
    with open(path, "rb") as file:
        yield from iter(lambda: file.read(_PIECE_BYTES), b"")


def _writing(client: OssClient, place: OssUri | Path) -> contextlib.AbstractContextManager[OssWriter | IO[bytes]]:
    if isinstance(place, OssUri):
        return OssWriter(client, place, transfer=client.config.checkpoint)
    return written_whole(place)


# --- indexes


def _index_of_tar(client: OssClient, place: OssUri | Path) -> TarIndex:
    """Return the index of a tar that is there, made of its headers."""
    with contextlib.ExitStack() as stack:
        file: OssReader | IO[bytes]
        if isinstance(place, OssUri):
            stat = client.head(place)
            size, etag = stat.size, stat.etag
            nothing = Download(stat, ByteSpan(0, 0), b"", 0)
            file = stack.enter_context(OssReader(client, place, transfer=client.config.dataset, first=nothing))
        else:
            size, etag = place.stat().st_size, ""
            file = stack.enter_context(open(place, "rb"))

        def read(position: int, count: int) -> bytes:
            file.seek(position)
            return file.read(count)

        try:
            return index_of(_whole(entries(read), size), tar_size=size, etag=etag)
        except OssTarError as error:
            raise OssTarError(f"{place} can't be read as a tar: {error}") from None


def _whole(found: Iterable[TarEntry], size: int) -> Iterator[TarEntry]:
    for entry in found:
        if entry.body + entry.size > size:
            raise OssTarError(f"cut off in the body of {entry.name!r:.200}")
        yield entry


def _write_index(client: OssClient, place: OssUri | Path, index: TarIndex) -> None:
    with _writing(client, place) as file:
        file.write(pack_index(index))


def _is_there(client: OssClient, tar: OssUri | Path, index: OssUri | Path, shard: list[_Source]) -> bool:
    """Say whether a tar and its index are there and have these members."""
    try:
        if isinstance(tar, OssUri):
            stat = client.head(tar)
            size, etag = stat.size, stat.etag
        else:
            size, etag = tar.stat().st_size, ""
        data = client.get(index).body if isinstance(index, OssUri) else index.read_bytes()
        found = unpack_index(data, size)
    except (OssError, OSError):
        return False
    if found.details is None or found.etag != etag:
        return False
    held = itertools.zip_longest(found.details.names, found.details.sizes)
    return list(held) == [(source.name, source.size) for source in shard]
