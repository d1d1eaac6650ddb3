"""Waiting for others, which ends: for a call that may hang, for a process that may be stopped.

A call into what is not ours (a credentials provider, a file on a server that is gone, a pipe) is made in a thread of
its own and waited for so long, not longer. A thread that hangs can't be ended: it is left alone, and what it brings
in the end still counts.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# A call that has hung for so long is made once more beside it: what it asked may be well again.
RENEWED_SECONDS = 60.0
# So many calls may hang at a time; then none is made any more until one of them ends.
MOST_HANGING = 8
# What does not change for so long is stuck; and so long is told of, then at intervals that double.
STUCK_SECONDS = 1800.0
FIRST_WARNING_SECONDS = 60.0

_logger = logging.getLogger(__name__)

NO_THREAD = (
    "no thread can be started: this process, its user or its container has as many as it may have (ulimit -u, the "
    "limit of pids)"
)


class NoAnswerError(Exception):
    """What was waited for did not come in time, or could not even be begun; the text says which."""


class NoThreadError(NoAnswerError):
    """No thread could be started."""

    def __init__(self) -> None:
        super().__init__(NO_THREAD)


class Asking(Generic[T]):
    """Makes the same call again and again, one at a time as long as it does not hang. For one thread at a time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._latest: Future[T] | None = None
        self._begun = 0.0
        self._hanging: list[Future[T]] = []

    def ask(self, call: Callable[[], T], seconds: float) -> T:
        """Return what `call` returns, or raise what it raises; `NoAnswerError` after `seconds`.

        While an earlier call has not returned, that one is waited for instead, and what it has brought meanwhile is
        returned: calls must be as good as each other.
        """
        future = self._running() or self._begin(call)
        try:
            return future.result(seconds)
        except FutureTimeoutError:
            if future.done():  # it has ended just now, or has raised this itself
                return future.result()
            raise NoAnswerError(f"no answer within {seconds:g} s") from None
        finally:
            if future.done():
                self._latest = None
            del future  # its error knows this frame

    @property
    def seconds_waited(self) -> float:
        """For how long the latest call has been waited for, or when it was made, if it has returned."""
        return self._clock() - self._begun

    @property
    def is_busy(self) -> bool:
        """Whether the latest call has not returned yet."""
        return self._latest is not None and not self._latest.done()

    def do(self, call: Callable[[], T], seconds: float) -> T:
        """As `ask`, for calls that are not as good as each other: while one hangs, no other is made."""
        if any(not future.done() for future in self._hanging):
            raise NoAnswerError("still no answer to the call before")
        self._latest = None
        return self.ask(call, seconds)

    def _running(self) -> Future[T] | None:
        """Return the call that is waited for."""
        self._hanging = [future for future in self._hanging if not future.done()]
        is_recent = self._clock() - self._begun < RENEWED_SECONDS
        return self._latest if is_recent or len(self._hanging) >= MOST_HANGING else None

    def _begin(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        start_thread(lambda: _settle(future, call), "osstorchconnector-ask")
        self._latest, self._begun = future, self._clock()
        self._hanging.append(future)
        return future


def start_thread(target: Callable[[], object], name: str) -> None:
    """Start a daemon thread; `NoThreadError` if there are as many as there may be.

    While the interpreter ends, when Python starts none any more, the call is made here.
    """
    try:
        threading.Thread(target=target, name=name, daemon=True).start()
    except RuntimeError as error:
        if "shutdown" not in str(error):
            raise NoThreadError from None
        target()


def _settle(future: Future[Any], call: Callable[[], Any]) -> None:
    try:
        result = call()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


class Stillness:
    """For how long nothing has changed where somebody waits; warned of at growing intervals, in the end an error.

    Only what was waited for counts, not the time for which this process itself was stopped. `what` says what has not
    happened: "the table has not grown".
    """

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._clock = what, clock
        self._mark: object = None
        self._last = clock()
        self._seconds, self._next_warning = 0.0, FIRST_WARNING_SECONDS

    def check(self, mark: object, slept_seconds: float, who: str) -> None:
        """Take a look, after a sleep of so long at most, at `mark`, which differs from before if anything has changed.

        Raises `NoAnswerError` after half an hour in which nothing has; `who` says who is waited for.
        """
        now, last = self._clock(), self._last
        self._last = now
        if mark != self._mark:
            self._mark, self._seconds, self._next_warning = mark, 0.0, FIRST_WARNING_SECONDS
            return
        self._seconds += min(now - last, slept_seconds + 1)
        if self._seconds >= STUCK_SECONDS:
            raise NoAnswerError(f"{self._what} for {self._seconds:.0f} s: {who}")
        if self._seconds >= self._next_warning:
            self._next_warning *= 2
            _logger.warning("still waiting: %s for %.0f s: %s", self._what, self._seconds, who)
