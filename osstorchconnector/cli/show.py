"""What people read: sizes, times, tables, progress, and the line that says what went wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from ..redaction import printable

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")

# Bars go to stderr and only to a terminal, so that a pipe gets the result alone.
errors = Console(stderr=True, highlight=False, soft_wrap=True)


def out(text: str) -> None:
    """Print one line of the result. Control characters in names are escaped."""
    sys.stdout.write(f"{printable(text, len(text))}\n")


def out_json(value: Any) -> None:
    """Print a result for programs: one JSON document in a line."""
    sys.stdout.write(f"{json.dumps(value, ensure_ascii=False)}\n")


def note(text: str) -> None:
    """Print a line that is not part of the result."""
    errors.print(printable(text, 2000), markup=False)


def size_text(size: int) -> str:
    """Return a number of bytes as people read it: `1.5 MiB`."""
    value, unit = float(size), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{size} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def time_text(epoch_seconds: float | None) -> str:
    """Return a moment in UTC, to the second; blanks if there is none."""
    if epoch_seconds is None:
        return " " * 20
    return f"{datetime.fromtimestamp(epoch_seconds, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


class Bar:
    """How much of something long is done. Threads may advance it."""

    def __init__(self, progress: Progress | None, title: str) -> None:
        self._progress = progress
        self._task = None if progress is None else progress.add_task(title, total=None)
        self._total = 0

    def expect(self, count: int) -> None:
        """Count so much among what is to come."""
        self._total += count
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=self._total)

    def advance(self, count: int) -> None:
        """Count so much as done."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, count)

    def reach(self, done: int, total: int) -> None:
        """Show so much as done, and so much in all."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total)


@contextmanager
def bar(title: str, unit: str = "") -> Iterator[Bar]:
    """Show a bar on a terminal; elsewhere nothing. It counts bytes, or what `unit` names."""
    if not errors.is_terminal:
        yield Bar(None, title)
        return
    counts = (MofNCompleteColumn(), TextColumn(unit)) if unit else (DownloadColumn(), TransferSpeedColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), *counts, TimeRemainingColumn())
    with Progress(*columns, console=errors, transient=True) as progress:
        yield Bar(progress, title)
