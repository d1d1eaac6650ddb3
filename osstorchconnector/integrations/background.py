"""Work that goes on while training does: one call after the other, few at a time, and no error is lost."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

_logger = logging.getLogger(__name__)


class Background:
    """Makes calls in a thread of its own, in the order in which they are given.

    The process waits for them before it exits. An error is logged at once, since nobody may call `wait` any more, and
    raised by `wait`. A copy in another process, by pickling, has no calls.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: ThreadPoolExecutor | None = None
        self._begun: deque[Future[None]] = deque()
        self._errors: list[BaseException] = []

    def __reduce__(self) -> tuple[type[Background], tuple[str]]:
        return Background, (self._name,)

    @property
    def has_failed(self) -> bool:
        """Whether a call has failed, and `wait` has not raised its error yet."""
        return bool(self._errors)

    def begin(self, work: Callable[..., object], *arguments: Any) -> None:
        """Make the call `work(*arguments)` after all others, and return at once."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix=self._name)
        self._begun.append(self._thread.submit(self._call, work, *arguments))

    def wait(self, left: int = 0) -> None:
        """Wait until at most `left` calls are not done yet. Raises the first error of any call, once.

        Before it raises an error it waits for all calls: those behind the one that failed still see `has_failed`.
        """
        while len(self._begun) > left and not self._errors:
            self._begun.popleft().result()
        if not self._errors:
            return
        while self._begun:
            self._begun.popleft().result()
        raise self._errors.pop(0)

    def close(self) -> None:
        """Wait for all calls, end the thread, and raise the first error. More calls may be begun afterwards."""
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
            self._thread, self._errors = None, []

    def _call(self, work: Callable[..., object], *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException as error:
            _logger.error("%s: what was to be stored while training goes on has failed: %s", self._name, error)
            self._errors.append(error)
