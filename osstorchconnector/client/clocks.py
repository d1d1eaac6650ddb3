"""Time as connections see it: a machine that sleeps forgets none of it, though most of its clocks stand still."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

# Linux stops CLOCK_MONOTONIC while the machine sleeps and has a clock that goes on; macOS stops Python's `monotonic`.
_GOES_ON = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))

seconds_since_boot: Callable[[], float] = (
    time.monotonic if _GOES_ON is None else functools.partial(time.clock_gettime, _GOES_ON)
)
"""Seconds since some moment, those in which the machine slept among them."""


def seconds_slept() -> float:
    """Return for how long the machine has slept; only the difference between two answers means anything."""
    return seconds_since_boot() - time.monotonic()
