"""Files of tensors in the safetensors format."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.programs.large import make_state
from benchmarks.site import BUCKET, Site
from benchmarks.values import CXX, MIB, Contender, Goal, Work

from .large import FULL, GIB, QUICK
from .objects import connectors

URI = f"oss://{BUCKET}/tensors"
MAPPED = "local file, mapped and touched"
COPIED = "local file, copied"


def _load(site: Site, *, size: int, tensors: int) -> list[Contender]:
    from safetensors.torch import save_file

    path, small = site.memory / "tensors", site.memory / "tensors.small"
    save_file(make_state(size, tensors), path)
    save_file(make_state(4 * MIB, 1), small)
    site.put_file("tensors", path)
    site.put_file("tensors.small", small)
    options = {"path": str(path), "size": size}
    return [
        *connectors(site, "tensors:load", {"uri": URI, "size": size}),
        Contender(name=MAPPED, program="tensors:load_local", options=options, is_limit=True),
        Contender(name=COPIED, program="tensors:copy_local", options=options, is_limit=True),
    ]


def _save(site: Site, *, size: int, tensors: int) -> list[Contender]:
    site.discard_uploads()
    return connectors(site, "tensors:save", {"uri": URI, "size": size, "tensors": tensors})


WORKS: Sequence[Work] = (
    Work(
        name="st-load",
        label="safetensors load of 1 GiB",
        title="OssSafetensor.load_file of {size:,} bytes in {tensors} tensors",
        unit="GB/s",
        scale=1e-9,
        prepare=_load,
        full={**FULL, "tensors": 64},
        quick=QUICK,
        goals=[
            Goal(against=CXX, reach=2, aim=3),
            Goal(against=COPIED, reach=0.8, aim=1),
            Goal(against=MAPPED, reach=0.8, aim=1),
            Goal(against="", figure="peak", reach=GIB + 64 * MIB, aim=GIB + 32 * MIB, is_ceiling=True),
        ],
    ),
    Work(
        name="st-save",
        label="safetensors save of 1 GiB",
        title="OssSafetensor.save_file of {size:,} bytes in {tensors} tensors",
        unit="GB/s",
        scale=1e-9,
        prepare=_save,
        full={**FULL, "tensors": 64},
        quick=QUICK,
        goals=[
            Goal(against=CXX, reach=2.5, aim=4),
            Goal(against="", figure="peak", reach=64 * MIB, aim=32 * MIB, is_ceiling=True),
        ],
    ),
)
