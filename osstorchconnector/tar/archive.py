"""Tars made of objects or of local files, and indexes of tars: `generate_tar_archive`.

    objects below a prefix, or files of a folder -> shards -> header and body of each, in order -> tar, then its index
    all shards -> manifest

A tar appears when it is whole, and its index after it. So a run that was killed leaves whole shards, and the next run
can keep them. Of a large tar it leaves parts, and beside it a record of what they are made of: the next run adds the
others. `sources` says what is packed, `packing` how.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..client.client import OssClient, as_client
from ..errors import OssConfigError, OssError, OssNotFoundError, OssTarError
from ..files.writer import OssWriter
from ..local_files import written_whole
from ..protocol.values import BegunUpload
from ..uri import OssUri
from .headers import BLOCK_BYTES, TarEntry, padded
from .index_file import TarIndex, index_of, pack_index, unpack_index
from .packing import END, Output, header_of, pack
from .scan import scanned_index
from .sources import Place, TarSource, bodies_of, place_of, sources_in

# A tar of this many parts or more keeps them for the next run, if it is to resume. A smaller one is packed again.
_KEPT_PARTS = 8
_RECORD_SUFFIX = ".unfinished"

Progress = Callable[[int, int], object]


class _Targets(NamedTuple):
    """Where the tar and its index go, or those of all shards, and the manifest if there is one."""

    tar: Place
    beside: Place
    manifest: Place | None
    is_sharded: bool

    def shard(self, number: int) -> tuple[Place, Place]:
        """Return where the tar and the index of a shard go."""
        if not self.is_sharded:
            return self.tar, self.beside
        return _numbered(self.tar, f"{number:05}"), _numbered(self.beside, f"{number:05}")

    def include(self, place: Place) -> bool:
        """Say whether what is at this place was written by this run or an earlier one."""
        mine, text = [self.tar, self.beside], _text(place).removesuffix(_RECORD_SUFFIX)
        if self.is_sharded:
            mine += [_numbered(each, number) for number in re.findall(r"-(\d{5,})", text) for each in mine]
        if self.manifest is not None:
            mine.append(self.manifest)
        return text in map(_text, mine)


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
    anonymous: bool = False,
    shard_bytes: int = 0,
    shard_members: int = 0,
    manifest_uri: str = "",
    resume: bool = False,
    progress: Progress | bool | None = None,
) -> int:
    """Pack the objects below a prefix, or the files of a folder, into a tar with an index; return 0.

    All paths are `oss://bucket/key` or local. Members are in the order of the listing, by name; empty ones are kept. A
    member of an object is named `/bucket/key`, that of a file by its path. With `index_only` nothing is packed: the
    index is made of the tar that is at `tar_path`, and `source_path` is not looked at.

    `shard_bytes` and `shard_members` limit the size of a tar, and make several:
    of `a.tar` and `a.tar.idx`, `a-00000.tar`, `a-00000.tar.idx` and so on. `manifest_uri` is a file with a line of JSON
    for each tar, which is written at the end: pairs for `from_tar` are `list(jsonl_manifest_parser(file))`. `resume`
    keeps tars that are there already with an index of the same names and sizes, and goes on with a large one that an
    earlier run with `resume` was packing to OSS when it ended, unless what it packs has changed. `progress` is called
    with the bytes of the bodies that are packed, and those of all; True is a bar of tqdm, if that is installed.

    An error leaves no tar that is not whole. Raises `OssNotFoundError` if there is nothing to pack, `OssTarError` for a
    tar that can't be indexed or a file that changes meanwhile, and the errors of requests.
    """
    if shard_bytes < 0 or shard_members < 0:
        raise OssConfigError(f"shard_bytes={shard_bytes}, shard_members={shard_members}: one is less than 0")
    client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)
    targets = _Targets(
        place_of(tar_path),
        place_of(index_path),
        place_of(manifest_uri) if manifest_uri else None,
        is_sharded=bool(shard_bytes or shard_members),
    )
    if index_only:
        index = scanned_index(client, targets.tar)
        _write(client, targets.beside, pack_index(index))
        lines = [_manifest_line(targets.tar, targets.beside, index.members)]
    else:
        sources = [source for source in sources_in(client, source_path) if not targets.include(source.place)]
        if not sources:
            raise OssNotFoundError(f"there is nothing to pack under {source_path}")
        with _Packed(progress, sum(source.size for source in sources)) as packed:
            lines = [
                _shard(client, targets.shard(number), shard, packed, resume=resume)
                for number, shard in enumerate(_shards(sources, shard_bytes, shard_members))
            ]
    if targets.manifest is not None:
        _write(client, targets.manifest, b"".join(lines))
    return 0


def _shard(
    client: OssClient, places: tuple[Place, Place], sources: list[TarSource], packed: _Packed, *, resume: bool
) -> bytes:
    """Write a tar and its index, unless they are there, and return their line of the manifest."""
    tar, index = places
    if resume and _is_there(client, tar, index, sources):
        packed.add(sum(source.size for source in sources))
    else:
        begun = _begun_upload(client, tar, sources) if resume else None
        _write(client, index, pack_index(_pack(client, tar, sources, packed, begun)))
        if begun is not None:
            client.delete(_record(tar))
    return _manifest_line(tar, index, len(sources))


class _Packed:
    """Counts the bytes that are packed, and tells the user's function or shows a bar."""

    def __init__(self, progress: Progress | bool | None, total: int) -> None:
        self._total, self._done = total, 0
        self._bar = _bar(total) if progress is True else None
        self._callback = progress if callable(progress) else None

    def __enter__(self) -> _Packed:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def add(self, count: int) -> None:
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        if self._callback is not None:
            self._callback(self._done, self._total)


