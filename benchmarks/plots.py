"""What charts show: the values of bars and lines, chosen from results. `chart.py` draws them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

from .figures import ratio, spread
from .values import CXX, ON_NGINX, OURS, Outcome, Result

Bar = dict[str, Any]
Chart = dict[str, Any]
# What the limits are, for readers who know no contender by its name.
LIMITS = {
    "wrk": "wrk, which discards the bytes",
    "bare recv_into": "recv_into without any check",
    "a bare socket": "a bare socket without any check",
    "local file": "a local file in memory",
    "FileSystemReader in memory": "local files in memory",
    "torch.save to nowhere": "torch alone",
    "a reader that reads nothing": "torch alone",
    "a stager that copies nothing": "torch alone",
    "copy into warm buffers": "a bare copy in memory",
    "ours, no latency": "this library with no latency",
}


def charts(results: Sequence[Result], subtitle: str) -> list[Chart]:
    """Return all charts that the results give: values, texts, and a digest of both to compare a drawn chart with."""
    found = [{"note": "", **chart, "subtitle": subtitle} for chart in (*bars(results), *curves(results))]
    return [{**chart, "digest": sha256(json.dumps(chart, sort_keys=True).encode()).hexdigest()} for chart in found]


def bars(results: Sequence[Result]) -> list[Chart]:
    """Return the bar charts: our rate over the C++ connector's, and over the limit of each work, far away and near.

    Each has one bar for a work with a label, the largest first. Of a work on two servers, the lower ratio is shown. A
    chart without bars is left out.
    """
    far = [result for result in results if result.milliseconds]
    near = [result for result in results if not result.milliseconds]
    found = [*_bars_of("far", "Far away", far), *_bars_of("near", "No latency", near)]
    return [chart for chart in found if chart["bars"]]


def _bars_of(name: str, title: str, results: Sequence[Result]) -> list[Chart]:
    peers = _sorted(_bar(result, result.outcome(CXX)) for result in lower_of_twins(results))
    limits = _sorted(_share(result, limit_of(result)) for result in results)
    equal = "The line marks equal speed. The scale is logarithmic."
    limit = "The line marks the limit that each label names."
    return [
        {"name": f"{name}-peer", "title": f"{title}: times the C++ connector's speed", "note": equal, "bars": peers},
        {"name": f"{name}-limit", "title": f"{title}: share of the possible speed", "note": limit, "bars": limits},
    ]


def lower_of_twins(results: Sequence[Result]) -> list[Result]:
    """Leave out one of two results of the same work on the emulator and on nginx: where we are further ahead."""
    ratios = {result.name: _peer_ratio(result) for result in results}
    return [result for result in results if ratios[result.name] <= ratios.get(twin_of(result.name), math.inf)]


def twin_of(name: str) -> str:
    """Return the name of the same work on the other server."""
    return name.removesuffix(ON_NGINX) if name.endswith(ON_NGINX) else f"{name}{ON_NGINX}"


def limit_of(result: Result) -> Outcome | None:
    """Return the limit that a work is held against: one that a goal names, or else the first."""
    limits = [outcome for outcome in result.outcomes if outcome.is_limit and outcome.samples]
    named = {goal.against for goal in result.goals}
    return next((each for each in limits if each.name in named), limits[0] if limits else None)


def curves(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Return, for each curve, the points (x, median, least, most) of each contender."""
    found: dict[str, dict[str, Any]] = {}
    for result in results:
        if result.curve is None:
            continue
        name, x, y = result.curve.name, result.curve.x, result.curve.y
        curve = found.setdefault(name, {"name": name, "title": result.curve.title, "x": x, "y": y, "lines": {}})
        for outcome in result.outcomes:
            if outcome.samples:
                shown = spread(outcome.samples, result.figure)
                point = [result.x, *(value * result.scale for value in (shown.median, shown.least, shown.most))]
                curve["lines"].setdefault(_in_words(outcome.name) + result.curve.suffix, []).append(point)
    return list(found.values())


def _in_words(name: str) -> str:
    return f"this library{name.removeprefix(OURS)}" if name.startswith(OURS) else name


def _peer_ratio(result: Result) -> float:
    ours, other = result.outcome(OURS), result.outcome(CXX)
    value = ratio(ours, other) if ours is not None and other is not None else None
    return math.inf if value is None else value


def _bar(result: Result, other: Outcome | None) -> Bar | None:
    ours = result.outcome(OURS)
    if ours is None or other is None or result.curve is not None or not result.label:
        return None
    value = ratio(ours, other)
    return None if value is None else {"label": result.label, "ratio": value, "value": f"{value:.2g}x"}


def _share(result: Result, limit: Outcome | None) -> Bar | None:
    """Return a bar that names the limit, which is another one for each work."""
    bar = _bar(result, limit)
    if bar is None or limit is None:
        return None
    label = f"{result.label}: {LIMITS.get(limit.name, limit.name)}"
    return {**bar, "label": label, "value": f"{bar['ratio']:.0%}"}


def _sorted(bars: Iterable[Bar | None]) -> list[Bar]:
    return sorted((bar for bar in bars if bar is not None), key=lambda bar: -bar["ratio"])
