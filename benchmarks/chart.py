"""Draws charts as PNG, from the JSON of `plots.charts` on stdin. A script, for the environment that has matplotlib.

All are as wide as a phone's screen, so that their texts need no zoom there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

mpl.use("Agg")
mpl.rcParams["font.size"] = 9
WIDTH_INCHES = 5.0
DOTS_PER_INCH = 160
OUR_COLOUR, OTHER_COLOURS = "tab:orange", ("tab:blue", "tab:green", "tab:purple", "tab:red", "tab:brown", "tab:gray")
BAR_COLOURS = {"peer": "tab:orange", "limit": "tab:blue"}
# A range of x up to this factor has a linear axis from 0; a larger one shows its values at equal distances.
LINEAR_RANGE = 16


def main() -> None:
    """Draw each chart into the folder that the first argument names, with the digest of its values in the file."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for chart in json.load(sys.stdin):
        figure = draw_bars(chart) if "bars" in chart else draw_lines(chart)
        metadata = {"Description": chart["digest"], "Software": None}
        figure.savefig(folder / f"{chart['name']}.png", dpi=DOTS_PER_INCH, metadata=metadata)
        plt.close(figure)


def draw_bars(chart: dict[str, Any]) -> Any:
    """Draw one bar per work, its label above it. Those of ratios begin at 1, where both are equally fast."""
    bars = chart["bars"]
    figure, axes = _axes(chart, height=1.0 + 0.36 * len(bars))
    kind = chart["name"].rpartition("-")[2]
    is_share = kind == "limit"
    start = 0.0 if is_share else 1.0
    ratios = [bar["ratio"] for bar in bars]
    places = list(range(len(bars)))[::-1]
    axes.barh(places, [ratio - start for ratio in ratios], left=start, height=0.34, color=BAR_COLOURS[kind])
    for place, bar in zip(places, bars, strict=True):
        on_line = {"bbox": {"facecolor": "white", "edgecolor": "none", "pad": 1}}
        axes.annotate(
            bar["label"], (0, place + 0.25), xycoords=("axes fraction", "data"), va="bottom", fontsize=8.5, **on_line
        )
        end = (max(bar["ratio"], start), place)
        axes.annotate(bar["value"], end, (4, 0), textcoords="offset points", va="center", **on_line)
    axes.axvline(1.0, color="black", linewidth=0.8, zorder=0)
    if not is_share:
        axes.set_xscale("log")
    axes.set_xlim(0 if is_share else min(0.8, *ratios) / 1.1, max(1.0, *ratios) * (1.25 if is_share else 1.4))
    axes.set_ylim(-0.5, len(bars) - 0.2)
    axes.axis("off")
    return figure


def draw_lines(chart: dict[str, Any]) -> Any:
    """Draw one line per contender, with the range of its rounds."""
    figure, axes = _axes(chart, height=3.4)
    lines = chart["lines"]
    values = sorted({point[0] for line in lines.values() for point in line})
    is_linear = values[0] > 0 and values[-1] <= LINEAR_RANGE * values[0]
    others = iter(OTHER_COLOURS)
    for name, points in lines.items():
        x, middle, least, most = zip(*points, strict=True)
        at = x if is_linear else [values.index(value) for value in x]
        colour = OUR_COLOUR if name == "this library" else next(others)
        axes.plot(at, middle, marker="o", markersize=4, label=name, color=colour)
        axes.fill_between(at, least, most, alpha=0.2, color=colour)
    axes.set_xticks(values if is_linear else range(len(values)), [f"{value:,g}" for value in values])
    if is_linear:
        axes.set_ylim(0, 1.08 * max(point[3] for line in lines.values() for point in line))
    else:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(mpl.ticker.LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(mpl.ticker.NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:,g}")
    axes.set_xlabel(chart["x"])
    axes.set_ylabel(chart["y"])
    axes.legend(fontsize=8)
    axes.grid(visible=True, alpha=0.3)
    return figure


def _axes(chart: dict[str, Any], height: float) -> tuple[Any, Any]:
    """Return a figure with title and subtitle, and its axes."""
    figure, axes = plt.subplots(figsize=(WIDTH_INCHES, height), layout="constrained")
    figure.suptitle(chart["title"], fontsize=11, fontweight="bold", x=0.02, ha="left")
    axes.set_title("\n".join(filter(None, (chart["subtitle"], chart["note"]))), fontsize=8, color="dimgray", loc="left")
    return figure, axes


if __name__ == "__main__":
    main()
