"""Clocks: connections age while the machine sleeps, deadlines count only time in which the process ran.

A process may be stopped (SIGSTOP, a paused container, a suspended job) or its machine put to sleep, for longer than any
deadline. That says nothing about the server. `RunningTime` takes such gaps out; a `LoopClock` looks
at the time often enough for that while something on its event loop waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
import weakref
from collections.abc import Callable, Collection, Coroutine, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
F = TypeVar("F", bound="asyncio.Future[Any]")

# Linux stops CLOCK_MONOTONIC while the machine sleeps and has a clock that goes on; macOS stops Python's `monotonic`.
_GOES_ON = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))

seconds_since_boot: Callable[[], float] = (
    time.monotonic if _GOES_ON is None else functools.partial(time.clock_gettime, _GOES_ON)
)
"""Seconds since some moment, including those in which the machine slept."""

PERIOD_SECONDS = 1.0
# A look at the clock that comes this much later than planned means that the process was stopped, and not only slow.
GRACE_SECONDS = 2.0


async def wait(
    futures: Collection[F], *, timeout: float | None = None, return_when: str = asyncio.ALL_COMPLETED
) -> tuple[set[F], set[F]]:
    """Wait as `asyncio.wait` does. A cancelled one leaves no cycle.

    With Python 3.14 a frame of `asyncio.wait` refers to the task that waits. A cancelled task keeps its error, whose
    traceback would refer to that frame.
    """
    try:
        done, pending = await asyncio.wait(futures, timeout=timeout, return_when=return_when)
    except asyncio.CancelledError as error:
        raise error.with_traceback(None) from None
    return done, pending


def seconds_slept() -> float:
    """Return how long the machine has slept, from an unknown start: compare two answers."""
    return seconds_since_boot() - time.monotonic()


class RunningTime:
    """The time in which this process ran, if it looks at least every `period_seconds`. The clock is handed in.

    `stops` counts how often it was found not to have run.
    """

    def __init__(self, seconds: float, now: float) -> None:
        self.seconds, self.stops, self.period_seconds = seconds, 0, PERIOD_SECONDS
        self._seen = now

    def look(self, now: float) -> float:
        """Take in the clock's reading, and return the time."""
        passed, self._seen = now - self._seen, now
        if passed > self.period_seconds + GRACE_SECONDS:
            self.stops += 1
            passed = self.period_seconds
        self.seconds += passed
        return self.seconds

    def look_again(self, now: float) -> None:
        """Begin to look again after a while in which nothing waited. All of that while counts."""
        self.seconds += now - self._seen
        self._seen = now


class LoopClock:
    """The running time of one event loop: without the time in which the process was stopped.

    It ticks while it is watched or used; `running.seconds` is as old as the last tick.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = seconds_since_boot) -> None:
        self.running = RunningTime(loop.time(), clock())
        self.is_ticking = False
        self._clock = clock
        self._users = self._plans = 0
        self._watchers: list[Callable[[float], bool]] = []

    def tick_within(self, seconds: float) -> None:
        """Tick at least this often."""
        if seconds < self.running.period_seconds:
            self.running.period_seconds = seconds
            if self.is_ticking:
                self._plan()

    def watch(self, watcher: Callable[[float], bool]) -> None:
        """Call `watcher` with the time at every tick as long as it returns True."""
        self._watchers.append(watcher)
        self.start()

    def unwatch(self, watcher: Callable[[float], bool]) -> None:
        """Do not call `watcher` any more."""
        if watcher in self._watchers:
            self._watchers.remove(watcher)

    def start(self) -> None:
        """Tick, if it does not yet."""
        if not self.is_ticking:
            self.is_ticking = True
            self.running.look_again(self._clock())
            self._plan()

    def look(self) -> float:
        """Return the time of this moment."""
        return self.running.look(self._clock())

    async def wait_for(self, coroutine: Coroutine[Any, Any, T], deadline: Callable[[], float]) -> T:
        """Return the coroutine's result; `asyncio.TimeoutError`, and it is cancelled, when the deadline has passed.

        The deadline is asked for again whenever it seems to have passed.
        """
        task = asyncio.ensure_future(coroutine)
        try:
            with self.used():
                while not task.done():
                    left_seconds = deadline() - self.look()
                    if left_seconds <= 0:
                        raise asyncio.TimeoutError
                    await wait({task}, timeout=left_seconds)
                return task.result()
        finally:
            try:
                while not task.done():
                    task.cancel()
                    await wait({task})
                if not task.cancelled():
                    task.exception()  # asyncio logs exceptions that nobody has looked at
            finally:
                del task  # drop the reference cycle: exception -> traceback -> this frame -> task

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Tick as long as the context lasts."""
        self._users += 1
        self.start()
        try:
            yield
        finally:
            self._users -= 1

    def _plan(self) -> None:
        self._plans += 1  # a number, since the timer itself would keep the loop from being collected
        asyncio.get_running_loop().call_later(self.running.period_seconds, self._tick, self._plans)

    def _tick(self, plan: int) -> None:
        if plan != self._plans:
            return
        now = self.look()
        for watcher in list(self._watchers):
            try:
                is_done = not watcher(now)
            except Exception as error:  # without the clock no deadline of this loop would ever come
                is_done = False
                asyncio.get_running_loop().call_exception_handler({"message": "a watcher failed", "exception": error})
            if is_done:
                self.unwatch(watcher)
        if self._watchers or self._users:
            self._plan()
        else:
            self.is_ticking = False


_clocks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, LoopClock] = weakref.WeakKeyDictionary()


def loop_clock() -> LoopClock:
    """Return the clock of the running event loop, which all its clients share."""
    loop = asyncio.get_running_loop()
    clock = _clocks.get(loop)
    if clock is None:
        clock = _clocks[loop] = LoopClock(loop)
    return clock


def wait_running(
    wait: Callable[[float], bool], seconds: float, clock: Callable[[], float] = seconds_since_boot
) -> bool:
    """Call `wait(seconds)` until it returns True, or the process has run for `seconds`. Return whether it was True."""
    running = RunningTime(0.0, clock())
    while (left_seconds := seconds - running.look(clock())) > 0:
        if wait(min(left_seconds, running.period_seconds)):
            return True
    return wait(0.0)
