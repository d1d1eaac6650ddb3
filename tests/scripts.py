"""Programs run as a user would start them: an interpreter of their own, warnings as errors."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from osstorchconnector.config import CONFIG_VARIABLE

ROOT = Path(__file__).parents[1]
# For tests that write a config file of their own: otherwise it logs where this machine does.
NO_LOGS = {"logPath": "", "auditPath": ""}
ALLOWED_WARNINGS = (
    "ignore:This DataLoader will create",  # more workers than the machine has cores
    "ignore:This process",  # forks where threads run, from Python 3.12 on
)
# What torch 2.10 prints for each rank: lines that run into each other.
_OF_GLOO = re.compile(r"^.*(?:\[Gloo\]|peer ranks).*\n(?:\d*\n)*", re.MULTILINE)


def run_python(
    *arguments: str | Path,
    folder: Path | None = None,
    path: Sequence[Path] = (),
    environment: dict[str, str] | None = None,
    seconds: float = 280,
) -> tuple[str, str]:
    """Run `python ARGUMENTS` in `folder`; return what it wrote to stdout (without Gloo's lines) and to stderr, or fail
    if it failed or took longer than `seconds`.

    The package, and the folders of `path` before it, can be imported. Of OSS's variables it sees only those in
    `environment`, and where the tests' config file is.
    """
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith("OSS_") or name == CONFIG_VARIABLE
    }
    allowed = [part for warning in ALLOWED_WARNINGS for part in ("-W", warning)]
    folders = [*map(str, path), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-W", "error", *allowed, *map(str, arguments)],
        check=False,
        cwd=folder,
        env={**clean, "PYTHONPATH": os.pathsep.join(folders), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return _OF_GLOO.sub("", done.stdout), done.stderr


def run_pytest(folder: Path) -> str:
    """Run pytest, with our plugin and no other, on the tests in `folder`; return what it prints."""
    arguments = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "osstorchconnector.testing"]
    return run_python(*arguments, folder=folder, environment={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"})[0]
