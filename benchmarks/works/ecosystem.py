"""Frameworks that read from OSS: Ray Data through our source, and Hugging Face `datasets` through our file system."""

from __future__ import annotations

import importlib.util
import io
import os
import random
from collections.abc import Sequence
from pathlib import Path

from benchmarks.site import BUCKET, Site
from benchmarks.values import OURS, Contender, Goal, Work

from .filesystem import OSSFS

RAY = "Ray's read_binary_files over ossfs"
RAY_OVER_OURS = "the same over OssFileSystem"
LOCAL = "local disk"
SHARDS, GROUP_ROWS, DIFFERENT_PICTURES = 10, 100, 200


def _read_by_ray(site: Site, *, count: int, size: int) -> list[Contender]:
    for folder, number in (("ray", count), ("warm", 32)):
        site.fill(folder, number, os.urandom(size))
    folders = {"uri": f"oss://{BUCKET}/ray/", "warm_up": f"oss://{BUCKET}/warm/", "count": count, "size": size}
    keys = site.keys()
    theirs = {"endpoint": keys["host_endpoint"], "key": keys["key_id"], "secret": keys["secret"]}
    ours = {"where": site.access(), **folders}
    missing = _missing("ray", "pyarrow")
    return [
        Contender(
            name=OURS, program="ecosystem:ray_objects", options={**ours, "how": "ours"}, preload=(), missing=missing
        ),
        Contender(
            name=RAY,
            program="ecosystem:ray_objects",
            options={"where": theirs, **folders, "how": OSSFS},
            preload=(),
            where="peers",
            missing=site.name_missing or missing,
        ),
        Contender(
            name=RAY_OVER_OURS,
            program="ecosystem:ray_objects",
            options={**ours, "how": "file system"},
            preload=(),
            missing=missing,
            is_extra=True,
        ),
    ]


def _stream_pictures(site: Site, *, count: int) -> list[Contender]:
    missing = _missing("datasets", "pyarrow", "PIL")
    if not missing:
        for path in _picture_shards(site.folder, count):
            site.put_file(f"pictures/{path.name}", path)
    places = ((OURS, f"oss://{BUCKET}/pictures/*.parquet", site.access()), (LOCAL, f"{site.folder}/*.parquet", {}))
    return [
        Contender(
            name=name,
            program="ecosystem:stream_pictures",
            options={"where": where, "files": files, "count": count},
            preload=(),
            missing=missing,
        )
        for name, files, where in places
    ]


def _missing(*packages: str) -> str:
    """Return which package is not there and how to get it, or "" if all are."""
    absent = [name for name in packages if importlib.util.find_spec(name) is None]
    return f'not installed: {absent[0]}; make bench WORKS="ray hf-stream" installs it' if absent else ""


def _picture_shards(folder: Path, count: int) -> list[Path]:
    """Write `count` pictures of about 30 KB as Parquet files, in the form in which `datasets` has pictures."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures = [_picture(number) for number in range(min(count, DIFFERENT_PICTURES))]
    rows = [{"bytes": pictures[number % len(pictures)], "path": None} for number in range(count)]
    paths = []
    for shard in range(SHARDS):
        paths.append(folder / f"{shard:02}.parquet")
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({"image": pa.array(rows[shard::SHARDS], kind)})
        pq.write_table(table, paths[-1], row_group_size=GROUP_ROWS, compression=None)
    return paths


def _picture(number: int) -> bytes:
    """Return a JPEG of 224 by 224 points, of coarse and fine noise: as large as photographs are."""
    from PIL import Image

    chance = random.Random(number)
    coarse = Image.frombytes("RGB", (28, 28), chance.randbytes(28 * 28 * 3)).resize((224, 224))
    fine = Image.frombytes("RGB", (224, 224), chance.randbytes(224 * 224 * 3))
    file = io.BytesIO()
    Image.blend(coarse, fine, 0.2).save(file, "JPEG", quality=90)
    return file.getvalue()


WORKS: Sequence[Work] = (
    Work(
        name="ray",
        title="Ray Data on 2 cores, from {count:,} objects of {size:,} bytes to batches in one loop",
        prepare=_read_by_ray,
        full={"count": 20_000, "size": 100_000},
        quick={"count": 2000},
        limit_seconds=600.0,
        goals=[Goal(against=RAY, reach=3, aim=5)],
    ),
    Work(
        name="hf-stream",
        title="Hugging Face datasets: {count:,} pictures of a stream of Parquet files, decoded",
        unit="pictures/s",
        prepare=_stream_pictures,
        full={"count": 10_000},
        quick={"count": 500},
        goals=[Goal(against=LOCAL, reach=0.8, aim=0.95)],
    ),
)
