"""Statistics of samples: medians, spreads, ratios, and whether goals are met."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from .values import OURS, Figure, Goal, Outcome, Result, Sample

Verdict = Literal["aim", "reach", "short", "unknown"]


@dataclass(frozen=True)
class Spread:
    """A median, and the smallest and largest sample."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Standing:
    """A goal and the value measured for it, None if nothing was measured."""

    goal: Goal
    value: float | None
    verdict: Verdict


def spread(samples: Sequence[Sample], figure: Figure = "rate") -> Spread:
    """Return the spread of a figure; there must be at least one sample."""
    values = [getattr(sample, figure) for sample in samples]
    return Spread(median(values), min(values), max(values))


def ratio(ours: Outcome, other: Outcome, figure: Figure = "rate") -> float | None:
    """Return our figure divided by the other's: the median of the ratios of each round, so slow minutes affect both.

    A single sample, as of a known figure, counts for all rounds. None if there are no samples or a figure is zero.
    """
    if not ours.samples or not other.samples:
        return None
    rounds = max(len(ours.samples), len(other.samples))
    pairs = [(_figure(ours, number, figure), _figure(other, number, figure)) for number in range(rounds)]
    ratios = [mine / theirs for mine, theirs in pairs if theirs > 0]
    return median(ratios) if ratios else None


def standing(result: Result, goal: Goal) -> Standing:
    """Return the value measured for a goal."""
    value = _goal_value(result, goal)
    return Standing(goal, value, _verdict(goal, value))


def is_server_bound(result: Result, limit_name: str) -> bool:
    """Whether a client that discards all bytes is hardly faster than this library: then the server is the limit."""
    ours, limit = result.outcome(OURS), result.outcome(limit_name)
    value = ratio(ours, limit) if ours is not None and limit is not None else None
    return value is not None and value * 1.3 > 1.0


def _goal_value(result: Result, goal: Goal) -> float | None:
    ours = result.outcome(OURS)
    if ours is None or not ours.samples:
        return None
    if not goal.against:
        return _extra(ours, goal.extra) if goal.extra else spread(ours.samples, goal.figure).median
    other = result.outcome(goal.against)
    if other is None or not other.samples:
        return None
    return _extra(ours, goal.extra) / _extra(other, goal.extra) if goal.extra else ratio(ours, other, goal.figure)


def _extra(outcome: Outcome, name: str) -> float:
    return median(sample.extra[name] for sample in outcome.samples)


def _verdict(goal: Goal, value: float | None) -> Verdict:
    if value is None:
        return "unknown"
    meets = value.__le__ if goal.is_ceiling else value.__ge__
    if meets(goal.aim):
        return "aim"
    return "reach" if meets(goal.reach) else "short"


def _figure(outcome: Outcome, number: int, figure: Figure) -> float:
    value: float = getattr(outcome.samples[number % len(outcome.samples)], figure)
    return value
