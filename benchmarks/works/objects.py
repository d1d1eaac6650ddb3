"""Many small objects."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.site import DEFAULTS, Site, names_of, network_at, tool
from benchmarks.values import CXX, OURS, Contender, Goal, Sample, Work
from osstorchconnector.emulator import Network

# Found by trial, with caFile and the authority's certificate: every read fails after minutes of retries.
REFUSES_CERTIFICATE = "refuses a certificate that is not from a public authority"
BEST = "all latency hidden"
OBSTORE = "obstore (unsigned)"
BARE_GET = "a bare socket"
WITH_24 = f"{OURS}, 24 in flight"
FEW_READS = {"count": 500, "reads": 1000}


def connectors(
    site: Site,
    program: str,
    options: Mapping[str, Any],
    *,
    preload: Sequence[str] = ("torch",),
    config: Mapping[str, Any] | None = None,
) -> list[Contender]:
    """Return this library and the C++ connector, both doing the same."""
    options = {"access": site.access(config), **options}
    missing = REFUSES_CERTIFICATE if site.certificate else site.name_missing
    return [
        Contender(name=OURS, program=program, options=options, preload=preload),
        Contender(name=CXX, program=program, options=options, preload=preload, where="peers", missing=missing),
    ]


def by_default(
    site: Site, program: str, options: Mapping[str, Any], *, preload: Sequence[str] = ("torch",)
) -> list[Contender]:
    """Return this library without a config, and both connectors with the README's."""
    ours, _ = connectors(site, program, options, preload=preload, config=DEFAULTS)
    with_24, theirs = connectors(site, program, options, preload=preload)
    return [ours, replace(with_24, name=WITH_24), theirs]


def away(contenders: Sequence[Contender], network: Network | None) -> list[Contender]:
    """Return the contenders, with this network between them and the server."""
    return [replace(each, network=network) for each in contenders]


def with_extra_peer(contenders: Sequence[Contender]) -> list[Contender]:
    """Return the contenders, with all but this library as extras."""
    ours, *others = contenders
    return [ours, *(replace(each, is_extra=True) for each in others)]


def wrk(site: Site, uris: Sequence[str], size: int, reads: int, *, connections: int = 8) -> Contender:
    """Return wrk, which discards the bytes: the maximum of the server on this machine."""
    seconds = 2 if reads >= 5000 else 1
    path, missing = tool("wrk", "wrk")
    options = {"path": path, "keys": site.keys(), "names": names_of(uris), "size": size}
    options |= {"connections": connections, "seconds": seconds}
    return Contender(name="wrk", program="limits:wrk", options=options, missing=missing, is_limit=True)


def others(site: Site, kind: str, options: Mapping[str, Any]) -> list[Contender]:
    """Return the clients without torch, and S3's connector; `kind` is `objects` or `large`."""
    options = {"keys": site.keys(), **options}
    names = {
        "obstore": OBSTORE,
        "oss2": "oss2",
        "oss_v2": "alibabacloud-oss-v2",
        "s3torch": "s3torchconnector (unsigned)",
    }
    return [
        Contender(name=name, program=f"clients:{program}_{kind}", options=options, where="peers", is_extra=True)
        for program, name in names.items()
    ]


def _iterate(site: Site, *, count: int, size: int, reads: int) -> list[Contender]:
    uris = site.fill("small", count, os.urandom(size))
    options = {"uris": uris, "reads": reads, "size": size}
    return [
        *connectors(site, "objects:iterate", options),
        wrk(site, uris, size, reads),
        *others(site, "objects", {"names": names_of(uris), "reads": reads, "size": size}),
    ]


def _load_batches(site: Site, *, count: int, size: int, reads: int, workers: int, batch: int) -> list[Contender]:
    uris = site.fill("small", count, os.urandom(size))
    options = {"uris": uris, "reads": reads, "size": size, "workers": workers, "batch": batch}
    return connectors(site, "objects:load_batches", options)


def _load_shuffled(site: Site, *, count: int, size: int, reads: int, batch: int) -> list[Contender]:
    uris = site.fill("small", count, os.urandom(size))
    return connectors(site, "objects:load_shuffled", {"uris": uris, "reads": reads, "size": size, "batch": batch})


def _late(site: Site, *, count: int, size: int, reads: int, milliseconds: int, in_flight: int) -> list[Contender]:
    uris = site.fill("small", count, os.urandom(size))
    best = Sample(in_flight / (milliseconds / 1000), 1.0, 0.0, 0)
    config = {"datasetConfig": {"prefetchConcurrency": in_flight, "prefetchWorker": 2}}
    options = {"uris": uris, "reads": reads, "size": size}
    return [
        *away(with_extra_peer(connectors(site, "objects:iterate", options, config=config)), network_at(milliseconds)),
        Contender(name=BEST, sample=best, is_limit=True),
    ]


