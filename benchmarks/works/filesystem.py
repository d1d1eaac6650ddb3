"""`oss://` by fsspec: our `OssFileSystem` and ossfs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.site import BUCKET, Site
from benchmarks.values import MIB, OURS, Contender, Goal, Work

from .large import FULL, QUICK, put_large

OSSFS = "ossfs"
PATH = f"{BUCKET}/large"


def file_systems(site: Site, program: str, options: Mapping[str, Any]) -> list[Contender]:
    """Return our file system and ossfs, both doing the same."""
    keys = site.keys()
    theirs = {"endpoint": keys["host_endpoint"], "key": keys["key_id"], "secret": keys["secret"]}
    return [
        Contender(name=OURS, program=program, options={"where": site.access(), **options}, preload=()),
        Contender(
            name=OSSFS,
            program=program,
            options={"where": {**theirs, "is_end_inclusive": True}, **options},
            preload=(),
            where="peers",
            missing=site.name_missing,
        ),
    ]


def _read(site: Site, *, size: int, is_cat: bool) -> list[Contender]:
    put_large(site, size)
    return file_systems(site, "filesystem:read", {"path": PATH, "size": size, "is_cat": is_cat})


def _put_file(site: Site, *, size: int) -> list[Contender]:
    site.discard_uploads()
    path = site.memory / "local"
    with path.open("wb") as file:
        block = os.urandom(min(size, 16 * MIB))
        for start in range(0, size, len(block)):
            file.write(block[: size - start])
    return file_systems(site, "filesystem:put_file", {"path": PATH, "local": str(path), "size": size})


def _cat_ranges(site: Site, *, count: int, range_size: int, objects: int, size: int) -> list[Contender]:
    uris = site.fill("ranges", objects, os.urandom(size))
    paths = [uri.removeprefix("oss://") for uri in uris]
    options = {"paths": paths, "size": size, "count": count, "range_size": range_size}
    return file_systems(site, "filesystem:cat_ranges", options)


def _find(site: Site, *, count: int) -> list[Contender]:
    folder = "train/class-0042/shard-of-pictures"
    site.fill(folder, count, b"1")
    site.fill("small", 10, b"1")
    options = {"path": f"{BUCKET}/{folder}", "warm_up": f"{BUCKET}/small", "count": count}
    return file_systems(site, "filesystem:find", options)


def _of_bytes(name: str, title: str, **how: Any) -> Work:
    return Work(
        name=name,
        title=title,
        unit="GB/s",
        scale=1e-9,
        full={**FULL, **how.pop("sizes", {})},
        quick=QUICK,
        goals=[Goal(against=OSSFS, reach=5, aim=8)],
        **how,
    )


WORKS: Sequence[Work] = (
    _of_bytes("fs-open", "fs.open(...).read() of {size:,} bytes", prepare=_read, sizes={"is_cat": False}),
    _of_bytes("fs-cat", "fs.cat_file of {size:,} bytes", prepare=_read, sizes={"is_cat": True}),
    _of_bytes("fs-put", "fs.put_file of {size:,} bytes", prepare=_put_file),
    Work(
        name="fs-ranges",
        title="fs.cat_ranges: {count:,} ranges of {range_size:,} bytes over {objects} objects of {size:,}",
        unit="ranges/s",
        prepare=_cat_ranges,
        full={"count": 2000, "range_size": 65536, "objects": 20, "size": 4 * MIB},
        quick={"count": 100, "objects": 5, "size": MIB},
        goals=[Goal(against=OSSFS, reach=8, aim=12)],
    ),
    Work(
        name="fs-find",
        title="fs.find of {count:,} keys",
        unit="keys/s",
        prepare=_find,
        full={"count": 100_000},
        quick={"count": 5000},
        goals=[Goal(against=OSSFS, reach=5, aim=10)],
    ),
)
