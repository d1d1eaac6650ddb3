"""What `make chaos` prints at its end."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

_results: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
_summaries: list[str] = []


@pytest.fixture
def results() -> Callable[[str, str, str, bool, str], None]:
    """Add the ending of a cell to the table."""

    def take(fault: str, user: str, operation: str, stays: bool, ending: str) -> None:
        _results[fault][user].add(ending if stays else "once: " + ending)

    return take


@pytest.fixture
def summary() -> Callable[[str], None]:
    """Add a line to the output at the end."""
    return _summaries.append


def pytest_report_header() -> str:
    return f"OSS_CHAOS_SEED={os.environ['OSS_CHAOS_SEED']}"


def pytest_configure() -> None:
    """Choose the seed before the tests are collected, and print it at the top."""
    os.environ["OSS_CHAOS_SEED"] = os.environ.get("OSS_CHAOS_SEED") or str(int(time.time()))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    write = terminalreporter.write_line
    for fault, users in _results.items():
        endings: dict[str, list[str]] = defaultdict(list)
        for user, found in users.items():
            endings[" / ".join(sorted(found - {"once: right"}))].append(user)
        told = "; ".join(f"{ending or 'right'}: {', '.join(names)}" for ending, names in endings.items())
        write(f"{fault:24} {told}")
    for line in _summaries:
        write(line)
