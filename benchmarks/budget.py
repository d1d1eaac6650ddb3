"""A limit of time for all works together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

# A work may take this many times as long as the longest before it.
_MARGIN = 1.5


class Budget:
    """So many seconds from now on, or no limit if `seconds` is 0. `clock` returns seconds."""

    def __init__(self, seconds: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last = clock()
        self._end = self._last + seconds if seconds else math.inf
        self._longest = 0.0

    def left(self) -> float:
        """Return the seconds that are left, 0 if there are none."""
        return max(self._end - self._clock(), 0.0)

    def has_room(self) -> bool:
        """Whether one more work probably ends in time."""
        return self.left() > self._longest * _MARGIN

    def note(self) -> None:
        """Note that a work has ended. Its time counts from the end of the one before."""
        now = self._clock()
        self._longest = max(self._longest, now - self._last)
        self._last = now
