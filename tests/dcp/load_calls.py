"""How many calls one load makes: `python load_calls.py OPTIONS URI TENSORS`, in a process in which no thread runs yet.

Counted are the calls of the package's own functions and those that these make, in all threads: of Python and of C.
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.distributed import checkpoint as dcp

import osstorchconnector
from osstorchconnector.client.client import OssClient
from osstorchconnector.dcp import OssDCPFileSystem

PACKAGE = str(Path(osstorchconnector.__file__).parent)
SHAPE = (256, 64)  # 64 KiB


def small_state(tensors: int) -> dict[str, torch.Tensor]:
    return {f"layers.{number}.weight": torch.full(SHAPE, float(number)) for number in range(tensors)}


def calls_of_load(fs: OssDCPFileSystem, uri: str, target: dict[str, torch.Tensor]) -> Counter[str]:
    """Load a checkpoint, and return how many calls of "python" and "c" functions that took."""
    calls: Counter[str] = Counter()

    def is_ours(frame: FrameType | None) -> bool:
        return frame is not None and frame.f_code.co_filename.startswith(PACKAGE)

    def count(frame: FrameType, event: str, _argument: Any) -> None:
        if event == "call":
            # A named tuple's and a dataclass's methods have no file; they count for who calls them.
            calls["python"] += is_ours(frame) or (frame.f_code.co_filename == "<string>" and is_ours(frame.f_back))
        elif event == "c_call":
            calls["c"] += is_ours(frame)

    reader = fs.reader(uri)
    threading.setprofile(count)
    sys.setprofile(count)
    try:
        dcp.load(target, storage_reader=reader)
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return calls


def main(options: str, uri: str, tensors: str) -> None:
    state = small_state(int(tensors))
    target = {name: torch.zeros(SHAPE) for name in state}
    calls = calls_of_load(OssDCPFileSystem(OssClient(**json.loads(options))), uri, target)
    assert all(torch.equal(target[name], tensor) for name, tensor in state.items())
    print(json.dumps(calls))


if __name__ == "__main__":
    main(*sys.argv[1:])
