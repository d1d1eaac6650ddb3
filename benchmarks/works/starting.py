"""The cost of importing the library."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.site import Site
from benchmarks.values import CXX, OURS, Contender, Goal, Where, Work

TORCH = "import torch"


def _import(_site: Site, *, times: int) -> list[Contender]:
    names = "OssIterableDataset, OssMapDataset, OssCheckpoint"

    def contender(name: str, statement: str, where: Where = "main") -> Contender:
        options, program = {"statement": statement, "times": times}, "imports:import_it"
        is_extra = where == "peers"
        return Contender(name=name, program=program, options=options, where=where, preload=(), is_extra=is_extra)

    return [
        contender(OURS, "import osstorchconnector"),
        contender(TORCH, "import torch"),
        contender("ours, with its classes", f"from osstorchconnector import {names}"),
        contender(CXX, f"from osstorchconnector import {names}", "peers"),
    ]


WORKS: Sequence[Work] = (
    Work(
        name="import",
        title="importing the library, {times} times",
        unit="ms",
        figure="seconds_each",
        scale=1e3,
        prepare=_import,
        full={"times": 3},
        quick={"times": 1},
        goals=[Goal(against=TORCH, figure="seconds_each", reach=1.10, aim=1.03, is_ceiling=True)],
    ),
)
