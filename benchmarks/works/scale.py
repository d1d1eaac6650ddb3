"""How the rate grows with the number of processes that read small objects, or one large object."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.site import DEFAULTS, Site, network_at
from benchmarks.values import CXX, MIB, OURS, Contender, Curve, Work

from .large import put_large
from .objects import away, with_extra_peer

WORKERS = (1, 2, 4, 8, 12)
PROCESSES = (1, 2, 4, 8)
MILLISECONDS = (0, 12)
# Beyond this many servers, there are not enough cores for readers on any machine that this is made for.
MAX_SERVERS = 8


def _small(site: Site, *, count: int, size: int, reads: int, workers: int, milliseconds: int) -> list[Contender]:
    uris = site.fill("small", count, os.urandom(size))
    options = {"uris": uris, "reads": reads, "size": size, "workers": workers}
    return _contenders(site, "scale:iterate_by_workers", options, milliseconds)


def _large(site: Site, *, size: int, times: int, processes: int, milliseconds: int) -> list[Contender]:
    options = {"uri": put_large(site, size), "size": size, "times": times, "processes": processes}
    return _contenders(site, "scale:read_by_processes", options, milliseconds)


def _contenders(site: Site, program: str, options: dict[str, Any], milliseconds: int) -> list[Contender]:
    """Return this library without a config, and the C++ connector with the README's."""
    cores = len(os.sched_getaffinity(0))
    site.serve_copies(min(max(cores // 2, 1), MAX_SERVERS) - 1)
    ours = {"accesses": site.accesses(DEFAULTS), **options}
    theirs = {"accesses": site.accesses(), **options}
    both = [
        Contender(name=OURS, program=program, options=ours),
        Contender(name=CXX, program=program, options=theirs, where="peers", missing=site.name_missing),
    ]
    return away(with_extra_peer(both), network_at(milliseconds))


def _works(milliseconds: int) -> Iterator[Work]:
    each = {"milliseconds": milliseconds}
    suffix = f", {milliseconds} ms" if milliseconds else ""
    by_workers = Curve("workers", "110 KB objects by more workers", "DataLoader workers", "objects/s", suffix)
    for workers in WORKERS:
        yield Work(
            name=f"workers-{workers}-{milliseconds}ms",
            title="{reads:,} objects of {size:,} bytes by {workers} DataLoader workers, {milliseconds} ms away",
            prepare=_small,
            full={"count": 2000, "size": 110_000, "reads": 12_000 * workers, **each, "workers": workers},
            quick={"count": 100, "reads": 300 * workers},
            curve=by_workers,
            x=workers,
        )
    by_processes = Curve("processes", "One large object by more processes", "processes", "GB/s", suffix)
    for processes in PROCESSES:
        yield Work(
            name=f"processes-{processes}-{milliseconds}ms",
            title="an object of {size:,} bytes, {times} times by each of {processes} processes, {milliseconds} ms away",
            unit="GB/s",
            scale=1e-9,
            prepare=_large,
            full={"size": 512 * MIB, "times": 2, **each, "processes": processes},
            quick={"size": 32 * MIB, "times": 1},
            curve=by_processes,
            x=processes,
        )


# Few processes first, so that a run that ends early has some points of each line.
WORKS: Sequence[Work] = sorted(
    (work for milliseconds in MILLISECONDS for work in _works(milliseconds)), key=lambda work: work.x
)
