"""Wake-ups at points of time, exact to a fraction of a millisecond.

The timers of uvloop's loops count whole milliseconds. A `WakeUps` keeps all points of time in a heap and sets one alarm
for the earliest: a timer of the kernel where there is one (Linux), a timer of the loop elsewhere.
"""

from __future__ import annotations

import asyncio
import ctypes
import heapq
import itertools
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Protocol

HAS_KERNEL_ALARM = sys.platform == "linux"
_CLOCK_MONOTONIC = 1  # the clock of `time.monotonic`
_ABSOLUTE = 1
_BILLION = 1_000_000_000


class Alarm(Protocol):
    """Calls a function once, at or after the time that was set last."""

    def set(self, due: float | None) -> None:
        """Set the time, in seconds of `time.monotonic`, or switch off."""

    def close(self) -> None: ...


class WakeUp:
    """A call that is due at a time; `cancel` prevents it."""

    __slots__ = ("call", "due")

    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due = due
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class WakeUps:
    """Calls functions at points of time, never early, in the order of these times."""

    def __init__(
        self,
        make_alarm: Callable[[Callable[[], None]], Alarm],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._alarm, self._clock = make_alarm(self._ring), clock
        self._heap: list[tuple[float, int, WakeUp]] = []
        self._numbers = itertools.count()
        self._set_for = math.inf
        self._is_ringing = False

    def at(self, due: float, call: Callable[[], None]) -> WakeUp:
        """Call `call` at this time of the clock."""
        wake_up = WakeUp(due, call)
        heapq.heappush(self._heap, (due, next(self._numbers), wake_up))
        if due < self._set_for and not self._is_ringing:
            self._set_for = due
            self._alarm.set(due)
        return wake_up

    def close(self) -> None:
        self._heap.clear()
        self._alarm.close()

    def _ring(self) -> None:
        """Make the calls that are due. Those that are added meanwhile wait for the next ring."""
        now, heap = self._clock(), self._heap
        self._is_ringing = True
        try:
            while heap and heap[0][0] <= now:
                call = heapq.heappop(heap)[2].call
                if call is not None:
                    call()
        finally:
            self._is_ringing = False
            self._set_for = heap[0][0] if heap else math.inf
            self._alarm.set(heap[0][0] if heap else None)


def wake_ups_of(loop: asyncio.AbstractEventLoop) -> WakeUps:
    """Return the wake-ups of a loop, with the best alarm of this system."""
    return WakeUps(lambda ring: KernelAlarm(loop, ring) if HAS_KERNEL_ALARM else LoopAlarm(loop, ring))


class LoopAlarm:
    """An alarm that is a timer of the loop: as exact as the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop, self._ring = loop, ring
        self._timer: asyncio.TimerHandle | None = None

    def set(self, due: float | None) -> None:
        self.close()
        if due is not None:
            # Rounded up: a timer that rang early would be set again and again until the time has come.
            delay = math.ceil(max(due - time.monotonic(), 0.0) * 1000) / 1000
            self._timer = self._loop.call_later(delay, self._ring)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class _Setting(ctypes.Structure):
    """Linux's `struct itimerspec`."""

    _fields_ = (
        ("interval_seconds", ctypes.c_long),
        ("interval_nanoseconds", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


class KernelAlarm:
    """An alarm that is a timerfd of Linux: late by what the loop needs to notice it, some 50 us."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        library = ctypes.CDLL(None, use_errno=True)
        self._settime = library.timerfd_settime
        self._descriptor: int = library.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), f"no timerfd: {os.strerror(ctypes.get_errno())}")
        self._setting = _Setting()
        self._reference = ctypes.byref(self._setting)
        self._loop = loop
        loop.add_reader(self._descriptor, ring)

    def set(self, due: float | None) -> None:
        # To set the time also takes back an alarm that has rung: nobody needs to read the descriptor.
        nanoseconds = 0 if due is None else max(math.ceil(due * _BILLION), 1)
        self._setting.seconds, self._setting.nanoseconds = divmod(nanoseconds, _BILLION)
        self._settime(self._descriptor, _ABSOLUTE, self._reference, None)

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)
