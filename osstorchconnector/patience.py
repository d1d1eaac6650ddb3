"""Bounded waits: for a call that may hang, and for another process that may be stopped.

A call that may hang (a credentials provider, a file on a server that is gone, a pipe) runs in a thread of its own, and
the caller waits for a limited time. A thread that hangs can't be ended. It is left alone, and its result is used if it
comes later.
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

# A call that has hung for this long is made again in another thread: what it asked may work again.
RENEWED_SECONDS = 60.0
# At most this many calls of one `Asking` may hang; then no other is made until one of them ends.
MOST_HANGING = 8
# `Stillness`: after this long without a change, raise an error; warn after the second time, then at doubled intervals.
STUCK_SECONDS = 1800.0
FIRST_WARNING_SECONDS = 60.0

_logger = logging.getLogger(__name__)

NO_THREAD = (
    "no thread can be started: this process, its user or its container has reached its limit of threads (ulimit -u, "
    "or the limit of pids)"
)


class NoAnswerError(Exception):
    """There was no answer in time, or the call could not be started; the text says which."""


class NoThreadError(NoAnswerError):
    """No thread could be started."""

    def __init__(self) -> None:
        super().__init__(NO_THREAD)


class Asking(Generic[T]):
    """Makes the same call repeatedly, one at a time unless one hangs. Not for several threads at the same time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._latest: Future[T] | None = None
        self._begun = 0.0
        self._hanging: list[Future[T]] = []

    def ask(self, call: Callable[[], T], seconds: float) -> T:
        """Return what `call` returns, or raise what it raises; `NoAnswerError` after `seconds`.

        If an earlier call has not returned, wait for that one instead and return its result: so all calls must be
        equivalent.
        """
        future = self._running() or self._begin(call)
        try:
            return future.result(seconds)
        except FutureTimeoutError:
            if future.done():  # it has just ended, or has raised this error itself
                return future.result()
            raise NoAnswerError(f"no answer within {seconds:g} s") from None
        finally:
            if future.done():
                self._latest = None
            del future  # drop the reference cycle: exception -> traceback -> frame -> future

    @property
    def seconds_waited(self) -> float:
        """The time since the latest call was made."""
        return self._clock() - self._begun

    @property
    def is_busy(self) -> bool:
        """Whether the latest call has not returned yet."""
        return self._latest is not None and not self._latest.done()

    def do(self, call: Callable[[], T], seconds: float) -> T:
        """Like `ask`, for calls that are not equivalent: while one hangs, no other is made."""
        if any(not future.done() for future in self._hanging):
            raise NoAnswerError("still no answer to the call before")
        self._latest = None
        return self.ask(call, seconds)

    def _running(self) -> Future[T] | None:
        """Return the call to wait for, `None` if a new one is to be made."""
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
    """Start a daemon thread. Raises `NoThreadError` at the limit of threads.

    At the interpreter's end Python starts no threads any more. Then this runs `target` itself.
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
    """Measures how long something has not changed; warns at growing intervals, and finally raises an error.

    Counts only the time of waiting, not the time for which this process itself was stopped. `what` says what has not
    happened: "the table has not grown".
    """

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._clock = what, clock
        self._mark: object = None
        self._last = clock()
        self._seconds, self._next_warning = 0.0, FIRST_WARNING_SECONDS

    def check(self, mark: object, slept_seconds: float, who: str) -> None:
        """Compare `mark`, which changes with what is watched, after a sleep of at most `slept_seconds`.

        Raises `NoAnswerError` after half an hour without a change; `who` names the process that is waited for.
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
