"""Draws the charts of a run, in the environment that has matplotlib."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from .plots import charts
from .runs import Run, subtitle_of

_SCRIPT = Path(__file__).with_name("chart.py")


def draw(run: Run, folder: str, peers: Path) -> None:
    """Draw all charts of a run as PNG files in a folder."""
    data = json.dumps(charts(run.results, subtitle_of(run))).encode()
    subprocess.run([str(peers), str(_SCRIPT), folder], input=data, check=True)
