"""What the pages show of published runs, as Markdown: charts, and rates of several machines.

Runs are given by the names of their folders, which are beside `docs/performance.md`'s other figures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from .figures import ratio, spread
from .plots import LIMITS, charts, limit_of, lower_of_twins
from .report import NO_VALUE, number
from .runs import Run, dates_of, rounds_of
from .values import CXX, ON_NGINX, OURS, Outcome, Result
from .works.objects import WITH_24

Runs = Mapping[str, Run]
# The rows of the README.
_MAIN = (
    "far-small",
    "far-small-12",
    "far-tiny",
    "far-readinto",
    "far-load",
    "far-save",
    "small",
    "tiny",
    "loader",
    "readinto",
    "load",
    "save",
    "dcp-load",
    "dcp-save",
)
# What the points of the curves of `works/scale.py` are.
_SCALE = {"workers": "DataLoader workers", "processes": "processes, one large object"}


def machines(runs: Runs) -> str:
    """Return what is known about each machine and its run, with a link to all rows."""
    rows = [("machine", "cores", "Python", "torch", "system", "measured", "rounds", "")]
    for folder, run in runs.items():
        each, link = run.machine, f"[all rows](figures/{folder}/tables.md)"
        seen = (dates_of(run.results), rounds_of(run.results), link)
        rows.append((each.name, f"{each.cores}", each.python, each.torch, each.system, *seen))
    return table(rows)


def far(runs: Runs) -> str:
    """Return charts and rates of what was measured at a distance."""
    tables = [_rates(run, [each for each in run.results if each.milliseconds]) for run in runs.values()]
    return "\n\n".join([*_images(runs, "far-peer", "far-limit", "latency"), *filter(None, tables)])


def near(runs: Runs) -> str:
    """Return charts and rates of what was measured without latency."""
    tables = [_rates(run, [each for each in run.results if not each.milliseconds]) for run in runs.values()]
    return "\n\n".join([*_images(runs, "near-peer", "near-limit"), *filter(None, tables)])


def growth(runs: Runs) -> str:
    """Return the charts of how cost grows."""
    return "\n\n".join(_images(runs, "size", "count", "in-flight"))


def scale(runs: Runs) -> str:
    """Return charts and rates over the number of processes."""
    return "\n\n".join([*_images(runs, "workers", "processes"), *filter(None, map(_by_processes, runs.values()))])


def planning(runs: Runs) -> str:
    """Return the rates that the planning formula gives for 24 requests in flight, beside the measured ones."""
    return "\n\n".join(filter(None, map(_planned, runs.values())))


def planned_rate(in_flight: int, milliseconds: float, local_rate: float) -> float:
    """Return the objects/s of a process: of the network, or without latency, whichever is less."""
    return min(in_flight / (milliseconds / 1000), local_rate) if milliseconds else local_rate


def ratios(runs: Runs) -> str:
    """Return how many times as fast as the C++ connector this library was on each machine, for the main works.

    Of a work on two servers, the lower ratio is shown.
    """
    found = [{each.name.removesuffix(ON_NGINX): each for each in lower_of_twins(run.results)} for run in runs.values()]
    rows = [("", *(run.machine.name for run in runs.values()))]
    for name in _MAIN:
        results = [results.get(name) for results in found]
        labels = [each.label.removesuffix(", from nginx") for each in results if each is not None]
        if labels:
            rows.append((labels[0], *map(_times, results)))
    return table(rows)


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; the first row is its heading."""
    heading, *others = rows
    lines = [heading, ["---"] * len(heading), *others]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _images(runs: Runs, *names: str) -> list[str]:
    """Return an image for each of the charts, from the first run that has it."""
    found = []
    for name in names:
        having = [
            (folder, each) for folder, run in runs.items() for each in charts(run.results, "") if each["name"] == name
        ]
        found += [f"![{each['title']}](figures/{folder}/{name}.png)" for folder, each in having[:1]]
    return found


def _rates(run: Run, results: Iterable[Result]) -> str:
    heading = (f"on {run.machine.name}", "this library", "C++ connector", "ratio", "share of the possible speed")
    rows = [_rates_row(result) for result in results if result.label and result.curve is None]
    return table([heading, *rows]) if rows else ""


def _rates_row(result: Result) -> tuple[str, ...]:
    ours, theirs, limit = result.outcome(OURS), result.outcome(CXX), limit_of(result)
    share = None if ours is None or limit is None else ratio(ours, limit)
    of_what = "" if limit is None else LIMITS.get(limit.name, limit.name)
    return (
        f"{result.label} ({result.unit})",
        _rate(result, ours),
        _rate(result, theirs),
        _times(result),
        NO_VALUE if share is None else f"{share:.0%} of {of_what}",
    )


def _rate(result: Result, outcome: Outcome | None) -> str:
    if outcome is None or not outcome.samples:
        return NO_VALUE
    return number(spread(outcome.samples, result.figure).median * result.scale)


def _times(result: Result | None) -> str:
    """Return our rate over the C++ connector's."""
    ours, theirs = (None, None) if result is None else (result.outcome(OURS), result.outcome(CXX))
    value = None if ours is None or theirs is None else ratio(ours, theirs)
    return NO_VALUE if value is None else f"{number(value)}x"


def _planned(run: Run) -> str:
    points = [result for result in run.results if result.curve is not None and result.curve.name == "latency"]
    rates = {result.milliseconds: _median_rate(result.outcome(WITH_24)) for result in points}
    local_rate = rates.get(0)
    if local_rate is None:
        return ""
    rows = [(f"on {run.machine.name}: ms to the first byte", "computed objects/s", "measured", "share")]
    for milliseconds, rate in rates.items():
        if milliseconds and rate is not None:
            computed = planned_rate(24, milliseconds, local_rate)
            rows.append((f"{milliseconds:g}", number(computed), number(rate), f"{rate / computed:.0%}"))
    return table(rows)


def _median_rate(outcome: Outcome | None) -> float | None:
    return spread(outcome.samples).median if outcome is not None and outcome.samples else None


def _by_processes(run: Run) -> str:
    """Return a row for each number of workers or processes, near and far."""
    rows = [(f"on {run.machine.name}", "ms away", "this library", "C++ connector", "ratio")]
    for result in sorted(run.results, key=lambda result: (result.unit, result.milliseconds, result.x)):
        if result.curve is not None and result.curve.name in _SCALE:
            label = f"{_SCALE[result.curve.name]}: {result.x:.0f} ({result.unit})"
            rates = (_rate(result, result.outcome(OURS)), _rate(result, result.outcome(CXX)))
            rows.append((label, f"{result.milliseconds:g}", *rates, _times(result)))
    return table(rows) if len(rows) > 1 else ""
