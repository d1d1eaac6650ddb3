"""`python -m interop`: run every SDK that can be installed; exit with 0 unless a step of one fails."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from osstorchconnector import emulator

HERE = Path(__file__).parent
STORE = HERE.parent / "build" / "interop"
OSS_V2 = "alibabacloud-oss-v2==1.4.1"
ALI_OSS = "ali-oss@6.23.0"
PREPARE_SECONDS = 300
RUN_SECONDS = 300
VERSIONS = ("v1", "v4")


class NotAvailableError(Exception):
    """An SDK can't be installed here."""


class Sdk(NamedTuple):
    """An SDK; `prepare` returns the command that runs its program, and its environment variables."""

    name: str
    prepare: Callable[[], tuple[Sequence[str], Mapping[str, str]]]


def prepare_oss2() -> tuple[Sequence[str], Mapping[str, str]]:
    return [sys.executable, str(HERE / "with_oss2.py")], {}


def prepare_oss_v2() -> tuple[Sequence[str], Mapping[str, str]]:
    """Install it outside the environment: its crcmod-plus and oss2's crcmod have files of the same names."""
    folder = STORE / "python"
    if not (folder / "alibabacloud_oss_v2").is_dir():
        if importlib.util.find_spec("pip") is None:
            raise NotAvailableError("there is no pip")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        fetch([*pip, "--retries", "1", "--target", str(folder), OSS_V2], STORE)
    return [sys.executable, str(HERE / "with_oss_v2.py")], {"PYTHONPATH": str(folder)}


def prepare_ali_oss() -> tuple[Sequence[str], Mapping[str, str]]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise NotAvailableError("there is no node")
    folder = STORE / "node"
    if not (folder / "node_modules" / "ali-oss").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
        fetch([npm, "install", "--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=1", ALI_OSS], folder)
    return [node, str(HERE / "with_ali_oss.cjs")], {"NODE_PATH": str(folder / "node_modules")}


SDKS = (Sdk("oss2", prepare_oss2), Sdk("alibabacloud-oss-v2", prepare_oss_v2), Sdk("ali-oss", prepare_ali_oss))


def fetch(command: Sequence[str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PREPARE_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotAvailableError(str(error)) from error
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if "error" in line.lower()]
        raise NotAvailableError(f"{Path(command[0]).name} could not install it: {said[0] if said else done.returncode}")


def run(sdk: Sdk, command: Sequence[str], more: Mapping[str, str], version: str) -> bool:
    """Run one program on a server of its own; return whether all its steps succeeded."""
    bucket = f"interop-{version}"
    with emulator.serve(buckets=[bucket]) as oss:
        told = {
            "OSS_ENDPOINT": oss.endpoint,
            "OSS_REGION": oss.region,
            "OSS_BUCKET": bucket,
            "OSS_SIGNATURE": version,
            "OSS_ACCESS_KEY_ID": oss.credentials.access_key_id,
            "OSS_ACCESS_KEY_SECRET": oss.credentials.access_key_secret,
        }
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        done = subprocess.run(command, env={**environment, **more, **told}, timeout=RUN_SECONDS, check=False)
    if done.returncode:
        print(f"{sdk.name} {version}: failed")
    return done.returncode == 0


def main() -> int:
    went_well = True
    for sdk in SDKS:
        try:
            command, more = sdk.prepare()
        except NotAvailableError as reason:
            print(f"{sdk.name}: not run: {reason}")
            continue
        for version in VERSIONS:
            went_well = run(sdk, command, more, version) and went_well
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.exit(main())
