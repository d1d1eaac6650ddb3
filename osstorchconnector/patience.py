"""Calls into what is not ours and may hang: a credentials provider, a file on a server that is gone, a pipe.

Such a call is made in a thread of its own and waited for so long, not longer. A thread that hangs can't be ended: it
is left alone, and what it brings in the end still counts.
"""

from __future__ import annotations

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

NO_THREAD = (
    "no thread can be started: this process, its user or its container has as many as it may have (ulimit -u, the "
    "limit of pids)"
)


class NoAnswerError(Exception):
    """The call has not returned in time, or could not be made; the text says which."""


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

        While an earlier call has not returned, that one is waited for instead.
        """
        future = self._running() or self._begin(call)
        try:
            return future.result(seconds)
        except FutureTimeoutError:
            if future.done():  # it was the call that raised it
                raise
            raise NoAnswerError(f"no answer within {seconds:g} s") from None
        finally:
            if future.done():
                self._latest = None
            del future  # its error knows this frame

    @property
    def seconds_waited(self) -> float:
        """For how long the latest call has been waited for, or when it was made, if it has returned."""
        return self._clock() - self._begun

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
