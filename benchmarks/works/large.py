"""One large object: read, written, and as torch's state dict."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.programs.large import make_state
from benchmarks.site import BUCKET, Site
from benchmarks.values import CXX, MIB, Contender, Goal, Work

from .objects import connectors, others

GIB = 1 << 30
URI = f"oss://{BUCKET}/large"
BARE = "bare recv_into"
LOCAL = "local file"
NOWHERE = "torch.save to nowhere"
FULL = {"size": GIB}
QUICK = {"size": 32 * MIB}


def put_large(site: Site, size: int) -> str:
    """Put an object of `size` bytes, and a small one beside it; return its URI."""
    site.put_stream("large", _blocks(size))
    site.put_stream("large.small", [b"small"])
    return URI


def _blocks(size: int) -> Iterator[bytes]:
    block = os.urandom(min(size, 16 * MIB))
    for start in range(0, size, len(block)):
        yield block[: size - start]


def _read_into(site: Site, *, size: int) -> list[Contender]:
    uri = put_large(site, size)
    options = {"keys": site.keys(), "name": "large", "size": size, "part": 8 * MIB, "threads": 4}
    return [
        *connectors(site, "large:read_into", {"uri": uri, "size": size}),
        Contender(name=BARE, program="limits:bare_reads", options=options, is_limit=True),
        *others(site, "large", {"name": "large", "size": size}),
    ]


def _read_pieces(site: Site, *, size: int, piece: int) -> list[Contender]:
    return connectors(site, "large:read_pieces", {"uri": put_large(site, size), "size": size, "piece": piece})


def _write_pieces(site: Site, *, size: int, piece: int) -> list[Contender]:
    site.discard_uploads()
    return connectors(site, "large:write_pieces", {"uri": URI, "size": size, "piece": piece})


def put_state(site: Site, size: int, tensors: int) -> Path:
    """Put a state dict, and a small object beside it; return the local file with the same bytes."""
    import torch

    path = site.memory / "state.pt"
    torch.save(make_state(size, tensors), path)
    site.put_file("large", path)
    site.put_stream("large.small", [b"small"])
    return path


def _load(site: Site, *, size: int, tensors: int) -> list[Contender]:
    path = put_state(site, size, tensors)
    options = {"path": str(path), "size": size}
    return [
        *connectors(site, "large:load_state", {"uri": URI, "size": size}),
        Contender(name=LOCAL, program="large:load_local_state", options=options, is_limit=True),
    ]


def _save(site: Site, *, size: int, tensors: int) -> list[Contender]:
    site.discard_uploads()
    options = {"size": size, "tensors": tensors}
    return [
        *connectors(site, "large:save_state", {"uri": URI, **options}),
        Contender(name=NOWHERE, program="large:save_nowhere", options=options, is_limit=True),
    ]


WORKS: Sequence[Work] = (
    Work(
        name="readinto",
        label="1 GiB by readinto",
        title="an object of {size:,} bytes by reader.readinto(buffer)",
        unit="GB/s",
        scale=1e-9,
        prepare=_read_into,
        full=FULL,
        quick=QUICK,
        goals=[
            Goal(against=CXX, reach=1.5, aim=2.5),
            Goal(against=BARE, reach=0.85, aim=0.95),
            Goal(against="", figure="peak", reach=64 * MIB, aim=32 * MIB, is_ceiling=True),
        ],
    ),
    Work(
        name="readinto-tls",
        label="1 GiB by readinto, https",
        title="an object of {size:,} bytes by reader.readinto(buffer), by https",
        unit="GB/s",
        scale=1e-9,
        options={"is_secure": True},
        prepare=_read_into,
        full=FULL,
        quick=QUICK,
        goals=[Goal(against=CXX, reach=1.5, aim=2), Goal(against="obstore (unsigned)", reach=1.5, aim=2)],
    ),
    Work(
        name="read64k",
        label="1 GiB by 64 KiB reads",
        title="an object of {size:,} bytes by read({piece})",
        unit="GB/s",
        scale=1e-9,
        prepare=_read_pieces,
        full={**FULL, "piece": 65536},
        quick=QUICK,
        goals=[Goal(against=CXX, reach=1.7, aim=2.5)],
    ),
    Work(
        name="load",
        label="torch.load of 1 GiB",
        title="torch.load of a state dict of {size:,} bytes in {tensors} tensors",
        unit="GB/s",
        scale=1e-9,
        prepare=_load,
        full={**FULL, "tensors": 64},
        quick=QUICK,
        goals=[Goal(against=CXX, reach=1.7, aim=2.5), Goal(against=LOCAL, reach=0.5, aim=0.8)],
    ),
    Work(
        name="save",
        label="torch.save of 1 GiB",
        title="torch.save of a state dict of {size:,} bytes in {tensors} tensors",
        unit="GB/s",
        scale=1e-9,
        prepare=_save,
        full={**FULL, "tensors": 64},
        quick=QUICK,
        goals=[Goal(against=CXX, reach=2.5, aim=4)],
    ),
    Work(
        name="read4g",
        title="an object of {size:,} bytes by read({piece}), for its memory",
        unit="GB/s",
        scale=1e-9,
        prepare=_read_pieces,
        full={"size": 4 * GIB, "piece": MIB},
        quick=QUICK,
        goals=[Goal(against="", figure="peak", reach=300 * MIB, aim=150 * MIB, is_ceiling=True)],
    ),
    Work(
        name="write4g",
        title="an object of {size:,} bytes by write of {piece} bytes each, for its memory",
        unit="GB/s",
        scale=1e-9,
        prepare=_write_pieces,
        full={"size": 4 * GIB, "piece": MIB},
        quick=QUICK,
        goals=[Goal(against="", figure="peak", reach=700 * MIB, aim=350 * MIB, is_ceiling=True)],
    ),
)
