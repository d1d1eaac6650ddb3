"""Results as tables: for a terminal, and as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from .figures import Standing, is_server_bound, ratio, spread, standing
from .values import MIB, OURS, Outcome, Result

HEADINGS = (
    "work / who",
    "median",
    "least to most",
    "CPU (caller)",
    "server's",
    "MiB",
    "GB/s/proc.",
    "GB/s/core",
    "calls",
    "ours is",
)
WIDTH = 140  # of the terminal's table, in characters
DISCARDERS = ("wrk", "bare recv_into")  # clients that discard the bytes, or check nothing
NO_VALUE = "-"
_MARKS = {"aim": "++", "reach": "+", "short": "-", "unknown": "?"}


def text_table(results: Sequence[Result]) -> str:
    """Return all results as one table for a terminal, at most `WIDTH` wide."""
    rows = [HEADINGS, *(row for result in results for _, row in rows_of(result))]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_text_line(HEADINGS, widths)]
    for result in results:
        lines += textwrap.wrap(_heading(result), WIDTH, subsequent_indent="  ")
        for outcome, row in rows_of(result):
            lines.append(_text_line(row, widths))
            lines += _wrapped(goals_of(result, outcome), indent=4)
        lines += [line for note in notes_of(result) for line in _wrapped([note], indent=2)]
    return "\n".join(lines)


def markdown_table(results: Sequence[Result]) -> str:
    """Return all results as Markdown: for each a title, a table, and a list of goals and notes."""
    return "\n\n".join(map(_markdown_of, results))


def rows_of(result: Result) -> Iterator[tuple[Outcome, tuple[str, ...]]]:
    """Yield the contenders that were measured, each with its row."""
    for outcome in result.outcomes:
        if outcome.samples:
            yield outcome, _row(result, outcome)


def goals_of(result: Result, outcome: Outcome) -> list[str]:
    """Return the goals that a contender's row is about, as texts."""
    return [goal_text(standing(result, goal)) for goal in result.goals if outcome.name == (goal.against or OURS)]


def notes_of(result: Result) -> list[str]:
    """Return the notes that a reader of the result needs."""
    missing = [f"{outcome.name}: {outcome.missing}" for outcome in result.outcomes if not outcome.samples]
    bound = [
        f"{name} gets less than 1.3 times our rate: the server is the limit here"
        for name in DISCARDERS
        if is_server_bound(result, name)
    ]
    return [*missing, *result.notes, *bound]


def goal_text(each: Standing) -> str:
    """Return the value of a goal and the goal, such as `rate 3.1x (2.5, aim 4) +`."""
    goal, value = each.goal, each.value
    name = goal.extra or goal.figure
    if goal.figure == "peak" and not goal.extra and not goal.against:
        shown = [figure / MIB for figure in (value or 0.0, goal.reach, goal.aim)]
        suffix = " MiB"
    else:
        shown, suffix = [value or 0.0, goal.reach, goal.aim], "x" if goal.against else ""
    now = "?" if value is None else f"{number(shown[0])}{suffix}"
    most = "at most " if goal.is_ceiling else ""
    return f"{name} {now} ({most}{number(shown[1])}, aim {number(shown[2])}) {_MARKS[each.verdict]}"


def number(value: float) -> str:
    """Return a figure with three significant digits."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}"


def cpu_text(seconds: float) -> str:
    """Return a duration in microseconds, or in seconds if it is a millisecond or more."""
    return f"{number(seconds * 1e6)} us" if seconds < 1e-3 else f"{number(seconds)} s"


def _heading(result: Result) -> str:
    return f"{result.name}: {result.title} ({result.unit})"


def _text_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _wrapped(texts: Sequence[str], *, indent: int) -> list[str]:
    space = " " * indent
    return textwrap.wrap("; ".join(texts), WIDTH, initial_indent=space, subsequent_indent=space)


def _markdown_of(result: Result) -> str:
    lines = [f"**{result.name}**: {result.title} ({result.unit})", ""]
    rows = [tuple(cell.strip() or NO_VALUE for cell in row) for _, row in rows_of(result)]
    if rows:
        table = [("who", *HEADINGS[1:]), ("---",) * len(HEADINGS), *rows]
        lines += ["| " + " | ".join(row) + " |" for row in table] + [""]
    goals = [(outcome.name, "; ".join(goals_of(result, outcome))) for outcome, _ in rows_of(result)]
    lines += [f"- {name}: {text}" for name, text in goals if text]
    lines += [f"- {note}" for note in notes_of(result)]
    return "\n".join(lines).rstrip()


def _row(result: Result, outcome: Outcome) -> tuple[str, ...]:
    shown = spread(outcome.samples, result.figure)
    scale = result.scale
    unit_each = 1 / scale if result.figure == "rate" else 1.0
    ours = result.outcome(OURS)
    times = ratio(ours, outcome, result.figure) if ours is not None and outcome.name != OURS else None
    return (
        f"  {outcome.name}",
        number(shown.median * scale),
        f"{number(shown.least * scale)} to {number(shown.most * scale)}",
        _client_cpu(outcome, unit_each),
        cpu_text(spread(outcome.samples, "server").median * unit_each) if outcome.samples[0].server_seconds else "",
        number(spread(outcome.samples, "peak").median / MIB),
        *_byte_rates(result, outcome),
        "" if outcome.calls is None else f"{outcome.calls.python:.0f} + {outcome.calls.c:.0f}",
        "" if times is None else f"{number(times)}x",
    )


def _byte_rates(result: Result, outcome: Outcome) -> tuple[str, str]:
    """Return GB/s of wall time for each process, and GB/s of CPU time."""
    if not result.bytes_each:
        return "", ""
    rate, cpu = (spread(outcome.samples, figure).median for figure in ("rate", "cpu"))
    size = result.bytes_each * 1e-9
    return number(rate * size / result.processes), number(size / cpu) if cpu > 0 else ""


def _client_cpu(outcome: Outcome, unit_each: float) -> str:
    """Return the client's CPU time, and in brackets the calling thread's share if other threads have one."""
    cpu, caller = (spread(outcome.samples, figure).median * unit_each for figure in ("cpu", "caller"))
    text = cpu_text(cpu)
    return f"{text} ({caller / cpu:.0%})" if 0 < caller < 0.95 * cpu else text
