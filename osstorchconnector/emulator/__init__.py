"""An OSS-shaped server for one machine: for tests, first steps and measurements.

From Python, `serve()` starts one in a process of its own:

    with emulator.serve(buckets=["photos"]) as oss:
        dataset = OssIterableDataset.from_prefix("oss://photos/", oss.endpoint, cred_path=..., region=oss.region)

From a shell, `python -m osstorchconnector.emulator --root DIR --port N` serves a folder until it is interrupted.

- from outside: `handle` starts and steers it, `__main__` is the command line, `control` what the handle asks for
- from the wire inwards: `server`, `sockets`, `connection`, `wire`; `frontend`; `intake`, `forms` for bodies;
  `interface` (what there is and what not), `routing`, `headers`, `dispatch`, `auth`
- what OSS does: `operations` on a `service`, with `exchange`, `conditions`, `documents`, `refusals`;
  `differences` tells where it is not as there
- what lasts: `storage` of `blobs` and a journal of `records`
- what goes wrong on demand, and what is counted: `faults`, `effect`, `effects`, `counters`
"""

from __future__ import annotations

from .counters import Counters, LogEntry
from .handle import Emulator, EmulatorError, PendingUpload, serve, write_credentials

__all__ = ["Counters", "Emulator", "EmulatorError", "LogEntry", "PendingUpload", "serve", "write_credentials"]