def _get_one_by_one(site: Site, *, size: int, reads: int) -> list[Contender]:
    (uri,) = site.fill("single", 1, os.urandom(size))
    ours = {"access": site.access(), "uri": uri, "reads": reads, "size": size}
    theirs = {"keys": site.keys(), "name": names_of([uri])[0], "reads": reads, "size": size}
    return [
        Contender(name=OURS, program="objects:get_one_by_one", options=ours),
        Contender(name=OBSTORE, program="clients:obstore_get_one_by_one", options=theirs, where="peers"),
        Contender(name=BARE_GET, program="limits:bare_get_one_by_one", options=theirs, is_limit=True),
        Contender(name="oss2", program="clients:oss2_get_one_by_one", options=theirs, where="peers", is_extra=True),
    ]


def _soak(site: Site, *, count: int, size: int, reads: int) -> list[Contender]:
    options = {"uris": site.fill("small", count, os.urandom(size)), "reads": reads, "size": size}
    return with_extra_peer(connectors(site, "objects:soak", options))


WORKS = (
    Work(
        name="small",
        label="110 KB objects",
        title="{count:,} objects of {size:,} bytes, iterated over, every byte read",
        prepare=_iterate,
        full={"count": 2000, "size": 110_000, "reads": 10_000},
        quick=FEW_READS,
        counts_calls=True,
        goals=[
            Goal(against=CXX, reach=2.5, aim=4),
            Goal(against=CXX, figure="cpu", reach=1 / 3.5, aim=1 / 5, is_ceiling=True),
            Goal(against="wrk", reach=0.5, aim=0.7),
        ],
    ),
    Work(
        name="small-busy",
        title="{count:,} objects of {size:,} bytes, iterated over, one core taken by another process",
        options={"busy_cores": 1},
        prepare=_iterate,
        full={"count": 2000, "size": 110_000, "reads": 10_000},
        quick=FEW_READS,
        goals=[Goal(against=CXX, reach=1.5, aim=2.5)],
    ),
    Work(
        name="loader",
        label="DataLoader, 2 workers",
        title="the same through DataLoader(num_workers={workers}, batch_size={batch}), to tensors",
        prepare=_load_batches,
        full={"count": 2000, "size": 110_000, "reads": 20_000, "workers": 2, "batch": 64},
        quick=FEW_READS,
        goals=[Goal(against=CXX, reach=1.5, aim=2.2)],
    ),
    Work(
        name="map",
        label="shuffled batches of 64",
        title="the same by number, in shuffled batches of {batch}",
        prepare=_load_shuffled,
        full={"count": 2000, "size": 110_000, "reads": 10_000, "batch": 64},
        quick=FEW_READS,
        goals=[Goal(against=CXX, reach=2.5, aim=4)],
    ),
    Work(
        name="tiny",
        label="4 KB objects",
        title="{count:,} objects of {size:,} bytes, iterated over, every byte read",
        prepare=_iterate,
        full={"count": 10_000, "size": 4096, "reads": 20_000},
        quick={"count": 1000, "reads": 2000},
        counts_calls=True,
        goals=[Goal(against=CXX, reach=3.5, aim=6)],
    ),
    Work(
        name="get",
        title="{reads:,} times client.get of one object of {size:,} bytes, one by one: 99 of 100 take at most",
        unit="us",
        figure="p99",
        scale=1e6,
        prepare=_get_one_by_one,
        full={"size": 4096, "reads": 5000},
        quick={"reads": 500},
        goals=[
            Goal(against=OBSTORE, figure="p99", reach=0.7, aim=0.5, is_ceiling=True),
            Goal(against=OBSTORE, figure="p50", reach=0.9, aim=0.7, is_ceiling=True),
        ],
    ),
    Work(
        name="latency",
        label="110 KB objects, 20 ms away",
        title="{count:,} objects of {size:,} bytes, {milliseconds} ms before every first byte, {in_flight} in flight",
        prepare=_late,
        full={"count": 2000, "size": 110_000, "reads": 6000, "milliseconds": 20, "in_flight": 24},
        quick={"count": 500, "reads": 1000},
        goals=[Goal(against=BEST, reach=0.95, aim=0.98)],
    ),
    Work(
        name="small-tls",
        label="110 KB objects, https",
        title="{count:,} objects of {size:,} bytes, iterated over, by https",
        options={"is_secure": True},
        prepare=_iterate,
        full={"count": 2000, "size": 110_000, "reads": 6000},
        quick=FEW_READS,
        goals=[Goal(against=CXX, reach=1.5, aim=2), Goal(against=OBSTORE, reach=1.5, aim=2)],
    ),
    Work(
        name="soak",
        title="{reads:,} objects of {size:,} bytes in one process: growth of resident memory after the first tenth",
        prepare=_soak,
        full={"count": 10_000, "size": 4096, "reads": 100_000},
        quick={"count": 1000, "reads": 3000},
        goals=[Goal(against="", extra="growth", reach=0.05, aim=0.01, is_ceiling=True)],
    ),
)
