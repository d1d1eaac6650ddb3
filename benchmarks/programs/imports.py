"""The cost of importing a package, in new interpreters."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.gauge import Done, Program


def import_it(statement: str, times: int) -> Program:
    """Start Python `times` times and let it run `statement`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}

    def start() -> None:
        subprocess.run([sys.executable, "-c", statement], env=environment, check=True, stdout=subprocess.DEVNULL)

    start()
    yield None
    for _ in range(times):
        start()
    yield Done(times)
