"""Results as a run leaves them, made up."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.values import CXX, OURS, Goal, Outcome, Result, Sample


def taken(*rates: float, cpu_seconds: float = 1.0, peak_bytes: int = 0, caller_seconds: float = 0.0) -> list[Sample]:
    """Return samples of 100 units at these rates."""
    return [Sample(100.0, 100.0 / rate, cpu_seconds, peak_bytes, caller_seconds=caller_seconds) for rate in rates]


def result(ours: Sequence[Sample], theirs: Sequence[Sample], *goals: Goal, name: str = CXX) -> Result:
    """Return a result of two."""
    return Result(
        name="small",
        title="10 objects",
        unit="objects/s",
        scale=1.0,
        figure="rate",
        goals=goals,
        outcomes=[Outcome(name=OURS, samples=ours), Outcome(name=name, samples=theirs)],
    )
