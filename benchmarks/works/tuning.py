"""The effect of tuning keys: the same work by this library, with one or the other key changed."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.site import BUCKET, CONFIG, Site, network_at
from benchmarks.values import MIB, OURS, Contender, Work

from .large import put_large
from .objects import away

Config = Mapping[str, Any]


def dataset(**keys: Any) -> dict[str, Any]:
    """Return a config with these values of `datasetConfig`."""
    return {"datasetConfig": {**CONFIG["datasetConfig"], **keys}}


def checkpoint(**keys: Any) -> dict[str, Any]:
    """Return a config with these values of `checkpointConfig`."""
    return {"checkpointConfig": {**CONFIG["checkpointConfig"], **keys}}


def _variants(
    site: Site, program: str, options: Mapping[str, Any], configs: Sequence[tuple[str, Config]]
) -> list[Contender]:
    return [
        Contender(
            name=f"{OURS}{name and ', '}{name}", program=program, options={"access": site.access(config), **options}
        )
        for name, config in (("", {}), *configs)
    ]


def _small(site: Site, *, count: int, size: int, reads: int) -> list[Contender]:
    uris = site.fill("small", count, os.urandom(size))
    configs = [
        ("prefetchConcurrency 4", dataset(prefetchConcurrency=4)),
        ("prefetchConcurrency 96", dataset(prefetchConcurrency=96)),
        ("prefetchWorker 1", dataset(prefetchWorker=1)),
        ('auditPath ""', {"auditPath": ""}),
        ("hedgeReads", {"hedgeReads": True}),
        ("transport aiohttp", {"transport": "aiohttp"}),
    ]
    return _variants(site, "objects:iterate", {"uris": uris, "reads": reads, "size": size}, configs)


def _read(site: Site, *, size: int) -> list[Contender]:
    configs = [
        ("prefetchWorker 1", checkpoint(prefetchWorker=1)),
        ("prefetchWorker 2", checkpoint(prefetchWorker=2)),
        ("prefetchConcurrency 2", checkpoint(prefetchConcurrency=2)),
        ("prefetchConcurrency 8", checkpoint(prefetchConcurrency=8)),
        ("transport aiohttp", {"transport": "aiohttp"}),
    ]
    return _variants(site, "large:read_into", {"uri": put_large(site, size), "size": size}, configs)


def _write(site: Site, *, size: int, piece: int) -> list[Contender]:
    site.discard_uploads()
    configs = [
        ("uploadConcurrency 1", checkpoint(uploadConcurrency=1)),
        ("uploadConcurrency 4", checkpoint(uploadConcurrency=4)),
        ("uploadMemory 64 MiB", {"uploadMemory": 64 * MIB}),
        ("partSize 4 MiB", {"partSize": 4 * MIB}),
        ("partSize 64 MiB", {"partSize": 64 * MIB}),
    ]
    options = {"uri": f"oss://{BUCKET}/large", "size": size, "piece": piece}
    return _variants(site, "large:write_pieces", options, configs)


def _list(site: Site, *, count: int, milliseconds: int) -> list[Contender]:
    for folder in range(10):
        site.fill(f"train/{folder}", count // 10, b"1")
    site.fill("small", 10, b"1")
    options = {"uri": f"oss://{BUCKET}/train/", "warm_up": f"oss://{BUCKET}/small/", "count": count}
    fast = {**CONFIG["datasetConfig"], "enableFastList": True}
    configs = [
        ("enableFastList", {"datasetConfig": fast}),
        ("enableFastList, listConcurrency 4", {"datasetConfig": {**fast, "listConcurrency": 4}}),
    ]
    return away(_variants(site, "listing:list_into_dataset", options, configs), network_at(milliseconds))


WORKS: Sequence[Work] = (
    Work(
        name="tune-small",
        title="{count:,} objects of {size:,} bytes, iterated over",
        prepare=_small,
        full={"count": 2000, "size": 110_000, "reads": 6000},
        quick={"count": 200, "reads": 500},
    ),
    Work(
        name="tune-read",
        title="an object of {size:,} bytes by reader.readinto(buffer)",
        unit="GB/s",
        scale=1e-9,
        prepare=_read,
        full={"size": 512 * MIB},
        quick={"size": 64 * MIB},
    ),
    Work(
        name="tune-write",
        title="an object of {size:,} bytes by write of {piece} bytes each",
        unit="GB/s",
        scale=1e-9,
        prepare=_write,
        full={"size": 512 * MIB, "piece": MIB},
        quick={"size": 64 * MIB},
    ),
    Work(
        name="tune-list",
        title="listing {count:,} keys, {milliseconds} ms before every page",
        unit="keys/s",
        prepare=_list,
        full={"count": 100_000, "milliseconds": 20},
        quick={"count": 10_000},
    ),
)
