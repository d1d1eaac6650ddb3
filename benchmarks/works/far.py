"""Work at a distance: every answer comes later, and each connection carries less than loopback."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.site import DEFAULTS, ROUND_TRIP_SECONDS, Site, network_at
from benchmarks.values import CXX, MIB, OURS, Contender, Goal, Sample, Work
from osstorchconnector.emulator import Network

from .checkpoints import PRELOAD, put_checkpoint
from .checkpoints import URI as CHECKPOINT
from .large import URI, put_large, put_state
from .objects import FEW_READS, away, by_default, connectors, with_extra_peer

NEAR = f"{OURS}, no latency"
SETUP = "latency and set-up alone"
ALLOWED = "what the server allows"
# A program with its options, and what lays out their data.
Task = tuple[str, dict[str, Any]]
LayOut = Callable[..., Task]


def _far_and_near(
    site: Site, network: Network | None, program: str, options: Mapping[str, Any], preload: Sequence[str] = ("torch",)
) -> list[Contender]:
    """Return both connectors at a distance, and this library at none."""
    ours, with_24, theirs = by_default(site, program, options, preload=preload)
    near = replace(ours, name=NEAR, is_limit=True)
    return [*away([ours, replace(with_24, is_extra=True), theirs], network), near]


def _objects(
    site: Site, *, milliseconds: int, count: int, size: int, program: str = "iterate", **options: Any
) -> list[Contender]:
    options |= {"uris": site.fill("small", count, os.urandom(size)), "size": size}
    return _far_and_near(site, network_at(milliseconds), f"objects:{program}", options)


def _in_flight(site: Site, *, milliseconds: int, count: int, size: int, reads: int, in_flight: int) -> list[Contender]:
    options = {"uris": site.fill("small", count, os.urandom(size)), "size": size, "reads": reads}
    config = {"datasetConfig": {"prefetchConcurrency": in_flight, "prefetchWorker": 2}}
    return away(connectors(site, "objects:iterate", options, config=config), network_at(milliseconds))


def _first(site: Site, *, milliseconds: int, count: int, size: int, first: int) -> list[Contender]:
    options = {"uris": site.fill("small", count, os.urandom(size)), "size": size, "first": first}
    best = Sample(1, milliseconds / 1000 + ROUND_TRIP_SECONDS, 0.0, 0)
    return [
        *away(by_default(site, "objects:first_objects", options), network_at(milliseconds)),
        Contender(name=SETUP, sample=best, is_limit=True),
    ]


def _limited(site: Site, *, count: int, size: int, reads: int, allowed: int, milliseconds: int) -> list[Contender]:
    options = {"uris": site.fill("small", count, os.urandom(size)), "size": size, "reads": reads}
    network = replace(network_at(milliseconds) or Network(), requests_per_second=allowed)
    return [
        *away(with_extra_peer(connectors(site, "objects:iterate", options, config=DEFAULTS)), network),
        Contender(name=ALLOWED, sample=Sample(allowed, 1.0, 0.0, 0), is_limit=True),
    ]


def _at_100_mb(lay_out: LayOut) -> Callable[..., list[Contender]]:
    """Return what prepares a work with one large object or checkpoint, over connections that carry 100 MB/s."""

    def prepare(site: Site, *, milliseconds: int, connection_mb: int, **sizes: Any) -> list[Contender]:
        program, options = lay_out(site, **sizes)
        network = network_at(milliseconds, connection_mb=connection_mb)
        return _far_and_near(site, network, program, options, PRELOAD)

    return prepare


def _read_into(site: Site, *, size: int) -> Task:
    return "large:read_into", {"uri": put_large(site, size), "size": size}


def _load(site: Site, *, size: int, tensors: int) -> Task:
    put_state(site, size, tensors)
    return "large:load_state", {"uri": URI, "size": size}


def _save(site: Site, *, size: int, tensors: int) -> Task:
    site.discard_uploads()
    return "large:save_state", {"uri": URI, "size": size, "tensors": tensors}


def _dcp_save(site: Site, **state: Any) -> Task:
    site.discard_uploads()
    return "checkpoints:save", {"uri": CHECKPOINT, "state": state}


def _dcp_load(site: Site, **state: Any) -> Task:
    put_checkpoint(site, state)
    return "checkpoints:load", {"uri": CHECKPOINT, "state": state}


def _rate(against: str, reach: float, aim: float) -> Goal:
    return Goal(against=against, reach=reach, aim=aim)


OWN_RATE = _rate(NEAR, 0.6, 0.85)


def _large_work(name: str, what: str, lay_out: LayOut, *, tensors: int = 0) -> Work:
    sizes = {"tensors": tensors} if tensors else {}
    return Work(
        name=f"far-{name}",
        title=f"{what}, {{milliseconds}} ms and {{connection_mb}} MB/s a connection away",
        label=f"{what.partition(' of')[0]}, 1 GiB, 35 ms away",
        unit="GB/s",
        scale=1e-9,
        prepare=_at_100_mb(lay_out),
        full={"size": 1 << 30, **sizes, "milliseconds": 35, "connection_mb": 100},
        quick={"size": 32 * MIB},
        goals=[_rate(CXX, 2, 4), OWN_RATE],
    )


SMALL = {"count": 2000, "size": 110_000, "milliseconds": 35}
ITERATED = "{reads:,} objects of {size:,} bytes, iterated over, {milliseconds} ms away"

AT_35_MS = Work(
    name="far-small",
    title=ITERATED,
    label="110 KB objects, 35 ms away",
    prepare=_objects,
    full={**SMALL, "reads": 20_000},
    quick=FEW_READS,
    goals=[_rate(CXX, 6, 10), OWN_RATE],
)
AT_12_MS = replace(
    AT_35_MS,
    name="far-small-12",
    label="110 KB objects, 12 ms away",
    full={**AT_35_MS.full, "milliseconds": 12},
    goals=[_rate(CXX, 3, 4), OWN_RATE],
)


def _on_a_busy_machine(work: Work) -> Work:
    return replace(
        work,
        name=f"{work.name}-busy",
        title=f"{work.title}, one core taken by another process",
        label=f"{work.label}, one core taken",
        options={"busy_cores": 1},
    )


WORKS: Sequence[Work] = (
    AT_35_MS,
    AT_12_MS,
    _on_a_busy_machine(AT_35_MS),
    _on_a_busy_machine(AT_12_MS),
    Work(
        name="far-small-256",
        title=ITERATED + ", {in_flight} in flight",
        label="110 KB objects, 35 ms away, 256 in flight",
        prepare=_in_flight,
        full={**SMALL, "reads": 20_000, "in_flight": 256},
        quick=FEW_READS,
        goals=[_rate(CXX, 1.2, 1.8)],
    ),
    Work(
        name="far-tiny",
        title=ITERATED,
        label="4 KB objects, 35 ms away",
        prepare=_objects,
        full={"count": 10_000, "size": 4096, "reads": 20_000, "milliseconds": 35},
        quick={"count": 1000, "reads": 1000},
        goals=[_rate(CXX, 6, 10), OWN_RATE],
    ),
    Work(
        name="far-loader",
        title="{reads:,} objects of {size:,} bytes through DataLoader(num_workers={workers}, batch_size={batch}), "
        "{milliseconds} ms away",
        label="DataLoader, 2 workers, 35 ms away",
        prepare=_objects,
        full={**SMALL, "program": "load_batches", "reads": 20_000, "workers": 2, "batch": 64},
        quick=FEW_READS,
        goals=[_rate(CXX, 2, 3)],
    ),
    Work(
        name="far-map",
        title="{reads:,} objects of {size:,} bytes by number, in shuffled batches of {batch}, {milliseconds} ms away",
        label="shuffled batches of 64, 35 ms away",
        prepare=_objects,
        full={**SMALL, "program": "load_shuffled", "reads": 10_000, "batch": 64},
        quick=FEW_READS,
        goals=[_rate(CXX, 2, 3)],
    ),
    Work(
        name="far-first",
        title="the first {first} objects of {size:,} bytes in a new process, {milliseconds} ms away",
        label="first 64 objects, 35 ms away",
        unit="ms",
        figure="seconds_each",
        scale=1e3,
        prepare=_first,
        full={**SMALL, "first": 64},
        quick={"count": 500},
        goals=[Goal(against=SETUP, figure="seconds_each", reach=2.5, aim=1.6, is_ceiling=True)],
    ),
    Work(
        name="far-limit",
        title="{reads:,} objects of {size:,} bytes from a server that allows {allowed} requests a second, "
        "{milliseconds} ms away",
        label="500 requests a second allowed",
        prepare=_limited,
        full={**SMALL, "reads": 10_000, "allowed": 500},
        quick=FEW_READS,
        goals=[_rate(ALLOWED, 0.98, 0.99), Goal(against="", extra="refused", reach=0.03, aim=0.01, is_ceiling=True)],
    ),
    _large_work("readinto", "reader.readinto of {size:,} bytes", _read_into),
    _large_work("load", "torch.load of {size:,} bytes in {tensors} tensors", _load, tensors=64),
    _large_work("save", "torch.save of {size:,} bytes in {tensors} tensors", _save, tensors=64),
    _large_work("dcp-save", "dcp.save of {size:,} bytes in {tensors} tensors", _dcp_save, tensors=150),
    _large_work("dcp-load", "dcp.load of {size:,} bytes in {tensors} tensors", _dcp_load, tensors=150),
)
