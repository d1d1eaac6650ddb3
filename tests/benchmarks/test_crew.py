"""Workshops: fresh processes for each measurement."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.budget import Budget
from benchmarks.crew import Crew
from benchmarks.runner import run
from benchmarks.site import Site
from benchmarks.values import OURS, Contender, Goal, Sample, Work
from benchmarks.workshop import shortened


@pytest.fixture(scope="module")
def crew(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    folder = tmp_path_factory.mktemp("crew")
    with open(folder / "log", "wb") as log, Crew(Path(sys.executable), log) as crew:
        yield crew


def importing(name: str, statement: str, **options: object) -> Contender:
    program = {"program": "imports:import_it", "options": {"statement": statement, "times": 1}, "preload": ()}
    return Contender(name=name, **{**program, **options})  # type: ignore[arg-type]


def test_a_contender_is_measured_in_a_process_of_its_own(crew: Crew) -> None:
    (sample,) = crew.measure(importing("x", "pass"), limit_seconds=30).samples
    assert sample.amount == 1
    assert sample.cpu_seconds > 0


def test_calls_are_counted_in_a_process_of_its_own(crew: Crew) -> None:
    calls = crew.count_calls(importing("x", "pass"), limit_seconds=30)
    assert calls is not None
    assert calls.python > 0
    assert crew.count_calls(importing("x", "raise SystemExit(3)"), limit_seconds=30) is None


def test_a_failure_is_told_in_a_line(crew: Crew) -> None:
    outcome = crew.measure(importing("x", "raise SystemExit(3)"), limit_seconds=30)
    assert outcome.samples == ()
    assert "non-zero exit status 3" in outcome.missing


def test_what_takes_too_long_is_given_up(crew: Crew) -> None:
    outcome = crew.measure(importing("x", "import time; time.sleep(60)"), limit_seconds=0.2)
    assert outcome.missing == "not done after 0 s"


def test_a_package_that_is_not_there_is_named(crew: Crew) -> None:
    outcome = crew.measure(importing("x", "pass", preload=("no_such_package",)), limit_seconds=30)
    assert "no_such_package" in outcome.missing


def test_without_the_peers_environment_its_contenders_say_how_to_get_it(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as log, Crew(tmp_path / "python", log) as crew:
        outcome = crew.measure(importing("x", "pass", where="peers"), limit_seconds=30)
    assert "`make bench`" in outcome.missing


def test_no_path_of_the_environment_comes_before_the_peers_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with open(tmp_path / "log", "wb") as log, Crew(Path(sys.executable), log) as crew:
        statement = f"import sys; assert {str(tmp_path)!r} not in sys.path"
        outcome = crew.measure(importing("x", statement, where="peers"), limit_seconds=30)
    assert outcome.missing == ""


def test_a_work_is_run_in_rounds_and_who_fails_is_not_asked_again(crew: Crew) -> None:
    def prepare(_site: Site, *, times: int) -> list[Contender]:
        known = Contender(name="known", sample=Sample(times, 1.0, 1.0, 0))
        return [importing(OURS, "pass"), importing("broken", "raise SystemExit(3)"), known]

    work = Work(
        name="tiny",
        title="{times} times",
        prepare=prepare,
        full={"times": 2},
        quick={"times": 1},
        goals=[Goal(against="known", reach=1, aim=2)],
    )
    said: list[str] = []
    result = run(work, crew, is_quick=False, rounds=2, only=frozenset(), budget=Budget(), say=said.append)
    assert result.title == "2 times"
    assert [(each.name, len(each.samples)) for each in result.outcomes] == [(OURS, 2), ("broken", 0), ("known", 2)]
    assert [text.rpartition(", ")[2] for text in said] == [OURS, "broken", "known", "known", OURS]


def test_of_an_error_with_a_traceback_the_last_line_counts() -> None:
    assert shortened(RuntimeError("Traceback\n  File\nOSError: disk full\n")) == "RuntimeError: OSError: disk full"
    assert shortened(KeyError()) == "KeyError: "
