"""An OSS-shaped server for one machine: for tests, first steps and measurements.

From Python, `serve()` starts one in a process of its own:

    with emulator.serve(buckets=["photos"]) as oss:
        dataset = OssIterableDataset.from_prefix("oss://photos/", oss.endpoint, cred_path=..., region=oss.region)

From a shell, `python -m osstorchconnector.emulator --root DIR --port N` serves a folder until it is interrupted.

How a request flows, from top to bottom, and its answer from bottom to top:

    client
      |  bytes
    `server`       accepts connections on one event loop; `sockets` hides TLS
    `connection`   finds heads and bodies in the bytes, sends the steps of answers
      |  a head, pieces of the body                ^  steps: bytes, pieces of files, pauses, hang-ups (`wire`)
    `distance`     with a `Network`: what arrives when, in between times for which `connection` waits (`wakeups`)
    `frontend`     a faulty request gets its `Effect`s from `faults` here; `counters` counts each request
      |  `routing` and `interface` find the operation, `auth` checks the signature, `intake` takes the body
      |  a `Call` and a `Received` body            ^  a `Reply`, or the `Refused` of `refusals` (`exchange`)
    `operations`   what OSS does; `documents` are its XML
      |
    `service`      buckets, keys, policy and clock of one account
    `storage`      one journal of `records` per bucket; the bytes are in `blobs`

- Control: `handle` starts the process and steers it through `control`; `__main__` is the command line.
- Faults: `faults` lists them by name and decides which requests are struck. `effects` says at which points a fault can
  act, and has the faults of the exchange; `answer_effects` has those that change the answer's head or bytes.
- Network: `network` has the value that users give, and the arithmetic of latency and rates.
- `differences` says where this server differs from OSS, and writes that part of docs/emulator.md.

To read it all, begin with `exchange`, `wire` and `frontend`.
"""

from __future__ import annotations

from .counters import Counters, LogEntry
from .handle import Emulator, EmulatorError, PendingUpload, serve, write_credentials
from .network import Network

__all__ = [
    "Counters",
    "Emulator",
    "EmulatorError",
    "LogEntry",
    "Network",
    "PendingUpload",
    "serve",
    "write_credentials",
]
