"""Results for people and for machines."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from benchmark_results import result, taken

from benchmarks.report import bars, cpu_text, curves, markdown_table, number, text_table
from benchmarks.values import CXX, MIB, Curve, Goal, Outcome, dump_result, load_result

GOALS = (
    Goal(against=CXX, reach=2.5, aim=4),
    Goal(against="", figure="peak", reach=64 * MIB, aim=32 * MIB, is_ceiling=True),
)


def test_the_table_shows_what_was_measured_and_how_far_goals_are() -> None:
    heading, title, ours, theirs = text_table([result(taken(30, 33), taken(10, 11), *GOALS)]).splitlines()
    assert heading.split()[:2] == ["work", "/"]
    assert title == "small: 10 objects (objects/s)"
    assert ours.split()[:5] == ["ours", "31.5", "30", "to", "33"]
    assert "peak 0 MiB (at most 64, aim 32) ++" in ours
    assert theirs.endswith("rate 3x (2.5, aim 4) +")


def test_who_could_not_take_part_says_why() -> None:
    found = replace(result(taken(1), []), outcomes=[Outcome(name="wrk", missing="not installed: apt-get install wrk")])
    assert "  wrk: not installed: apt-get install wrk" in text_table([found])


def test_the_row_says_when_the_server_is_the_limit() -> None:
    assert "the server is the limit" in text_table([result(taken(10), taken(11), name="wrk")])
    assert "the server is the limit" not in text_table([result(taken(10), taken(20), name="wrk")])


def test_a_work_of_durations_shows_durations() -> None:
    found = replace(result(taken(10), taken(20)), figure="seconds_each", scale=1e3, unit="ms")
    _, _, ours, theirs = text_table([found]).splitlines()
    assert ours.split()[1:5] == ["100", "100", "to", "100"]
    assert theirs.split()[2:6] == ["50", "50", "to", "50"]


def test_the_markdown_table_has_as_many_cells_in_each_row() -> None:
    lines = markdown_table([result(taken(30), taken(10), *GOALS)]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[1].startswith("| --- |")


def test_results_survive_json() -> None:
    before = [
        result(taken(30), taken(10), *GOALS),
        replace(result(taken(1), taken(2)), curve=Curve("c", "x", "y"), x=3.0),
    ]
    after = [load_result(json.loads(json.dumps(dump_result(each)))) for each in before]
    assert text_table(after) == text_table(before)
    assert [(each.curve, each.x) for each in after] == [(each.curve, each.x) for each in before]


def test_bars_show_each_peer_but_not_ourselves() -> None:
    assert bars([result(taken(30), taken(10))]) == [{"work": "small", "peer": CXX, "ratio": pytest.approx(3)}]


def test_curves_have_a_line_for_each_with_a_point_for_each_work() -> None:
    curve = Curve("size", "bytes", "objects/s")
    points = [replace(result(taken(10, 30), taken(5)), curve=curve, x=x) for x in (1.0, 2.0)]
    (found,) = curves(points)
    assert found["lines"]["ours"] == [pytest.approx([x, 20, 10, 30]) for x in (1, 2)]
    assert bars(points) == []


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.01234, "0.0123"), (3.14159, "3.14"), (314.15, "314"), (31415.9, "31,416")]
)
def test_numbers_have_the_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_cpu_time_is_in_the_unit_that_reads_well() -> None:
    assert (cpu_text(61e-6), cpu_text(0.31)) == ("61 us", "0.31 s")


@pytest.mark.parametrize(("caller_seconds", "text"), [(0.0, "0.01 s"), (0.25, "0.01 s (25 %)"), (0.99, "0.01 s")])
def test_the_calling_threads_share_is_shown_where_others_have_one(caller_seconds: float, text: str) -> None:
    table = markdown_table([result(taken(10, caller_seconds=caller_seconds), taken(5))])
    (row,) = [line for line in table.splitlines() if line.startswith("| ours")]
    assert row.split(" | ")[3] == text
