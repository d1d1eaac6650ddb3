"""What is logged about waiting for a server: so that nobody looks at a job that stands still and can't tell why.

- `RetryNews`: requests that are sent again
- `HeldNews`: requests that are held back since the server asked for fewer
- `Silence`: requests that get no answer, long before they are given up
- `Listener`: tells it of the requests of a transport whose connections are not our own

Each says once that something lasts, and once that it goes on. Clocks are handed in.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from ..protocol.values import Request
from .clocks import LoopClock
from .error_texts import Story, named, retried
from .retry import RetryDecision

_logger = logging.getLogger(__name__)

# After this long the retries of an operation are a warning.
LONG_SECONDS = 5.0
# The interval between warnings doubles up to this. After a while without retries it is short again.
LONGEST_INTERVAL_SECONDS = 300.0
QUIET_NEWS_SECONDS = 60.0
# At most one line below a warning in this time.
INFO_INTERVAL_SECONDS = 1.0


class News(NamedTuple):
    """A line to log at `level`; `untold` retries at the endpoint were not logged since the last one."""

    level: int
    untold: int


class RetryNews:
    """Decides which retries at one endpoint are logged: the first, and warnings about those that last long.

    After a warning, the first operation that was sent again and ends well is logged, too.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._last = self._next_info = self._next_warning = float("-inf")
        self._interval = LONG_SECONDS
        self._untold = 0
        self._has_warned = False

    def of(self, *, attempt: int, seconds_so_far: float) -> News | None:
        """Return what to log about a retry after try number `attempt` of an operation; None for nothing.

        Number 0 is a try that does not count: its connection had died while it was idle.
        """
        with self._lock:
            now = self._clock()
            if now - self._last > QUIET_NEWS_SECONDS:
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
        story: Story,
        decision: RetryDecision,
        attempt: int,
        seconds_so_far: float,
        deadline_seconds: float,
    ) -> None:
        """Log that a request of which try number `attempt` ended so is sent again, if that is to be logged."""
        news = self.of(attempt=attempt * decision.counts, seconds_so_far=seconds_so_far)
        if news is not None and _logger.isEnabledFor(news.level):
            line = retried(
                story,
                next_attempt=attempt + decision.counts,
                delay_seconds=decision.delay_seconds,
                left_seconds=deadline_seconds - seconds_so_far,
                untold=news.untold,
            )
            _logger.log(news.level, "%s", line)

    def goes_on(self, request: Request, attempt: int, seconds: float) -> None:
        """A request was answered well at this attempt, so long after its first: log it if there was a warning."""
        with self._lock:
            is_news, self._has_warned = self._has_warned, False
        if is_news:
            _logger.warning("it goes on: %s was answered at attempt %d, after %.0f s", named(request), attempt, seconds)

    def _level(self, now: float, attempt: int, seconds_so_far: float) -> int:
        if seconds_so_far >= LONG_SECONDS and now >= self._next_warning:
            self._has_warned = True
            self._next_warning = now + self._interval
            self._interval = min(2 * self._interval, LONGEST_INTERVAL_SECONDS)
            return logging.WARNING
        if attempt == 1 and now >= self._next_info:
            self._next_info = now + INFO_INTERVAL_SECONDS
            return logging.INFO
        return logging.NOTSET


class HeldNews:
    """Says that requests to a server are held back for long, and when they no longer are."""

    def __init__(self, server: str) -> None:
        self._server, self._is_told = server, False

    def held(self, seconds: float, per_second: float) -> None:
        """A request has been held back for `seconds`; the server takes `per_second` requests."""
        if seconds >= LONG_SECONDS and not self._is_told:
            self._is_told = True
            _logger.warning(
                "%s asks for fewer requests: they are held back for %.0f s and more, and sent at %.3g a second",
                self._server,
                seconds,
                per_second,
            )

    def free(self) -> None:
        """Nothing is held back any more."""
        if self._is_told:
            self._is_told = False
            _logger.warning("it goes on: requests to %s are no longer held back", self._server)


class Silence:
    """Says that no request of an event loop has got a byte for long, and when bytes come again."""

    def __init__(self) -> None:
        self._seconds, self._host = 0.0, ""  # the length of the silence that was told, and whose it was

    def look(self, quiet_seconds: Sequence[float], host: str, patience_seconds: float) -> None:
        """Look at the requests in flight: for how long each has been without a byte; infinity if it is given up now."""
        if math.inf in quiet_seconds:
            self._seconds = 0.0  # it is sent again, which `RetryNews` tells
            return
        seconds = min(quiet_seconds, default=0.0)
        if seconds >= LONG_SECONDS:
            if not self._seconds:
                _logger.warning(
                    "no answer from %s for %.0f s to %d requests; one that stays silent for %g s is repeated",
                    host,
                    seconds,
                    len(quiet_seconds),
                    patience_seconds,
                )
                self._host = host
            self._seconds = seconds
        elif self._seconds:
            _logger.warning("it goes on: %s answers again, after %.0f s", self._host, self._seconds)
            self._seconds = 0.0


class Listener:
    """Looks at every tick of an event loop's clock for how long its requests have made no progress."""

    def __init__(self, clock: LoopClock, patience_seconds: float) -> None:
        self._clock, self._patience_seconds = clock, patience_seconds
        self._silence, self._heard = Silence(), dict[object, _Heard]()
        self._is_watching = False

    @contextlib.contextmanager
    def listening(self, host: str, progress: Callable[[], object]) -> Iterator[None]:
        """Listen to one request to `host` while the block lasts; what `progress` returns changes with each byte."""
        if not self._is_watching:
            self._is_watching = True
            self._clock.watch(self._look)
        key = object()
        self._heard[key] = _Heard(host, progress, progress(), self._clock.look())
        try:
            yield
        except Exception:
            self._silence.look([math.inf], host, self._patience_seconds)
            raise
        finally:
            del self._heard[key]

    def _look(self, now: float) -> bool:
        for key, heard in self._heard.items():
            last = heard.progress()
            if last != heard.last:
                self._heard[key] = heard._replace(last=last, since=now)
        quiet = [now - heard.since for heard in self._heard.values()]
        host = next((heard.host for heard in self._heard.values()), "")
        self._silence.look(quiet, host, self._patience_seconds)
        self._is_watching = bool(self._heard)
        return self._is_watching


class _Heard(NamedTuple):
    """The last progress of a request, and when it was seen."""

    host: str
    progress: Callable[[], object]
    last: object
    since: float
