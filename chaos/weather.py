"""Faults for a whole bucket: a share of all requests fails, in all ways that a retry can repair."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faults.faults import ALL, FAULTS, Fault

from osstorchconnector.testing import OssBucket

SHARE_OF_FAULTS = 0.05
IN_FLIGHT = 24  # a number, so that sockets can be counted
# Faults that are errors on purpose if they strike twice in a row (an expired token) or one user (a changed object).
_FINAL = {"expired token", "redirect", "final refusal", "replaced midway", "deleted midway"}
# A reader of ranges finds a wrong byte only at the end, after it was handed out: there it is an error.
_FOR_WHOLE_OBJECTS = {"wrong bytes", "wrong CRC"}


def bad_weather(bucket: OssBucket, seed: int, operations: Sequence[str] = ALL, *, whole_objects: str = "") -> None:
    """Let 5 % of the requests of each operation fail, in all ways that apply to it.

    Downloads arrive with wrong bytes only below the prefix `whole_objects`.
    """
    for operation in operations:
        faults = [fault for fault in FAULTS if operation in fault.operations and fault.path not in _FINAL]
        for fault in faults:
            is_download = operation == "GetObject" and fault.path in _FOR_WHOLE_OBJECTS
            if not is_download or whole_objects:
                prefix = whole_objects if is_download else ""
                _strike(bucket, operation, fault, seed, SHARE_OF_FAULTS / len(faults), prefix)


def _strike(bucket: OssBucket, operation: str, fault: Fault, seed: int, share: float, prefix: str) -> None:
    options: dict[str, Any] = {**fault.options, "probability": share, "seed": seed, "prefix": prefix}
    bucket.server.fail(operation, fault.effect or fault.name, bucket=bucket.name, **options)


def configured(bucket: OssBucket, folder: Path, **settings: object) -> dict[str, Any]:
    """Return the options of a client with short timeouts and retry delays, and its files in `folder`."""
    config, tables = folder / "config.json", folder / "tables"
    tables.mkdir(exist_ok=True)
    in_flight = {"datasetConfig": {"prefetchConcurrency": IN_FLIGHT}}
    chosen = {**in_flight, "retryBaseDelay": 0.01, "retryMaxDelay": 0.5, "readTimeout": 0.5, "partSize": 200 * 1024}
    config.write_text(json.dumps({**chosen, "indexDir": str(tables), "logPath": "", "auditPath": "", **settings}))
    return {**bucket.options, "config_path": str(config)}
