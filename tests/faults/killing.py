"""Processes that are killed in the middle of what they do."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
from collections.abc import Callable

import torch

from osstorchconnector.emulator import Emulator
from osstorchconnector.testing import OssBucket

PATIENCE_SECONDS = 200


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


def stop_when(work: Callable[[], bool], is_time: Callable[[], bool], seconds: float) -> bool:
    """Fork, let the child do `work`, and stop it and its own children for so long when `is_time`; say how it ended."""
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.setsid()
            torch.set_num_threads(1)  # those of the parent are not here
            code = 0 if work() else 2
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    patience = time.monotonic() + PATIENCE_SECONDS
    try:
        while not is_time():
            assert os.waitpid(pid, os.WNOHANG) == (0, 0), "it ended before it was time"
            assert time.monotonic() < patience, "the child never came so far"
            time.sleep(0.001)
        os.killpg(pid, signal.SIGSTOP)
        time.sleep(seconds)  # the fault itself: nothing else makes clocks go on
        os.killpg(pid, signal.SIGCONT)
        return os.waitpid(pid, 0)[1] == 0
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        raise


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
