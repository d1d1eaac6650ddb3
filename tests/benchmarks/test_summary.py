"""What the pages show of published runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from benchmark_results import result, taken

from benchmarks import summary
from benchmarks.runs import Machine, Run
from benchmarks.values import Curve, Outcome, Result
from benchmarks.works.objects import WITH_24

HERE = Machine(name="a quiet one", cores=2, python="3.11.7", torch="2.13.0", system="Linux 6")


def runs(*results: Result) -> dict[str, Run]:
    return {"here": Run(HERE, results)}


def made(name: str, label: str, rate: float, peer: float, **changes: Any) -> Result:
    return replace(result(taken(rate), taken(peer)), name=name, label=label, date="2026-11-29", **changes)


def cells(table: str) -> Sequence[Sequence[str]]:
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [line.strip("| ").split(" | ") for line in (*lines[:1], *lines[2:])]


def test_machines_are_described_with_a_link_to_their_rows() -> None:
    _, row = cells(summary.machines(runs(made("small", "objects", 3, 2))))
    assert row[:7] == ["a quiet one", "2", "3.11.7", "2.13.0", "Linux 6", "2026-11-29", "1"]
    assert row[7] == "[all rows](figures/here/tables.md)"


def test_far_and_near_have_charts_and_tables_of_their_own() -> None:
    both = runs(made("small", "objects", 30, 10), made("far", "objects, far", 3, 2, milliseconds=35.0))
    assert cells(summary.near(both))[1] == ["objects (objects/s)", "30", "10", "3x", "-"]
    assert cells(summary.far(both))[1] == ["objects, far (objects/s)", "3", "2", "1.5x", "-"]
    assert "(figures/here/far-peer.png)" in summary.far(both)
    assert "(figures/here/near-peer.png)" in summary.near(both)
    assert "far-" not in summary.near(both)


def test_the_share_of_the_possible_speed_names_the_limit() -> None:
    limit = Outcome(name="wrk", samples=taken(40), is_limit=True)
    one = made("small", "objects", 30, 10)
    (_, row) = cells(summary.near(runs(replace(one, outcomes=[*one.outcomes, limit]))))
    assert row[-1] == "75% of wrk, which discards the bytes"


def test_a_run_without_rows_has_no_table() -> None:
    assert summary.far(runs(made("small", "objects", 30, 10))) == ""
    assert summary.scale(runs()) == summary.growth(runs()) == summary.planning(runs()) == ""


def test_ratios_have_a_column_for_each_machine_and_show_the_lower_server() -> None:
    other = Run(replace(HERE, name="another"), [made("small", "objects", 30, 20)])
    here = Run(HERE, [made("small", "objects", 30, 10), made("small-nginx", "objects, from nginx", 30, 25)])
    heading, row = cells(summary.ratios({"a": here, "b": other}))
    assert heading[-2:] == ["a quiet one", "another"]
    assert row == ["objects", "1.2x", "1.5x"]


def test_more_processes_have_a_row_for_each_number() -> None:
    curve = Curve("workers", "Workers", "workers", "objects/s", ", 12 ms")
    found = made("workers-4-12ms", "", 30, 10, curve=curve, x=4.0, milliseconds=12.0)
    assert cells(summary.scale(runs(found)))[1] == ["DataLoader workers: 4 (objects/s)", "12", "30", "10", "3x"]
    assert "(figures/here/workers.png)" in summary.scale(runs(found))


@pytest.mark.parametrize(("milliseconds", "rate"), [(0, 5000), (2, 5000), (12, 2000), (80, 300)])
def test_a_plan_is_limited_by_the_network_or_by_the_cpu(milliseconds: float, rate: float) -> None:
    assert summary.planned_rate(24, milliseconds, 5000) == pytest.approx(rate)


def test_plans_are_held_against_what_was_measured() -> None:
    curve = Curve("latency", "Far away", "ms", "objects/s")

    def point(milliseconds: float, rate: float) -> Result:
        one = made(f"latency-{milliseconds}", "", 9000, 10, curve=curve, x=milliseconds, milliseconds=milliseconds)
        return replace(one, outcomes=[*one.outcomes, Outcome(name=WITH_24, samples=taken(rate))])

    table = summary.planning(runs(point(0.0, 5000), point(80.0, 270)))
    assert cells(table)[1:] == [["80", "300", "270", "90%"]]
