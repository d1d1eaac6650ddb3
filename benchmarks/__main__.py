"""`python -m benchmarks`: measure, and print one table."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .budget import Budget
from .crew import PEERS, Crew
from .drawing import draw
from .report import markdown_table, text_table
from .runner import run as measure_work
from .runs import Run, merged, read_run, this_machine, write_run
from .values import Result, Work
from .works import CURVES, SCALE, TUNING, WORKS

GROUPS = {"works": WORKS, "curves": CURVES, "scale": SCALE, "tuning": TUNING}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.list:
        say("\n".join(f"{work.name:16} {work.title.format(**work.full)}" for work in WORKS))
        return 0
    run = read(options.merge) if options.merge else measure(options)
    say(markdown_table(run.results) if options.markdown else text_table(run.results))
    if options.json:
        write_run(run, options.json)
    if options.charts:
        draw(run, options.charts, options.peers)
    return 0


def read(paths: Sequence[str]) -> Run:
    """Return the results of earlier runs in the order of the catalogue. Exits if they are of different machines."""
    try:
        run = merged([read_run(path) for path in paths])
    except ValueError as error:
        sys.exit(f"{error}")
    places = {work.name: place for place, work in enumerate(work for works in GROUPS.values() for work in works)}
    return replace(run, results=sorted(run.results, key=lambda result: places.get(result.name, len(places))))


def measure(options: argparse.Namespace) -> Run:
    """Do the works that were asked for. Results are written after each work, since all of them may take an hour.

    Works that would probably end after the budget are left out.
    """
    machine, results = this_machine(options.machine), list[Result]()
    rounds = options.rounds or (1 if options.quick else 5)
    budget = Budget(options.budget)
    how = {"is_quick": options.quick, "rounds": rounds, "only": options.only, "budget": budget, "say": _progress}
    with tempfile.NamedTemporaryFile(prefix="benchmarks-", suffix=".log", delete=False) as log:
        say(f"the output of the programs is in {log.name}", sys.stderr)
        with Crew(options.peers, log) as crew:
            for work in chosen(options.work):
                if not budget.has_room():
                    say(f"{work.name}: left out, the {options.budget:.0f} s are nearly over", sys.stderr)
                    continue
                results.append(measure_work(work, crew, **how))
                budget.note()
                if options.json:
                    write_run(Run(machine, results), options.json)
    return Run(machine, results)


def chosen(names: Sequence[str]) -> list[Work]:
    """Return the works of these names. A name of `GROUPS` means all of that kind; no name means `works`."""
    names = names or ["works"]
    wanted = {*names, *(work.name for group, works in GROUPS.items() if group in names for work in works)}
    return [work for works in GROUPS.values() for work in works if work.name in wanted]


def say(text: str, file: Any = None) -> None:
    (file or sys.stdout).write(text + "\n")
    (file or sys.stdout).flush()


def _progress(text: str) -> None:
    say(text, sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [*GROUPS, *(work.name for works in GROUPS.values() for work in works)]
    parser.add_argument("work", nargs="*", choices=[*names, []], metavar="WORK", help="works to do (default: all)")
    parser.add_argument("--list", action="store_true", help="list the works")
    parser.add_argument("--quick", action="store_true", help="small amounts and one round: a trial, not a measurement")
    parser.add_argument("--rounds", type=int, default=0, help="measurements per contender (default: 5, quick: 1)")
    parser.add_argument("--only", type=_names, default=frozenset(), metavar="A,B", help="peers that take part")
    parser.add_argument("--peers", type=Path, default=PEERS, help="the peers' interpreter (default: %(default)s)")
    parser.add_argument("--budget", type=float, default=0, metavar="SECONDS", help="leave out what takes longer")
    parser.add_argument("--machine", default="", metavar="NAME", help="what to call this machine in results")
    parser.add_argument("--json", metavar="FILE", default="", help="write machine and samples to this file")
    parser.add_argument("--charts", metavar="FOLDER", help="draw charts into this folder, as PNG files")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument(
        "--merge", nargs="+", metavar="FILE", help="measure nothing, show the results of --json; the last one counts"
    )
    return parser


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
