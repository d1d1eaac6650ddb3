"""Wall time, CPU time and memory of a piece of work, measured in the process that does it."""

from __future__ import annotations

import contextlib
import gc
import math
import os
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from .values import CallCounts, Sample

_STATUS = Path("/proc/self/status")
_WARM_UP_CALLS = 100
_CLEAR_REFS = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Done:
    """What a program did between its two yields; `seconds` and `cpu_seconds` if it measures them better than we do."""

    amount: float
    extra: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0


# A program sets up, yields, does the work, yields a `Done`, and checks the result. The clock runs between the yields.
Program = Generator["Done | None", None, None]


def measure(program: Program) -> Sample:
    """Run a program and return its sample."""
    next(program)
    gc.collect()
    forget_peak()
    memory, cpu, caller, start = resident_bytes(), cpu_seconds(), time.thread_time(), time.perf_counter()
    done = next(program)
    seconds, caller, cpu = time.perf_counter() - start, time.thread_time() - caller, cpu_seconds() - cpu
    peak = max(peak_bytes() - memory, 0)
    assert done is not None
    next(program, None)
    return Sample(
        done.amount, done.seconds or seconds, done.cpu_seconds or cpu, peak, dict(done.extra), caller_seconds=caller
    )


def count_calls(program: Program) -> CallCounts:
    """Run a program and count its calls: in this thread, and in all that it starts. It takes several times as long."""
    counts, is_on = Counter[str](), False

    def note(_frame: FrameType, event: str, _argument: Any) -> None:
        if is_on:
            counts[event] += 1

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        next(program)
        is_on = True
        done = next(program)
        is_on = False
        next(program, None)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert done is not None
    return CallCounts(counts["call"] / done.amount, counts["c_call"] / done.amount)


def one_by_one(read: Callable[[], int], reads: int, size: int) -> Program:
    """Call `read`, which returns how many bytes it read, `reads` times, and take the time of each call."""

    def seconds_of(count: int) -> Iterator[float]:
        for _ in range(count):
            start = time.perf_counter()
            got = read()
            yield time.perf_counter() - start
            assert got == size

    list(seconds_of(_WARM_UP_CALLS))
    yield None
    seconds = sorted(seconds_of(reads))
    yield Done(reads, {f"p{percent}": seconds[math.ceil(reads * percent / 100) - 1] for percent in (50, 99)})


def warm_memory(size_bytes: int) -> None:
    """Use this much free memory once, in another process.

    The host of a virtual machine may take free memory back. To give it again takes seconds per GB, which is not to be
    measured.
    """
    subprocess.run([sys.executable, "-ISc", f"b'x' * {size_bytes}"], check=True)


def cpu_seconds() -> float:
    """User and system time of this process and its ended children."""
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def cpu_seconds_of(process: int) -> float:
    """User and system time of another process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_bytes() -> int:
    """The resident memory of this process."""
    return _status_bytes("VmRSS")


def peak_bytes() -> int:
    """The peak of the resident memory since the start or `forget_peak`."""
    return _status_bytes("VmHWM")


def forget_peak() -> None:
    """Reset `peak_bytes` to the resident memory of now, if the kernel allows it."""
    with contextlib.suppress(OSError):
        _CLEAR_REFS.write_text("5")


def _status_bytes(name: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no {name}")
