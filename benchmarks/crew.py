"""The workshops, one per interpreter: ours, and that of the peers, where `osstorchconnector` is the C++ connector."""

from __future__ import annotations

import compileall
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from .values import CallCounts, Contender, Outcome, Sample, Where

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / ".venv-peers" / "bin" / "python"
# The repository is first in our interpreter's path, and last in that of the peers, which finds the C++ connector first.
_START = """
import sys
sys.path[0:1] = []
sys.path.insert(0 if sys.argv[2] == "main" else len(sys.path), sys.argv[1])
from benchmarks.workshop import main
main()
"""


class WorkshopError(RuntimeError):
    """A job failed; the text says why."""


class Workshop:
    """One interpreter that runs programs; their output goes to `log`."""

    def __init__(self, interpreter: Path, where: Where, log: IO[bytes]) -> None:
        self._process = subprocess.Popen(
            [str(interpreter), "-c", _START, str(ROOT), where],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            # It could name this repository, which the peers must not find first.
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        )

    def measure(self, contender: Contender, *, limit_seconds: float) -> Sample:
        """Let a contender work in a new process. Raises `WorkshopError` if it fails."""
        return Sample(**self._let_work(contender, "sample", limit_seconds))

    def count_calls(self, contender: Contender, *, limit_seconds: float) -> CallCounts:
        """The same, to count the contender's calls."""
        return CallCounts(**self._let_work(contender, "calls", limit_seconds))

    def _let_work(self, contender: Contender, wanted: str, limit_seconds: float) -> dict[str, Any]:
        job = {
            "wanted": wanted,
            "program": contender.program,
            "options": contender.options,
            "preload": list(contender.preload),
            "limit_seconds": limit_seconds,
        }
        answer = self._ask(job)
        if "error" in answer:
            raise WorkshopError(answer["error"])
        result: dict[str, Any] = answer[wanted]
        return result

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _ask(self, job: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise WorkshopError("the workshop ended")
        answer: dict[str, Any] = json.loads(line)
        return answer


class Crew:
    """Both workshops, opened at first use."""

    def __init__(self, peers: Path, log: IO[bytes]) -> None:
        # pip does this with packages that it installs, the peers among them. Compiling while the clock runs, where the
        # environment forbids to keep the result, takes 5 ms of a first request.
        compileall.compile_dir(ROOT / "osstorchconnector", quiet=2)
        self._interpreters: dict[Where, Path] = {"main": Path(sys.executable), "peers": peers}
        self._log = log
        self._open: dict[Where, Workshop] = {}

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for workshop in self._open.values():
            workshop.close()

    def missing(self, contender: Contender) -> str:
        """Return why a contender can't take part, or ""."""
        if contender.missing or contender.where == "main" or self._interpreters["peers"].exists():
            return contender.missing
        return f"no {self._interpreters['peers']}: `make bench` makes it"

    def measure(self, contender: Contender, *, limit_seconds: float) -> Outcome:
        """Measure a contender once."""
        reason = self.missing(contender)
        if reason:
            return Outcome(name=contender.name, missing=reason)
        if contender.sample is not None:
            return Outcome(name=contender.name, samples=[contender.sample])
        try:
            sample = self._workshop(contender.where).measure(contender, limit_seconds=limit_seconds)
        except WorkshopError as error:
            return Outcome(name=contender.name, missing=str(error))
        return Outcome(name=contender.name, samples=[sample])

    def count_calls(self, contender: Contender, *, limit_seconds: float) -> CallCounts | None:
        """Count a contender's calls for each unit of the work; `None` if it fails."""
        try:
            return self._workshop(contender.where).count_calls(contender, limit_seconds=limit_seconds)
        except WorkshopError:
            return None

    def _workshop(self, where: Where) -> Workshop:
        if where not in self._open:
            self._open[where] = Workshop(self._interpreters[where], where, self._log)
        return self._open[where]
