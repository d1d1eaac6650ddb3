"""The works that there are."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_results import result, taken

from benchmarks.__main__ import chosen, main, read
from benchmarks.runner import chosen as taking_part
from benchmarks.runner import with_counts
from benchmarks.runs import Run, this_machine, write_run
from benchmarks.values import Contender, Sample, Work
from benchmarks.works import CURVES, SCALE, TUNING, WORKS
from osstorchconnector.emulator import Counters

ALL = (*WORKS, *CURVES, *SCALE, *TUNING)


def test_no_two_works_have_one_name() -> None:
    assert len({work.name for work in ALL}) == len(ALL)


@pytest.mark.parametrize("work", ALL, ids=lambda work: work.name)
@pytest.mark.parametrize("is_quick", [False, True])
def test_titles_tell_the_sizes(work: Work, is_quick: bool) -> None:
    assert "{" not in work.title.format(**work.sizes(is_quick=is_quick))


@pytest.mark.parametrize("work", ALL, ids=lambda work: work.name)
def test_an_aim_is_beyond_what_is_to_be_reached(work: Work) -> None:
    for goal in work.goals:
        assert goal.aim < goal.reach if goal.is_ceiling else goal.aim > goal.reach


def test_a_name_chooses_a_work_and_none_all_but_the_curves() -> None:
    assert [work.name for work in chosen(["save", "small"])] == ["small", "save"]
    assert chosen([]) == chosen(["works"]) == list(WORKS)
    assert chosen(["curves"]) == list(CURVES)
    assert chosen(["tuning", "save"]) == [*chosen(["save"]), *TUNING]


def test_a_quick_look_leaves_out_extras_unless_they_are_named() -> None:
    ours, peer, extra = Contender(name="ours"), Contender(name="peer"), Contender(name="extra", is_extra=True)
    everybody = [ours, peer, extra]
    assert taking_part(everybody, frozenset(), is_quick=False) == everybody
    assert taking_part(everybody, frozenset(), is_quick=True) == [ours, peer]
    assert taking_part(everybody, frozenset({"extra"}), is_quick=True) == [ours, extra]


def test_what_the_servers_counted_is_held_against_what_was_needed() -> None:
    counts = [Counters(requests=Counter(GetObject=15), errors=Counter(GetObject=2), sent=Counter(GetObject=100))]
    counts.append(Counters(requests=Counter(GetObject=5, PutObject=5), sent=Counter(GetObject=5, PutObject=500)))
    assert with_counts(Sample(1, 1, 1, 0, {"needed_bytes": 100}), counts).extra["sent_of_needed"] == 1.05
    assert with_counts(Sample(1, 1, 1, 0), counts).extra == {"gets": 20, "refused": 0.1}
    assert with_counts(Sample(1, 1, 1, 0), [Counters()]).extra == {"gets": 0, "refused": 0.0}


def test_earlier_results_come_in_the_order_of_the_catalogue(tmp_path: Path) -> None:
    machine = this_machine("mine")
    for name in ("save", "gone", "small"):
        write_run(Run(machine, [replace(result(taken(1), taken(2)), name=name)]), tmp_path / name)
    paths = [str(tmp_path / name) for name in ("save", "gone", "small")]
    assert [each.name for each in read(paths).results] == ["small", "save", "gone"]


def test_results_of_different_machines_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_run(Run(this_machine(name), []), tmp_path / name)
    with pytest.raises(SystemExit, match="different machines: a; b"):
        read([str(tmp_path / "a"), str(tmp_path / "b")])


def test_the_command_names_the_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [work.name for work in WORKS]
