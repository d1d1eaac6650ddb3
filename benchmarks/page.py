"""`python -m benchmarks.page`, or `make figures`: write the published runs into the pages.

A published run is a folder of `docs/figures`, named after its machine. Its `run.json` holds the samples. The rest is
made from that: `tables.md` and the charts beside it, and what is between `<!-- figures: NAME -->` and
`<!-- end of figures -->` in the pages.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from . import summary
from .crew import PEERS, ROOT
from .drawing import draw
from .report import markdown_table
from .runs import Run, read_run
from .summary import Runs

FOLDER = ROOT / "docs" / "figures"
PAGES = (ROOT / "README.md", ROOT / "docs" / "performance.md")
BLOCKS: Mapping[str, Callable[[Runs], str]] = {
    "machines": summary.machines,
    "far": summary.far,
    "near": summary.near,
    "growth": summary.growth,
    "scale": summary.scale,
    "ratios": summary.ratios,
    "planning": summary.planning,
}
_BLOCK = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("--peers", type=Path, default=PEERS, help="interpreter with matplotlib (default: %(default)s)")
    options = parser.parse_args(arguments)
    runs = published()
    for name, run in runs.items():
        (FOLDER / name / "tables.md").write_text(tables_of(run), encoding="utf-8")
        draw(run, str(FOLDER / name), options.peers)
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8"), runs), encoding="utf-8")
    return 0


def published(folder: Path = FOLDER) -> Runs:
    """Return the published runs by the names of their folders."""
    return {path.parent.name: read_run(path) for path in sorted(folder.glob("*/run.json"))}


def filled(page: str, runs: Runs) -> str:
    """Return the page with its blocks made from the runs. Raises `KeyError` for a block that does not exist."""
    return _BLOCK.sub(lambda block: f"{block[1]}\n{BLOCKS[block[2]](runs)}\n\n{block[3]}", page)


def tables_of(run: Run) -> str:
    """Return the page that shows all rows of a run."""
    title = f"# All rows: {run.machine.name}\n\n[Performance](../../performance.md) explains the columns.\n\n"
    return f"{title}{markdown_table(run.results)}\n"


if __name__ == "__main__":
    sys.exit(main())
