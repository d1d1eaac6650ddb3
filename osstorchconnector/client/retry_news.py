"""Which retries are logged: the first of an operation, then at growing intervals. The clock is handed in.

All operations of a process at one endpoint share one `RetryNews`, so hundreds of retries at a time make few lines.
Retries that go on for longer than a few seconds are warnings.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from ..errors import OssError
from .error_texts import retried
from .retry import RetryDecision

_logger = logging.getLogger(__name__)

# After this long the retries of an operation are a warning.
LONG_SECONDS = 5.0
# The interval between warnings doubles up to this. After a calm while without retries it is short again.
LONGEST_INTERVAL_SECONDS = 300.0
CALM_SECONDS = 60.0
# At most one line below a warning in this time.
INFO_INTERVAL_SECONDS = 1.0


class News(NamedTuple):
    """A line to log at `level`; `untold` retries at the endpoint were not told of since the last one."""

    level: int
    untold: int


class RetryNews:
    """Decides which retries at one endpoint are told of."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = self._next_info = self._next_warning = float("-inf")
        self._interval = LONG_SECONDS
        self._untold = 0

    def of(self, *, attempt: int, seconds_so_far: float) -> News | None:
        """Return what to log about a retry after try number `attempt` of an operation; None for nothing.

        Number 0 is a try that does not count: its connection had died while it was idle.
        """
        with self._lock:
            now = self._clock()
            if now - self._last > CALM_SECONDS:
                self._interval, self._next_warning = LONG_SECONDS, now
            self._last = now
            level = self._level(now, attempt, seconds_so_far)
            if not level:
                self._untold += 1
                return None
            news, self._untold = News(level, self._untold), 0
            return news

    def tell(
        self,
        error: OssError,
        decision: RetryDecision,
        attempt: int,
        seconds_so_far: float,
        deadline_seconds: float,
    ) -> None:
        """Log that a request of which try number `attempt` ended in `error` is sent again, if that is to be told."""
        news = self.of(attempt=attempt * decision.counts, seconds_so_far=seconds_so_far)
        if news is not None and _logger.isEnabledFor(news.level):
            line = retried(
                error,
                next_attempt=attempt + decision.counts,
                delay_seconds=decision.delay_seconds,
                left_seconds=deadline_seconds - seconds_so_far,
                untold=news.untold,
            )
            _logger.log(news.level, "%s", line)

    def _level(self, now: float, attempt: int, seconds_so_far: float) -> int:
        if seconds_so_far >= LONG_SECONDS and now >= self._next_warning:
            self._next_warning = now + self._interval
            self._interval = min(2 * self._interval, LONGEST_INTERVAL_SECONDS)
            return logging.WARNING
        if attempt == 1 and now >= self._next_info:
            self._next_info = now + INFO_INTERVAL_SECONDS
            return logging.INFO
        return logging.NOTSET
