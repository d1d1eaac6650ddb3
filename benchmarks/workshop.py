"""A process that imports the packages of the programs once, and forks for each job: each measurement in a new process.

Jobs are JSON lines on stdin, answers are JSON lines on the original stdout. The output of programs goes to stderr.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, BinaryIO

from .gauge import count_calls, measure

# torch starts threads for sums and copies at will; a fork must come before that.
_LINES_OF_TRACEBACK = 12


def main() -> None:
    """Work until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    for line in sys.stdin:
        answer = _do(json.loads(line))
        answers.write(json.dumps(answer).encode() + b"\n")
        answers.flush()


def _do(job: Mapping[str, Any]) -> dict[str, Any]:
    """Do a job in a child; give up if it takes too long or dies."""
    try:
        for name in job["preload"]:
            importlib.import_module(name)
    except ImportError as error:
        return {"error": f"{error}"}
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _work(job, os.fdopen(writing, "wb"))
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = _answer(pipe, job["limit_seconds"])
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return answer or {"error": f"its process ended with status {os.waitstatus_to_exitcode(status)}"}


def shortened(error: BaseException) -> str:
    """Return an error's type and the last line of its text, where nested tracebacks have the message."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[-1]}"[:300]


def _answer(pipe: BinaryIO, limit_seconds: float) -> dict[str, Any] | None:
    if not select.select([pipe], [], [], limit_seconds)[0]:
        return {"error": f"not done after {limit_seconds:.0f} s"}
    line = pipe.readline()
    return json.loads(line) if line else None


def _work(job: Mapping[str, Any], pipe: BinaryIO) -> None:
    """Run in the child: measure, answer, and exit without clean-up, which is not measured."""
    os.setsid()
    answer: dict[str, Any]
    try:
        module, _, name = job["program"].partition(":")
        program = getattr(importlib.import_module(f"benchmarks.programs.{module}"), name)
        work = {"sample": measure, "calls": count_calls}[job["wanted"]]
        answer = {job["wanted"]: asdict(work(program(**job["options"])))}
    except BaseException as error:
        sys.stderr.write(traceback.format_exc())
        answer = {"error": shortened(error)}
    pipe.write(json.dumps(answer).encode() + b"\n")
    pipe.close()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
