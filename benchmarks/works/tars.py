"""Tars of samples: their members in order and shuffled by chunks, near and far, and a tar made of objects."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.site import BUCKET, Site, network_at
from benchmarks.values import CXX, MIB, Contender, Goal, Work
from osstorchconnector.tar import TarEntry, index_of, pack_index

from .objects import away, connectors

WHOLE = "the tar by 64 KiB reads"
FETCHED = "the objects alone"
PIECE_BYTES = 65536
KEY = "shard.tar"
URI = f"oss://{BUCKET}/{KEY}"
FULL = {"count": 10_000, "size": 100_000}
QUICK = {"count": 300}


def put_tar(site: Site, key: str, count: int, size: int) -> int:
    """Put a tar of `count` members of `size` bytes, and its index beside it; return the size of the tar."""
    member = tarfile.TarInfo("000000.jpg")
    member.size = size
    step = len(member.tobuf()) + -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    entries = [
        TarEntry(f"{number:06}.jpg", True, number * step, number * step + tarfile.BLOCKSIZE, size)
        for number in range(count)
    ]
    site.put_stream(key, _blocks(entries))
    tar_size = count * step + 2 * tarfile.BLOCKSIZE
    index = index_of(entries, tar_size=tar_size, etag=site.client().head(f"oss://{BUCKET}/{key}").etag)
    site.put_stream(f"{key}.idx", [pack_index(index)])
    return tar_size


def _blocks(entries: Sequence[TarEntry]) -> Iterator[bytes]:
    body = os.urandom(entries[0].size)
    body += bytes(-len(body) % tarfile.BLOCKSIZE)
    for entry in entries:
        member = tarfile.TarInfo(entry.name)
        member.size = entry.size
        yield member.tobuf(tarfile.USTAR_FORMAT) + body
    yield bytes(2 * tarfile.BLOCKSIZE)


def _iterate(site: Site, *, count: int, size: int, milliseconds: int = 0, **how: Any) -> list[Contender]:
    tar_size = put_tar(site, KEY, count, size)
    put_tar(site, f"{KEY}.small", 32, size)
    ours, theirs = connectors(site, "tars:iterate", {"uri": URI, "count": count, "size": size, "how": how})
    if how:  # the C++ connector's `shuffle=True` ends in an error, and it knows no chunks
        theirs = Contender(name=CXX, missing="its from_tar can't shuffle")
    options = {"access": site.access(), "uri": URI, "size": tar_size, "piece": PIECE_BYTES}
    whole = Contender(name=WHOLE, program="large:read_pieces", options=options, is_limit=True)
    return away([ours, theirs, whole], network_at(milliseconds))


def _pack(site: Site, *, count: int, size: int) -> list[Contender]:
    body = os.urandom(size)
    uris = site.fill("small", count, body)
    site.fill("few", 32, body)
    site.discard_uploads()
    source, warm_up = f"oss://{BUCKET}/small/", f"oss://{BUCKET}/few/"
    options = {"source": source, "warm_up": warm_up, "uri": f"oss://{BUCKET}/packed.tar", "count": count}
    fetched = {"access": site.access(), "uris": uris, "reads": count, "size": size}
    return [
        *connectors(site, "tars:pack", options),
        Contender(name=FETCHED, program="objects:iterate", options=fetched, is_limit=True),
    ]


def _of_members(name: str, title: str, label: str, goals: Sequence[Goal], **sizes: Any) -> Work:
    return Work(
        name=name,
        title=f"a tar of {{count:,}} members of {{size:,}} bytes, {title}",
        label=f"tar of 1 GB, {label}",
        unit="GB/s",
        scale=1e-9,
        prepare=_iterate,
        full={**FULL, **sizes},
        quick=QUICK,
        goals=goals,
    )


_AS_WHOLE = Goal(against=WHOLE, reach=0.8, aim=0.95)
_TWICE = Goal(against=CXX, reach=2, aim=3)
_SHUFFLED = Goal(against=WHOLE, reach=0.6, aim=0.8)
CHUNKS = {"shuffle": "chunks", "shuffle_chunk_size": 1000}
FAR = {"milliseconds": 20}
_AWAY = "{milliseconds} ms before every first byte"

WORKS: Sequence[Work] = (
    _of_members("tar-order", "in order", "in order", [_AS_WHOLE, _TWICE]),
    _of_members("tar-chunks", "shuffled by chunks of {shuffle_chunk_size:,}", "chunks of 1,000", [_SHUFFLED], **CHUNKS),
    _of_members("far-tar-order", f"in order, {_AWAY}", "in order, 20 ms away", [_AS_WHOLE, _TWICE], **FAR),
    _of_members(
        "far-tar-chunks",
        f"shuffled by chunks of {{shuffle_chunk_size:,}}, {_AWAY}",
        "chunks of 1,000, 20 ms away",
        [_SHUFFLED],
        **CHUNKS,
        **FAR,
    ),
    Work(
        name="tar-pack",
        title="{count:,} objects of {size:,} bytes, packed into a tar",
        label="packing of 100 KB objects",
        prepare=_pack,
        full=FULL,
        quick=QUICK,
        goals=[
            Goal(against=FETCHED, reach=0.7, aim=0.85),
            Goal(against="", figure="peak", reach=300 * MIB, aim=150 * MIB, is_ceiling=True),
        ],
    ),
)
