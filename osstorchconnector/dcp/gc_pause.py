"""Python's garbage collection, put off while very many objects are made that all stay for a while."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_users = 0
_is_ours = False


@contextmanager
def collection_put_off() -> Iterator[None]:
    """Let no garbage be collected meanwhile, in any thread; where it was turned off already it stays so.

    Each full collection looks through all objects of the process: beside torch that takes 0.1 s and more, and the plan
    of 5,000 tensors alone brings about several (measured: half the time of loading them).
    """
    _begin()
    try:
        yield
    finally:
        _end()


def _begin() -> None:
    global _users, _is_ours
    with _lock:
        _users += 1
        if _users == 1 and gc.isenabled():
            _is_ours = True
            gc.disable()


def _end() -> None:
    global _users, _is_ours
    with _lock:
        _users = max(_users - 1, 0)  # 0 already in a child that was forked meanwhile
        if not _users and _is_ours:
            _is_ours = False
            gc.enable()


def _start_afresh() -> None:
    """Collect garbage in a forked child: whoever put it off is in the parent."""
    global _lock, _users, _is_ours
    _lock, _users = threading.Lock(), 0
    if _is_ours:
        _is_ours = False
        gc.enable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_afresh)
