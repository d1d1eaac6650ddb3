"""How far a save or load has come, for whoever wants to look."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

ProgressCallback = Callable[[int, int], object]


class Progress:
    """Counts bytes and tells `watcher`: a callable that gets bytes done and bytes in all, or True for a tqdm bar.

    The callable is called on the thread that saves or loads, at most ten times a second and once at the end.
    """

    def __init__(self, watcher: ProgressCallback | bool | None, what: str, total_bytes: int) -> None:
        self.done_bytes, self.total_bytes = 0, total_bytes
        self.begun = time.perf_counter()
        self._bar: Any = _bar(what, total_bytes) if watcher is True else None
        self._callback = watcher if callable(watcher) else None
        self._told_at = 0.0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.begun

    @property
    def is_watched(self) -> bool:
        return self._bar is not None or self._callback is not None

    def reach(self, done_bytes: int) -> None:
        """So many bytes are done."""
        if not self.is_watched:
            return
        now = time.perf_counter()
        if now - self._told_at >= 0.1:
            self._told_at = now
            self._tell(done_bytes)

    def end(self) -> None:
        """All is done."""
        self._tell(self.total_bytes)
        self.close()

    def close(self) -> None:
        """Take the bar away, however far it has come."""
        if self._bar is not None:
            self._bar.close()

    def _tell(self, done_bytes: int) -> None:
        if self._bar is not None:
            self._bar.update(done_bytes - self.done_bytes)
        self.done_bytes = done_bytes
        if self._callback is not None:
            self._callback(done_bytes, self.total_bytes)


def summary(size_bytes: int, seconds: float, retries: int) -> str:
    """Size, time and speed in words, for the log."""
    seconds = max(seconds, 1e-9)
    return f"{size_bytes} bytes in {seconds:.3g} s, {size_bytes / seconds / 1e9:.3g} GB/s, {retries} retries"


def _bar(what: str, total_bytes: int) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total_bytes, desc=what, unit="B", unit_scale=True)
