"""What a small tensor costs in a load: calls, which hardly differ between machines."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import torch.distributed.checkpoint as dcp
from dcp.load_calls import small_state

from osstorchconnector.dcp import OssDCPFileSystem
from osstorchconnector.testing import OssBucket

PROGRAM = Path(__file__).with_name("load_calls.py")


def test_a_small_tensor_takes_few_calls(fs: OssDCPFileSystem, oss_bucket: OssBucket, tmp_path: Path) -> None:
    # A fixed number of requests: on a busy machine, OSS could seem far, and many requests are made for few bytes.
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"logPath": "", "auditPath": "", "checkpointConfig": {"prefetchConcurrency": 24}}))
    options = json.dumps({**oss_bucket.options, "config_path": str(config)})
    counted = []
    for tensors in (400, 1200):
        uri = f"{oss_bucket.uri}{tensors}"
        dcp.save(small_state(tensors), storage_writer=fs.writer(uri))
        command = [sys.executable, "-W", "ignore", str(PROGRAM), options, uri]
        ran = subprocess.run([*command, str(tensors)], check=True, capture_output=True, text=True)
        counted.append(Counter(json.loads(ran.stdout)))
    few, many = counted
    calls = {kind: (many[kind] - few[kind]) / 800 for kind in many}
    assert calls["python"] < 38, calls
    assert calls["c"] < 38, calls
