"""How cost grows: with the size of objects, their count, latency, and requests in flight."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.site import Site, network_at
from benchmarks.values import Contender, Curve, Work

from .objects import away, by_default, connectors

Prepare = Callable[..., Sequence[Contender]]
SMALL = 110_000
BY_SIZE = Curve("size", "Objects of any size", "bytes an object", "objects/s")
BY_COUNT = Curve("count", "Any number of objects", "objects of 4 KiB in one dataset", "objects/s")
BY_LATENCY = Curve("latency", "Rate over latency", "milliseconds to the first byte of 110 KB", "objects/s")
BY_CONCURRENCY = Curve(
    "in-flight", "Requests in flight", "requests in flight, 20 ms to the first byte of 110 KB", "objects/s"
)


def _point(
    site: Site, *, count: int, size: int, reads: int, milliseconds: int = 0, in_flight: int = 24
) -> list[Contender]:
    options = {"uris": site.fill("small", count, os.urandom(size)), "reads": reads, "size": size}
    config = {"datasetConfig": {"prefetchConcurrency": in_flight, "prefetchWorker": 2}}
    return away(connectors(site, "objects:iterate", options, config=config), network_at(milliseconds))


def _distance(site: Site, *, count: int, size: int, reads: int, milliseconds: int) -> list[Contender]:
    options = {"uris": site.fill("small", count, os.urandom(size)), "reads": reads, "size": size}
    return away(by_default(site, "objects:iterate", options), network_at(milliseconds))


def _work(curve: Curve, x: int, prepare: Prepare = _point, **sizes: Any) -> Work:
    return Work(
        name=f"{curve.name}-{x}",
        title=f"{x:,} {curve.x}",
        prepare=prepare,
        full={"count": min(sizes["reads"], 2000), **sizes},
        quick={"count": 100, "reads": 200},
        curve=curve,
        x=x,
    )


def _works() -> Iterator[Work]:
    for size in (1000, 10_000, 110_000, 1_000_000, 4_000_000):
        yield _work(BY_SIZE, size, size=size, reads=min(10_000, 2_000_000_000 // size))
    for count in (100, 1000, 10_000, 100_000):
        yield _work(BY_COUNT, count, size=4096, reads=count)
    for milliseconds in (0, 2, 5, 12, 20, 35, 80):
        reads = 6000 if milliseconds < 80 else 3000
        yield _work(BY_LATENCY, milliseconds, _distance, size=SMALL, reads=reads, milliseconds=milliseconds)
    for in_flight in (1, 4, 24, 96, 256):
        reads = 100 if in_flight == 1 else 3000
        yield _work(BY_CONCURRENCY, in_flight, size=SMALL, reads=reads, milliseconds=20, in_flight=in_flight)


WORKS: Sequence[Work] = tuple(_works())
