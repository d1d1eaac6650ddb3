"""`oss://` by fsspec: our `OssFileSystem` and ossfs."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.site import BUCKET, Site
from benchmarks.values import MIB, OURS, Contender, Goal, Work

from .checkpoints import MODEL, PRELOAD, QUICK_MODEL, URI, put_checkpoint
from .large import FULL, QUICK, put_large

OSSFS = "ossfs"
OUR_READER = "OssStorageReader"
PATH = f"{BUCKET}/large"
GROUP_ROWS = 1 << 20


def file_systems(site: Site, program: str, options: Mapping[str, Any], missing: str = "") -> list[Contender]:
    """Return our file system and ossfs, both doing the same."""
    keys = site.keys()
    theirs = {"endpoint": keys["host_endpoint"], "key": keys["key_id"], "secret": keys["secret"]}
    return [
        Contender(name=OURS, program=program, options={"where": site.access(), **options}, preload=(), missing=missing),
        Contender(
            name=OSSFS,
            program=program,
            options={"where": {**theirs, "is_end_inclusive": True}, **options},
            preload=(),
            where="peers",
            missing=site.name_missing or missing,
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


def _read_parquet(site: Site, *, size: int, columns: int, wanted: int) -> list[Contender]:
    absent = [name for name in ("pandas", "pyarrow") if importlib.util.find_spec(name) is None]
    if absent:
        return file_systems(site, "filesystem:read_parquet", {}, missing=f"not installed: pip install {absent[0]}")
    path = site.memory / "table.parquet"
    _write_table(path, 1, columns)
    site.put_file("table.parquet.small", path)
    rows = size // columns // 8
    stored = _write_table(path, rows, columns)
    site.put_file("table.parquet", path)
    path.unlink()
    chosen = list(stored)[:: columns // wanted]
    options = {"path": f"{BUCKET}/table.parquet", "columns": chosen, "rows": rows}
    needed = sum(stored[name] for name in chosen)
    return file_systems(site, "filesystem:read_parquet", {**options, "needed": needed})


def _write_table(path: Path, rows: int, columns: int) -> dict[str, int]:
    """Write a Parquet file of random numbers, a million rows at a time; return the bytes of each column in it."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [f"column{number:02}" for number in range(columns)]
    chance = np.random.default_rng(columns)
    with pq.ParquetWriter(
        path, pa.schema([(name, pa.float64()) for name in names]), compression=None, use_dictionary=False
    ) as writer:
        for start in range(0, rows, GROUP_ROWS):
            count = min(GROUP_ROWS, rows - start)
            writer.write_table(pa.table({name: chance.random(count) for name in names}))
    about = pq.ParquetFile(path).metadata
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    return {
        name: sum(group.column(place).total_compressed_size for group in groups) for place, name in enumerate(names)
    }


def _load_checkpoint(site: Site, **state: Any) -> list[Contender]:
    put_checkpoint(site, state)
    options = {"access": site.access(), "uri": URI, "state": state}
    return [
        Contender(name=OURS, program="checkpoints:load_by_file_system", options=options, preload=PRELOAD),
        Contender(name=OUR_READER, program="checkpoints:load", options=options, preload=PRELOAD),
    ]


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
    Work(
        name="fs-parquet",
        title="pandas.read_parquet of {wanted} of {columns} columns of {size:,} bytes",
        unit="GB/s",
        scale=1e-9,
        prepare=_read_parquet,
        full={"size": 1_000_000_000, "columns": 20, "wanted": 4},
        quick={"size": 20_000_000},
        goals=[
            Goal(against=OSSFS, reach=3, aim=5),
            Goal(against="", extra="sent_of_needed", reach=1.1, aim=1.02, is_ceiling=True),
        ],
    ),
    Work(
        name="fs-dcp-load",
        title="dcp.load by torch's FsspecReader, {size:,} bytes in {tensors} tensors",
        unit="GB/s",
        scale=1e-9,
        prepare=_load_checkpoint,
        full=MODEL,
        quick=QUICK_MODEL,
        goals=[
            Goal(against=OUR_READER, reach=0.5, aim=0.8),
            Goal(against=OUR_READER, extra="gets", reach=2, aim=1.2, is_ceiling=True),
        ],
    ),
)
