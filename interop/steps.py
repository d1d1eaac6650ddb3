"""Shared by the two Python programs: running steps, and the values that they send."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

ENDPOINT, REGION, BUCKET = os.environ["OSS_ENDPOINT"], os.environ["OSS_REGION"], os.environ["OSS_BUCKET"]
KEY_ID, KEY_SECRET = os.environ["OSS_ACCESS_KEY_ID"], os.environ["OSS_ACCESS_KEY_SECRET"]
VERSION = os.environ["OSS_SIGNATURE"]
DATA = bytes(range(256)) * 1200
HALF = len(DATA) // 2
KEYS: list[str] = json.loads(Path(__file__).with_name("keys.json").read_text(encoding="utf-8"))
CONTROL_KEYS = [f"control-{number:02}-{chr(number)}" for number in range(1, 32)]


def run_steps(name: str, steps: dict[str, Callable[[], None]]) -> None:
    """Run all steps, even if one fails, and exit."""
    failed = 0
    for title, step in steps.items():
        try:
            step()
        except Exception:
            failed += 1
            print(f"{name} {VERSION}: {title}\n{traceback.format_exc()}")
    print(f"{name} {VERSION}: {len(steps) - failed} of {len(steps)} steps")
    sys.exit(1 if failed else 0)


def steps_of(module: dict[str, object]) -> dict[str, Callable[[], None]]:
    """Return the functions of a program whose names begin with `step_`, in order."""
    return {name.removeprefix("step_"): step for name, step in module.items() if name.startswith("step_")}  # type: ignore[misc]
