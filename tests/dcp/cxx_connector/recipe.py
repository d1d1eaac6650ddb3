"""How the checkpoint beside this file was made: by `dcp.save` of the C++ connector 1.2.3, on the emulator.

    make bench-quick WORKS=dcp-save                  # makes .venv-peers, and a name for the bucket in /etc/hosts
    .venv/bin/python tests/dcp/cxx_connector/recipe.py

It is made again in this folder; but for the id of the save the bytes stay the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp

FOLDER = Path(__file__).parent
PEERS = FOLDER.parents[2] / ".venv-peers/bin/python"
HOST, BUCKET = "oss-local.test", "bench"
TRANSFER = {"prefetchConcurrency": 24, "prefetchWorker": 4, "uploadConcurrency": 64}


def state() -> dict[str, Any]:
    """Return what was saved."""
    return {
        "float": torch.arange(60.0).reshape(6, 10),
        "transposed": torch.arange(60.0).reshape(6, 10).t(),
        "bfloat16": torch.arange(7).to(torch.bfloat16),
        "bool": torch.tensor([True, False, True]),
        "part of a storage": torch.arange(20)[5:9],
        "no elements": torch.empty(0, 4),
        "no dimensions": torch.tensor(3.5),
        "nested": {"list": [torch.ones(2), {"text": "text"}], "step": 7},
    }


def save(access: dict[str, str]) -> None:
    """Save by the C++ connector: what `osstorchconnector` is for the interpreter of the peers."""
    from osstorchconnector import OssDCPFileSystem

    writer = OssDCPFileSystem(**access).writer(f"oss://{BUCKET}/cxx/")
    dcp.save(state(), storage_writer=writer, no_dist=True)


def main() -> None:
    from osstorchconnector import OssClient, emulator

    with emulator.serve(buckets=[BUCKET], domains=[HOST]) as oss, tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.json")
        logs = {"logLevel": 2, "logPath": f"{folder}/connector.log", "auditPath": f"{folder}/audit.log"}
        config.write_text(json.dumps({**logs, "datasetConfig": TRANSFER, "checkpointConfig": TRANSFER}))
        access = {"cred_path": oss.credentials_file(folder), "config_path": str(config), "region": oss.region}
        endpoint = f"http://{HOST}:{oss.port}"
        subprocess.run([PEERS, "-P", __file__, json.dumps({"endpoint": endpoint, **access})], check=True)
        client = OssClient(endpoint=oss.endpoint, **access)
        for found in client.list(f"oss://{BUCKET}/cxx/"):
            (FOLDER / found.key.rpartition("/")[2]).write_bytes(client.get(f"oss://{BUCKET}/{found.key}").body)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        save(json.loads(sys.argv[1]))
