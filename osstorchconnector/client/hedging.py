"""A second request for a small object that is late: the slowest of a hundred answers then cost no more than others.

Which are late is learnt from those before, and how many second requests there may be is bounded; both are decided by
`Lateness`, which is pure.
"""

from __future__ import annotations

import asyncio
import time
from bisect import insort
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ..protocol.heads import ResponseHead
from ..protocol.values import Download
from .attempts import GetAttempt

LARGEST_HEDGED_BYTES = 256 * 1024
QUANTILE = 0.98
MOST_EXTRA = 0.03
MOST_EXTRA_AT_FIRST = 0.02
_REMEMBERED = 1000
_LEAST_KNOWN = 50


class Lateness:
    """How long answers take until their first byte, and from when on one is late."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []
        self._asked = self._hedged = 0

    def patience_seconds(self) -> float | None:
        """Count one read, and return how long to wait for its first byte; `None` while too little is known."""
        self._asked += 1
        known = self._sorted
        return known[int(len(known) * QUANTILE)] if len(known) >= _LEAST_KNOWN else None

    def may_hedge(self, *, is_very_late: bool) -> bool:
        """Take one second request; False if that made more than three in a hundred reads.

        One of the three is kept for what is very late: where many are a little late they would use up all.
        """
        if self._hedged + 1 > (MOST_EXTRA if is_very_late else MOST_EXTRA_AT_FIRST) * self._asked:
            return False
        self._hedged += 1
        return True

    def learn(self, seconds: float) -> None:
        """Take in how long a first byte took."""
        recent, known = self._recent, self._sorted
        recent.append(seconds)
        insort(known, seconds)
        if len(recent) > _REMEMBERED:
            known.remove(recent.popleft())


class _Perform(Protocol):
    def __call__(self, attempt: GetAttempt, *, on_data_path: bool) -> Coroutine[Any, Any, ResponseHead]: ...


class HedgedReads:
    """The small reads of one client on one loop."""

    def __init__(self, perform: _Perform, clock: Callable[[], float] = time.monotonic) -> None:
        self._perform = perform
        self._clock = clock
        self._lateness = Lateness()

    async def fetch(self, make_attempt: Callable[[], GetAttempt]) -> Download:
        """Perform an attempt; if its answer is late, perform another beside it, and return what comes first."""
        patience = self._lateness.patience_seconds()
        first = _Race(self, make_attempt())
        racers = [first]
        try:
            is_very_late = False
            while patience is not None and not await first.has_begun(patience):
                if self._lateness.may_hedge(is_very_late=is_very_late):
                    racers.append(_Race(self, make_attempt()))
                    break
                is_very_late, patience = True, 2 * patience
            return await _winner(racers)
        finally:
            for racer in racers:
                racer.drop()

    def begin(self, attempt: GetAttempt, begun: asyncio.Future[None]) -> asyncio.Task[ResponseHead]:
        """Start one of the requests; `begun` is done when its first byte has come, which is learnt from."""
        started = self._clock()

        def first_byte() -> None:
            if not begun.done():
                begun.set_result(None)
                self._lateness.learn(self._clock() - started)

        attempt.on_head = first_byte
        return asyncio.ensure_future(self._perform(attempt, on_data_path=True))


class _Race:
    """One of the requests for the same object."""

    def __init__(self, reads: HedgedReads, attempt: GetAttempt) -> None:
        self.attempt = attempt
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = reads.begin(attempt, self.begun)

    async def has_begun(self, within_seconds: float) -> bool:
        """Wait for the first byte, or the end, for so long."""
        waits: set[asyncio.Future[Any]] = {self.begun, self.task}
        done, _ = await asyncio.wait(waits, timeout=within_seconds, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)

    def drop(self) -> None:
        """Let go of the request, whatever has become of it."""
        if self.task.done() and not self.task.cancelled():
            self.task.exception()  # else asyncio logs one that nobody asked for
        self.task.cancel()


async def _winner(racers: list[_Race]) -> Download:
    """Return what the first request that ends well has brought; if none does, raise what the first one met."""
    running = {racer.task for racer in racers}
    while running:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for racer in racers:
            if racer.task in done and racer.task.exception() is None:
                return racer.attempt.result
    await racers[0].task
    raise AssertionError("unreachable: the first request failed")
