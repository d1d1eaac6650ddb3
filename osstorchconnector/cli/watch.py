"""What goes on while jobs run: the bar advances, and Ctrl-C ends all of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fsspec.callbacks import Callback

from .show import Bar


class StoppedError(Exception):
    """The user has pressed Ctrl-C: the copy ends, and publishes nothing."""


class Stop:
    """Ends the copies that are under way, from the thread that is told so."""

    def __init__(self) -> None:
        self._lock, self._is_set = threading.Lock(), False
        self._give_ups: list[Callable[[], None]] = []

    def set(self) -> None:
        """Give up what is under way; whatever begins later is given up at once."""
        with self._lock:
            self._is_set = True
            give_ups = tuple(self._give_ups)
        for give_up in give_ups:
            give_up()

    def check(self) -> None:
        """Raise `StoppedError` after `set`."""
        if self._is_set:
            raise StoppedError

    @contextmanager
    def giving_up(self, give_up: Callable[[], None]) -> Iterator[None]:
        """Call `give_up` if `set` comes while the block runs. The block then ends with an error."""
        with self._lock:
            self.check()
            self._give_ups.append(give_up)
        try:
            yield
        finally:
            with self._lock:
                self._give_ups.remove(give_up)


class Watch(Callback):  # type: ignore[misc]
    """Passes what fsspec says about one copy on to the bar of all, and ends the copy if the user wants that."""

    def __init__(self, shown: Bar, stop: Stop) -> None:
        super().__init__()
        self._shown, self.stop = shown, stop

    def relative_update(self, inc: int = 1) -> None:
        self.stop.check()
        self._shown.advance(inc)
