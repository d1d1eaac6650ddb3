"""Results with their machine, as files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_results import result, taken

from benchmarks.report import text_table
from benchmarks.runs import Machine, Run, dates_of, merged, read_run, rounds_of, subtitle_of, this_machine, write_run
from benchmarks.values import Goal

HERE = Machine(name="a quiet one, 2 cores", cores=2, python="3.11.7", torch="2.13.0", system="Linux 6")


def test_a_run_survives_its_file(tmp_path: Path) -> None:
    before = Run(HERE, [result(taken(30), taken(10), Goal(against="", reach=1, aim=2)), result(taken(1), taken(2))])
    write_run(before, tmp_path / "folder" / "run.json")
    after = read_run(tmp_path / "folder" / "run.json")
    assert after.machine == HERE
    assert text_table(after.results) == text_table(before.results)


def test_a_file_has_a_line_for_each_result(tmp_path: Path) -> None:
    write_run(Run(HERE, [result(taken(1), taken(2))] * 3), tmp_path / "run.json")
    lines = (tmp_path / "run.json").read_text().splitlines()
    assert len([line for line in lines if line.startswith('{"name": "small"')]) == 3


def test_this_machine_is_named_by_its_processor_or_as_asked() -> None:
    machine = this_machine()
    assert machine.name.endswith(f"{machine.cores} cores")
    assert this_machine("mine") == replace(machine, name="mine")


def test_of_two_results_with_a_name_the_later_counts() -> None:
    old, new, other = (replace(result(taken(1), []), name=name, date=date) for name, date in ("ax", "ay", "bx"))
    assert merged([Run(HERE, [old, other]), Run(HERE, [new])]).results == [new, other]


def test_figures_of_different_machines_are_not_merged() -> None:
    with pytest.raises(ValueError, match="different machines: a quiet one, 2 cores; another"):
        merged([Run(HERE, []), Run(replace(HERE, name="another"), [])])


def test_a_subtitle_says_where_when_and_how_often() -> None:
    results = [
        replace(result(taken(1), taken(2)), date="2026-11-29"),
        replace(result(taken(1, 2), taken(2)), date="2026-11-28"),
    ]
    assert subtitle_of(Run(HERE, results)) == "a quiet one, 2 cores; 2026-11-28 to 2026-11-29; rounds: 1 to 2"
    assert (dates_of(results[:1]), rounds_of(results[:1])) == ("2026-11-29", "1")
    assert (dates_of([]), rounds_of([])) == ("at an unknown time", "0")