def _bar(total: int) -> Any:
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return None
    return tqdm(total=total, desc="pack", unit="B", unit_scale=True)


def _text(place: Place) -> str:
    return str(place if isinstance(place, OssUri) else place.absolute())


def _shards(sources: list[TarSource], most_bytes: int, most_members: int) -> Iterator[list[TarSource]]:
    """Yield the members of each tar: as many as it takes, by the bytes of their bodies and headers, and by number."""
    shard: list[TarSource] = []
    size = 0
    for source in sources:
        needed = BLOCK_BYTES + padded(source.size)
        is_full = (most_bytes and size + needed > most_bytes) or (most_members and len(shard) >= most_members)
        if shard and is_full:
            yield shard
            shard, size = [], 0
        shard.append(source)
        size += needed
    yield shard


def _numbered(place: Place, number: str) -> Place:
    name = place.key if isinstance(place, OssUri) else str(place)
    folder, slash, file = name.rpartition("/")
    base, dot, rest = file.partition(".")
    numbered = f"{folder}{slash}{base}-{number}{dot}{rest}"
    return OssUri(place.bucket, numbered) if isinstance(place, OssUri) else Path(numbered)


def _manifest_line(tar: Place, index: Place, members: int) -> bytes:
    line = {"key": _text(tar), "label": _text(index), "members": members}
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n"


def _pack(
    client: OssClient, place: Place, sources: list[TarSource], packed: _Packed, begun: BegunUpload | None
) -> TarIndex:
    """Write a tar, or the rest of one that was begun, and return its index."""
    seen: list[TarEntry] = []
    stop, there = 0, sum(part.size for part in begun.parts) if begun is not None else 0
    for source in sources if there else ():
        _, entry = header_of(source, stop)
        if entry.stop > there:
            break
        stop = entry.stop
        seen.append(entry)
        packed.add(source.size)
    left = sources[len(seen) :]
    with _writing(client, place, begun) as file, contextlib.closing(bodies_of(client, left)) as bodies:
        seen += pack(Output(file, there - stop), left, bodies, stop, packed.add)
    size, etag = _size_and_etag(client, place)
    if size != (seen[-1].stop if seen else 0) + len(END):
        raise OssTarError(f"{place} was replaced while its index was made")
    return index_of(seen, tar_size=size, etag=etag)


def _begun_upload(client: OssClient, tar: Place, sources: list[TarSource]) -> BegunUpload | None:
    """Return the upload of an earlier run, if it was of the same sources, or a new one. None if the tar is small."""
    size = sum(BLOCK_BYTES + padded(source.size) for source in sources)
    if not isinstance(tar, OssUri) or size < _KEPT_PARTS * client.config.part_bytes:
        return None
    digest = hashlib.sha256(repr([(source.name, source.size, source.etag) for source in sources]).encode()).hexdigest()
    with contextlib.suppress(OssNotFoundError, ValueError, KeyError, TypeError):
        record = json.loads(client.get(_record(tar)).body)
        upload_id = str(record["upload_id"])
        if record["sources"] == digest:
            parts = client.list_parts(tar, upload_id)
            first = itertools.takewhile(lambda pair: pair[0] == pair[1].number, enumerate(parts, 1))
            return BegunUpload(upload_id, [part for _, part in first])
        client.abort_upload(tar, upload_id)
    upload_id = client.create_upload(tar)
    client.put(_record(tar), json.dumps({"upload_id": upload_id, "sources": digest}).encode())
    return BegunUpload(upload_id, [])


def _record(tar: Place) -> OssUri:
    assert isinstance(tar, OssUri)
    return OssUri(tar.bucket, tar.key + _RECORD_SUFFIX)


def _size_and_etag(client: OssClient, place: Place) -> tuple[int, str]:
    if isinstance(place, OssUri):
        stat = client.head(place)
        return stat.size, stat.etag
    return place.stat().st_size, ""


def _writing(
    client: OssClient, place: Place, begun: BegunUpload | None = None
) -> contextlib.AbstractContextManager[OssWriter | IO[bytes]]:
    if isinstance(place, OssUri):
        return OssWriter(client, place, transfer=client.config.checkpoint, begun=begun)
    return written_whole(place)


def _write(client: OssClient, place: Place, data: bytes) -> None:
    with _writing(client, place) as file:
        file.write(data)


def _is_there(client: OssClient, tar: Place, index: Place, shard: list[TarSource]) -> bool:
    """Say whether a tar and its index are there and have these members."""
    try:
        size, etag = _size_and_etag(client, tar)
        data = client.get(index).body if isinstance(index, OssUri) else index.read_bytes()
        found = unpack_index(data, size)
    except (OssError, OSError):
        return False
    if found.details is None or found.etag != etag:
        return False
    held = itertools.zip_longest(found.details.names, found.details.sizes)
    return list(held) == [(source.name, source.size) for source in shard]
