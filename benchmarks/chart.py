"""Draws results as PNG, from the JSON of `report.bars` and `report.curves` on stdin. Needs matplotlib."""

from __future__ import annotations

import json
import sys
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt

mpl.use("Agg")
OUR_COLOUR = "tab:orange"


def main() -> None:
    """Draw into the file that the first argument names: curves if there are any, else bars."""
    data = json.load(sys.stdin)
    figure = draw_curves(data["curves"]) if data["curves"] else draw_bars(data["bars"])
    figure.savefig(sys.argv[1], dpi=80, bbox_inches="tight")


def draw_bars(bars: list[dict[str, Any]]) -> Any:
    """Draw one bar per work and peer: this library's speed divided by the peer's."""
    figure, axes = plt.subplots(figsize=(9, 0.8 + 0.26 * len(bars)))
    peers = sorted({bar["peer"] for bar in bars})
    colours = dict(zip(peers, plt.get_cmap("tab10").colors * 3, strict=False))
    places = list(range(len(bars)))[::-1]
    drawn = axes.barh(places, [bar["ratio"] for bar in bars], color=[colours[bar["peer"]] for bar in bars])
    axes.bar_label(drawn, labels=[f"{bar['ratio']:.2f}x" for bar in bars], padding=3, fontsize=8)
    axes.set_yticks(places, [f"{bar['work']}, against {bar['peer']}" for bar in bars], fontsize=8)
    axes.set_xscale("log")
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xlabel("this library's rate over the peer's, median of rounds (logarithmic; right of 1 it is faster)")
    return figure


def draw_curves(curves: list[dict[str, Any]]) -> Any:
    """Draw one plot per curve and one line per contender, with the range of its rounds."""
    figure, grid = plt.subplots(2, (len(curves) + 1) // 2, figsize=(11, 8), squeeze=False)
    for axes, curve in zip(grid.flat, curves, strict=False):
        for name, points in curve["lines"].items():
            colour = OUR_COLOUR if name == "ours" else None
            x, middle, least, most = zip(*points, strict=True)
            (line,) = axes.plot(x, middle, marker="o", label=name, color=colour)
            axes.fill_between(x, least, most, alpha=0.2, color=line.get_color())
        axes.set_xscale("symlog" if min(point[0] for line in curve["lines"].values() for point in line) == 0 else "log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel(curve["x"])
        axes.set_ylabel(curve["y"])
        axes.legend(fontsize=8)
        axes.grid(visible=True, alpha=0.3)
    for axes in list(grid.flat)[len(curves) :]:
        axes.set_visible(False)
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    main()
