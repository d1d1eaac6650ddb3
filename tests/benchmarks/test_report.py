"""Results for people and for machines."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from benchmark_results import result, taken

from benchmarks.report import WIDTH, cpu_text, markdown_table, number, text_table
from benchmarks.values import CXX, MIB, CallCounts, Curve, Goal, Outcome, dump_result, load_result

GOALS = (
    Goal(against=CXX, reach=2.5, aim=4),
    Goal(against="", figure="peak", reach=64 * MIB, aim=32 * MIB, is_ceiling=True),
)


def test_the_table_shows_what_was_measured_and_how_far_goals_are() -> None:
    found = [result(taken(30, 33), taken(10, 11), *GOALS)]
    heading, title, ours, our_goals, theirs, their_goals = text_table(found).splitlines()
    assert heading.split()[:2] == ["work", "/"]
    assert title == "small: 10 objects (objects/s)"
    assert ours.split()[:5] == ["ours", "31.5", "30", "to", "33"]
    assert our_goals == "    peak 0 MiB (at most 64, aim 32) ++"
    assert theirs.endswith("3x")
    assert their_goals == "    rate 3x (2.5, aim 4) +"


def test_bytes_are_shown_for_each_process_and_for_each_second_of_cpu_time() -> None:
    # 100 objects of 1 GB at 8 objects/s, with 5 s of CPU time, by two processes
    found = replace(result(taken(8, cpu_seconds=5), taken(4)), bytes_each=1e9, processes=2)
    _, _, ours, theirs = text_table([found]).splitlines()
    assert ours.split()[-2:] == ["4", "20"]
    assert theirs.split()[-3:] == ["2", "100", "2x"]
    assert "| ours | 8 | 8 to 8 | 0.05 s | - | 0 | 4 | 20 | - | - |" in markdown_table([found])


def test_calls_are_shown_where_they_were_counted() -> None:
    found = result(taken(8), taken(4))
    ours, theirs = found.outcomes
    found = replace(found, outcomes=[replace(ours, calls=CallCounts(37.04, 41.6)), theirs])
    assert "37 + 42" in text_table([found]).splitlines()[2]
    assert "| 37 + 42 | - |" in markdown_table([found])
    assert load_result(json.loads(json.dumps(dump_result(found)))).outcomes[0].calls == CallCounts(37.04, 41.6)


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


def test_a_line_fits_into_a_terminal() -> None:
    long = replace(result(taken(30), taken(10), *GOALS * 9), title="a title " * 30, notes=["a note " * 40])
    assert max(map(len, text_table([long]).splitlines())) <= WIDTH


def test_the_widest_row_fits_too() -> None:
    samples = taken(327_472, 387_696, 492_593, caller_seconds=0.3, peak_bytes=4110 * MIB)
    found = result(samples, samples, name="ours, enableFastList, listConcurrency 4")
    assert max(map(len, text_table([replace(found, bytes_each=1e6)]).splitlines())) <= WIDTH


def test_markdown_has_a_table_for_each_result_with_as_many_cells_in_each_row_and_none_empty() -> None:
    text = markdown_table([result(taken(30), taken(10), *GOALS), result(taken(3), [])])
    assert text.count("**small**") == 2
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1
    assert "|  |" not in text
    assert "- C++ connector: rate 3x (2.5, aim 4) +" in text


def test_results_survive_json() -> None:
    before = [
        result(taken(30), taken(10), *GOALS),
        replace(result(taken(1), taken(2)), curve=Curve("c", "t", "x", "y"), x=3.0),
    ]
    after = [load_result(json.loads(json.dumps(dump_result(each)))) for each in before]
    assert text_table(after) == text_table(before)
    assert [(each.curve, each.x) for each in after] == [(each.curve, each.x) for each in before]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.01234, "0.0123"), (3.14159, "3.14"), (314.15, "314"), (31415.9, "31,416")]
)
def test_numbers_have_the_digits_that_count(value: float, text: str) -> None:
    assert number(value) == text


def test_cpu_time_is_in_the_unit_that_reads_well() -> None:
    assert (cpu_text(61e-6), cpu_text(0.31)) == ("61 us", "0.31 s")


@pytest.mark.parametrize(("caller_seconds", "text"), [(0.0, "0.01 s"), (0.25, "0.01 s (25%)"), (0.99, "0.01 s")])
def test_the_calling_threads_share_is_shown_where_others_have_one(caller_seconds: float, text: str) -> None:
    table = markdown_table([result(taken(10, caller_seconds=caller_seconds), taken(5))])
    (row,) = [line for line in table.splitlines() if line.startswith("| ours")]
    assert row.split(" | ")[3] == text
