"""An OSS-shaped server for one machine: for tests, first steps and measurements.

From Python, `serve()` starts one in a process of its own:

    with emulator.serve(buckets=["photos"]) as oss:
        dataset = OssIterableDataset.from_prefix("oss://photos/", oss.endpoint, cred_path=..., region=oss.region)

From a shell, `python -m osstorchconnector.emulator --root DIR --port N` serves a folder until it is interrupted.
"""

from __future__ import annotations

from .counters import Counters, LogEntry
from .handle import Emulator, EmulatorError, PendingUpload, serve, write_credentials

__all__ = ["Counters", "Emulator", "EmulatorError", "LogEntry", "PendingUpload", "serve", "write_credentials"]
