"""Which modules of the package a key and a tensor enter: `python tests/flows.py` counts them, `--names` lists them.

A module is entered when one of its functions is called. The calls are followed, in all threads, from what a user
writes to the bytes in the user's hands. Each flow has a process of its own, in which nothing is open yet.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.distributed import checkpoint as dcp

import osstorchconnector
from osstorchconnector import OssDCPFileSystem, OssIterableDataset, emulator

PACKAGE = Path(osstorchconnector.__file__).parent
BUCKET = "flows"
STATE = {f"layer{number}": torch.arange(1000.0) for number in range(5)}


def key(endpoint: str, access: dict[str, Any]) -> None:
    """Read objects of a prefix."""
    for item in OssIterableDataset.from_prefix(f"oss://{BUCKET}/photos/", endpoint, **access):
        item.read()


def save(endpoint: str, access: dict[str, Any]) -> None:
    """Save tensors as a distributed checkpoint."""
    dcp.save(STATE, storage_writer=OssDCPFileSystem(endpoint, **access).writer(f"oss://{BUCKET}/run/"))


def load(endpoint: str, access: dict[str, Any]) -> None:
    """Load them."""
    dcp.load(STATE, storage_reader=OssDCPFileSystem(endpoint, **access).reader(f"oss://{BUCKET}/run/"))


FLOWS = {"key": key, "save": save, "load": load}


def entered(flow: Callable[[], object]) -> list[str]:
    """Return the modules that `flow` enters (`client.sender`), in the order of their first call."""
    seen: dict[str, None] = {}

    def note(frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_flags & inspect.CO_NEWLOCALS:  # a function, and not a module or a class body
            seen.setdefault(code.co_filename)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        flow()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    inside = [Path(file).relative_to(PACKAGE) for file in seen if file.startswith(f"{PACKAGE}/")]
    return [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in inside]


def flows() -> dict[str, list[str]]:
    """Return the modules that each flow enters, in the order of their first call."""
    found = {}
    with emulator.serve(buckets=[BUCKET]) as oss, tempfile.TemporaryDirectory() as folder:
        oss.fill(BUCKET, "photos/{}", 20, b"pixels")
        config = Path(folder, "config.json")
        config.write_text(json.dumps({"logPath": f"{folder}/log", "auditPath": f"{folder}/audit"}))
        access = {"cred_path": oss.credentials_file(folder), "config_path": str(config), "region": oss.region}
        arguments = [oss.endpoint, json.dumps(access)]
        for name in FLOWS:
            command = [sys.executable, "-W", "ignore", __file__, "--one", name, *arguments]
            found[name] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return found


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--one"]:
        name, endpoint, access = arguments[1:]
        print(json.dumps(entered(lambda: FLOWS[name](endpoint, json.loads(access)))))
        return
    for name, modules in flows().items():
        print(f"{name}: {len(modules)} modules")
        if "--names" in arguments:
            print("".join(f"  {module}\n" for module in modules), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
