"""Fuzz one target for any time: `python chaos/fuzz.py "list page" -max_total_time=600`.

Needs atheris (`pip install atheris`). It writes an input that fails to a file; that file as an argument runs it again.
Without arguments it lists the targets.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "tests")]


def main() -> None:
    import atheris

    with atheris.instrument_imports(include=["osstorchconnector"]):
        from hostile.targets import TARGETS, run
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit("targets: " + ", ".join(TARGETS))
    name = sys.argv.pop(1)
    seeds = Path(tempfile.mkdtemp(prefix="fuzz-"))
    for number, seed in enumerate(TARGETS[name][1]):
        (seeds / str(number)).write_bytes(seed)
    atheris.Setup([*sys.argv, str(seeds)], lambda data: run(name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
