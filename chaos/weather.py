"""Bad weather for a whole bucket: a share of all requests fails, in every way that may be tried again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faults.faults import ALL, FAULTS, Fault

from osstorchconnector.testing import OssBucket

SHARE_OF_FAULTS = 0.05
# An error on purpose, twice in a row too (a token that stays expired), or for one user only (a changed object).
_FINAL = {"expired token", "redirect", "final refusal", "replaced midway", "deleted midway"}
# What is read in ranges finds a wrong byte only in the end, when it has been handed out: there it is an error.
_FOR_WHOLE_OBJECTS = {"wrong bytes", "wrong CRC"}


def bad_weather(bucket: OssBucket, seed: int, operations: Sequence[str] = ALL, *, whole_objects: str = "") -> None:
    """Let a twentieth of the requests of each operation fail, in every way that strikes it.

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
    """Return the options of a client that is quick to notice, quick to retry, and keeps its files in `folder`."""
    config, tables = folder / "config.json", folder / "tables"
    tables.mkdir(exist_ok=True)
    chosen = {"retryBaseDelay": 0.01, "retryMaxDelay": 0.5, "readTimeout": 0.5, "partSize": 200 * 1024}
    config.write_text(json.dumps({**chosen, "indexDir": str(tables), "logPath": "", "auditPath": "", **settings}))
    return {**bucket.options, "config_path": str(config)}
