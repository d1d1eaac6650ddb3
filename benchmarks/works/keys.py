"""Keys: list them, and keep them."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.site import BUCKET, Site
from benchmarks.values import OURS, Contender, Goal, Work

from .objects import connectors

OSS2 = "oss2"


def _list(site: Site, *, count: int) -> list[Contender]:
    # Keys as long as those of real data sets; the C++ connector leaves out empty objects.
    folder = "train/class-0042/shard-of-pictures"
    site.fill(folder, count, b"1")
    site.fill("small", 10, b"1")
    ours = {"uri": f"oss://{BUCKET}/{folder}/", "warm_up": f"oss://{BUCKET}/small/", "count": count}
    theirs = {"keys": site.keys(), "prefix": f"{folder}/", "warm_up": "small/", "count": count}
    return [
        *connectors(site, "listing:list_into_dataset", ours),
        Contender(name=OSS2, program="listing:list_by_oss2", options=theirs, where="peers"),
    ]


def _index(site: Site, *, count: int, key_size: int) -> list[Contender]:
    folder = site.memory / "index"
    folder.mkdir()
    options = {"access": site.access({"indexDir": str(folder)}), "count": count, "key_size": key_size}
    return [Contender(name=OURS, program="listing:build_index", options=options)]


WORKS: Sequence[Work] = (
    Work(
        name="listing",
        label="listing 200,000 keys",
        title="listing {count:,} keys: into a map dataset (oss2: counting them)",
        unit="keys/s",
        prepare=_list,
        full={"count": 200_000},
        quick={"count": 10_000},
        goals=[Goal(against=OSS2, reach=5, aim=10)],
    ),
    Work(
        name="index",
        title="a table of {count:,} keys of {key_size} bytes, from a manifest",
        unit="keys/s",
        prepare=_index,
        full={"count": 10_000_000, "key_size": 60},
        quick={"count": 50_000},
        goals=[
            Goal(against="", extra="bytes_per_key", reach=120, aim=80, is_ceiling=True),
            Goal(against="", extra="open_seconds", reach=1, aim=0.3, is_ceiling=True),
            Goal(against="", extra="private_mib", reach=1, aim=0.1, is_ceiling=True),
        ],
    ),
)
