"""Results as tables and as data for charts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .figures import Standing, is_server_bound, ratio, spread, standing
from .values import MIB, OURS, Outcome, Result

HEADINGS = ("work / who", "median", "least to most", "CPU each (caller's)", "server's", "peak MiB", "ours is", "goal")
LIMITS = ("wrk", "bare recv_into")  # clients that discard the bytes, or check nothing
_MARKS = {"aim": "++", "reach": "+", "short": "-", "unknown": "?"}


def text_table(results: Sequence[Result]) -> str:
    """Return all results as one table for a terminal."""
    rows = [HEADINGS, *(row for result in results for row in rows_of(result))]
    # A heading or a note is alone in its row and may be wider than its column.
    widths = [max(len(row[column]) for row in rows if any(row[1:])) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def markdown_table(results: Sequence[Result]) -> str:
    """Return all results as a Markdown table."""
    rows = [row for result in results for row in rows_of(result)]
    lines = [HEADINGS, ("---",) * len(HEADINGS), *rows]
    return "\n".join("| " + " | ".join(cell.strip() for cell in row) + " |" for row in lines)


def rows_of(result: Result) -> Iterator[tuple[str, ...]]:
    """Yield a heading, a row per contender, and notes."""
    empty = ("",) * (len(HEADINGS) - 1)
    yield (f"{result.name}: {result.title} ({result.unit})", *empty)
    goals = [standing(result, goal) for goal in result.goals]
    for outcome in result.outcomes:
        if outcome.samples:
            yield _row(result, outcome, [each for each in goals if _belongs(each, outcome)])
        else:
            yield (f"  {outcome.name}: {outcome.missing}", *empty)
    for note in notes_of(result):
        yield (f"  {note}", *empty)


def notes_of(result: Result) -> list[str]:
    """Return the notes that a reader of the result needs."""
    notes = list(result.notes)
    notes += [
        f"{limit} gets less than 1.3 times our rate: the server is the limit here"
        for limit in LIMITS
        if is_server_bound(result, limit)
    ]
    return notes


def bars(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return, for each work, this library's speed divided by each peer's."""
    found = []
    for result in results:
        ours = result.outcome(OURS)
        for outcome in result.outcomes:
            value = ratio(ours, outcome) if ours is not None and outcome is not ours and not result.curve else None
            if value is not None and not outcome.name.startswith(OURS):
                found.append({"work": result.name, "peer": outcome.name, "ratio": value})
    return found


def curves(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return, for each curve, the points (x, median, least, most) of each contender."""
    found: dict[str, dict[str, Any]] = {}
    for result in results:
        if result.curve is None:
            continue
        curve = found.setdefault(result.curve.name, {"x": result.curve.x, "y": result.curve.y, "lines": {}})
        for outcome in result.outcomes:
            if outcome.samples:
                shown = spread(outcome.samples, result.figure)
                point = [result.x, *(value * result.scale for value in (shown.median, shown.least, shown.most))]
                curve["lines"].setdefault(outcome.name, []).append(point)
    return list(found.values())


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


def _row(result: Result, outcome: Outcome, goals: Sequence[Standing]) -> tuple[str, ...]:
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
        "" if times is None else f"{number(times)}x",
        "; ".join(goal_text(each) for each in goals),
    )


def _client_cpu(outcome: Outcome, unit_each: float) -> str:
    """Return the client's CPU time, and in brackets the calling thread's share if other threads have one."""
    cpu, caller = (spread(outcome.samples, figure).median * unit_each for figure in ("cpu", "caller"))
    text = cpu_text(cpu)
    return f"{text} ({number(caller / cpu * 100)} %)" if 0 < caller < 0.95 * cpu else text


def cpu_text(seconds: float) -> str:
    """Return a duration in microseconds, or in seconds if it is a millisecond or more."""
    return f"{number(seconds * 1e6)} us" if seconds < 1e-3 else f"{number(seconds)} s"


def _belongs(each: Standing, outcome: Outcome) -> bool:
    return outcome.name == (each.goal.against or OURS)
