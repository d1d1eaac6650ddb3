"""Processes that are killed in the middle of what they do."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from osstorchconnector.emulator import Emulator
from osstorchconnector.testing import OssBucket

PATIENCE_SECONDS = 30


def kill_when(work: Callable[[], object], is_time: Callable[[], bool]) -> bool:
    """Fork, let the child do `work`, and kill it with SIGKILL when `is_time`; False if it was done before."""
    pid = os.fork()
    if not pid:
        try:
            work()
        finally:
            os._exit(0)
    patience = time.monotonic() + PATIENCE_SECONDS
    while not is_time():
        if os.waitpid(pid, os.WNOHANG) != (0, 0):
            return False
        assert time.monotonic() < patience, "the child never came so far"
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def requests_of(server: Emulator, operation: str) -> int:
    return server.counters(with_log=False).requests.get(operation, 0)


def check_completes(bucket: OssBucket, parts: int) -> None:
    """No upload was completed before all of its parts had arrived."""
    stored: set[str] = set()
    for entry in bucket.server.counters().log:
        if entry.operation == "UploadPart" and entry.status in (0, 200):
            stored.add(entry.query["partNumber"])
        if entry.operation == "CompleteMultipartUpload":
            assert len(stored) == parts
