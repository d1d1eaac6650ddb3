"""`python -m benchmarks`: measure, and print one table."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from osstorchconnector.local_files import written_whole

from .crew import ROOT, Crew
from .report import bars, curves, markdown_table, text_table
from .runner import run
from .values import Result, Work, dump_result, load_result
from .works import CURVES, TUNING, WORKS

GROUPS = {"curves": CURVES, "tuning": TUNING}
PEERS = ROOT / ".venv-peers" / "bin" / "python"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.list:
        say("\n".join(f"{work.name:12} {work.title.format(**work.full)}" for work in WORKS))
        return 0
    results = load(options.merge) if options.merge else measure(options)
    say(markdown_table(results) if options.markdown else text_table(results))
    write(results, options.json)
    if options.chart:
        draw(results, options.chart, options.peers)
    return 0


def measure(options: argparse.Namespace) -> list[Result]:
    """Do the works that were asked for. Results are written after each work, since all of them may take an hour."""
    results: list[Result] = []
    rounds = options.rounds or (1 if options.quick else 5)
    with tempfile.NamedTemporaryFile(prefix="benchmarks-", suffix=".log", delete=False) as log:
        say(f"the output of the programs is in {log.name}", sys.stderr)
        with Crew(options.peers, log) as crew:
            for work in chosen(options.work):
                results.append(run(work, crew, is_quick=options.quick, rounds=rounds, only=options.only, say=_progress))
                write(results, options.json)
    return results


def chosen(names: Sequence[str]) -> list[Work]:
    """Return the works of these names. `curves` and `tuning` mean all of that kind; no name means all the others."""
    if not names:
        return list(WORKS)
    wanted = {*names, *(work.name for group, works in GROUPS.items() if group in names for work in works)}
    return [work for work in (*WORKS, *CURVES, *TUNING) if work.name in wanted]


def draw(results: Sequence[Result], path: str, peers: Path) -> None:
    """Draw bars, or curves if there are any, as PNG, in the environment that has matplotlib."""
    data = {"bars": bars(results), "curves": curves(results)}
    script = Path(__file__).with_name("chart.py")
    subprocess.run([str(peers), str(script), path], input=json.dumps(data).encode(), check=True)


def write(results: Sequence[Result], path: str) -> None:
    """Write results for `--merge`, if `path` is given."""
    if path:
        with written_whole(path) as file:
            file.write(json.dumps(dump(results), indent=1).encode())


def dump(results: Sequence[Result]) -> dict[str, Any]:
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()}
    return {"machine": machine, "results": [dump_result(result) for result in results]}


def load(paths: Sequence[str]) -> list[Result]:
    """Return the results that earlier runs wrote with `--json`."""
    return [load_result(values) for path in paths for values in json.loads(Path(path).read_text())["results"]]


def say(text: str, file: Any = None) -> None:
    (file or sys.stdout).write(text + "\n")
    (file or sys.stdout).flush()


def _progress(text: str) -> None:
    say(text, sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = [*GROUPS, *(work.name for work in (*WORKS, *CURVES, *TUNING))]
    parser.add_argument("work", nargs="*", choices=[*names, []], metavar="WORK", help="works to do (default: all)")
    parser.add_argument("--list", action="store_true", help="list the works")
    parser.add_argument("--quick", action="store_true", help="small amounts and one round: a trial, not a measurement")
    parser.add_argument("--rounds", type=int, default=0, help="measurements per contender (default: 5, quick: 1)")
    parser.add_argument("--only", type=_names, default=frozenset(), metavar="A,B", help="peers that take part")
    parser.add_argument("--peers", type=Path, default=PEERS, help="the peers' interpreter (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", default="", help="write all samples to this file")
    parser.add_argument("--chart", metavar="FILE", help="draw a chart into this PNG file")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--merge", nargs="+", metavar="FILE", help="measure nothing, show the results of --json")
    return parser


def _names(text: str) -> frozenset[str]:
    return frozenset(name.strip() for name in text.split(","))


if __name__ == "__main__":
    sys.exit(main())
