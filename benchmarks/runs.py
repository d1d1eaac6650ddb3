"""Runs: results with the machine that they were measured on, as JSON files."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from osstorchconnector.local_files import written_whole

from .values import OURS, Result, dump_result, load_result

_PROCESSORS = Path("/proc/cpuinfo")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where results were measured. `name` is what readers see."""

    name: str
    cores: int
    python: str
    torch: str
    system: str


@dataclass(frozen=True)
class Run:
    """The results of one machine."""

    machine: Machine
    results: Sequence[Result]


def this_machine(name: str = "") -> Machine:
    """Return this machine; without a name it is called after its processor and cores."""
    cores = os.cpu_count() or 1
    return Machine(
        name=name or f"{_processor()}, {cores} cores",
        cores=cores,
        python=platform.python_version(),
        torch=importlib.metadata.version("torch"),
        system=f"{platform.system()} {platform.release()}",
    )


def dates_of(results: Sequence[Result]) -> str:
    """Return when results were measured, as a date or two."""
    dates = sorted({result.date for result in results if result.date})
    return " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "at an unknown time"


def rounds_of(results: Sequence[Result]) -> str:
    """Return how often results were measured, as a number or two."""
    counts = sorted({len(each.samples) for result in results for each in result.outcomes if each.name == OURS})
    return " to ".join(map(str, dict.fromkeys((counts[0], counts[-1])))) if counts else "0"


def subtitle_of(run: Run) -> str:
    """Return what a chart says about where its values come from."""
    return f"{run.machine.name}; {dates_of(run.results)}; rounds: {rounds_of(run.results)}"


def merged(runs: Sequence[Run]) -> Run:
    """Return one run with the results of all; of two with the same name the later one. At least one run is needed.

    Raises `ValueError` for runs of different machines, whose figures don't belong in one table.
    """
    names = sorted({run.machine.name for run in runs})
    if len(names) > 1:
        raise ValueError(f"these are figures of different machines: {'; '.join(names)}")
    results = {result.name: result for run in runs for result in run.results}
    return Run(runs[-1].machine, list(results.values()))


def read_run(path: str | os.PathLike[str]) -> Run:
    """Return the run that `write_run` wrote."""
    values = json.loads(Path(path).read_text(encoding="utf-8"))
    return Run(Machine(**values["machine"]), [load_result(result) for result in values["results"]])


def write_run(run: Run, path: str | os.PathLike[str]) -> None:
    """Write a run as JSON, one line for each result, so that a change of one is a change of a line."""
    results = ",\n".join(json.dumps(dump_result(result)) for result in run.results)
    text = f'{{"machine": {json.dumps(asdict(run.machine))},\n"results": [\n{results}\n]}}\n'
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as file:
        file.write(text.encode())


def _processor() -> str:
    lines = _PROCESSORS.read_text().splitlines() if _PROCESSORS.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()
