"""How the file beside this one was made: by `OssSafetensor.save_file` of the C++ connector 1.2.3, on the emulator.

    make bench-quick WORKS=st-save                   # makes .venv-peers, and a name for the bucket in /etc/hosts
    .venv/bin/python tests/safetensors/cxx_connector/recipe.py

It is made again in this folder, with the same bytes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

FILE = Path(__file__).with_name("cxx.safetensors")
PEERS = FILE.parents[3] / ".venv-peers/bin/python"
HOST, BUCKET = "oss-local.test", "bench"
METADATA = {"format": "pt", "note": "ü"}
TRANSFER = {"prefetchConcurrency": 24, "prefetchWorker": 4, "uploadConcurrency": 64}


def tensors() -> dict[str, torch.Tensor]:
    """Return what was saved. A byte comes first: what stands behind it begins anywhere."""
    return {
        "bytes": torch.arange(7, dtype=torch.uint8),
        "float": torch.arange(60.0).reshape(6, 10),
        "a bfloat16": torch.arange(5).to(torch.bfloat16),
        "bool": torch.tensor([True, False, True]),
        "float8": torch.arange(9).to(torch.float8_e4m3fn),
        "no elements": torch.empty(0, 4),
        "no dimensions": torch.tensor(3.5),
        "int64": torch.arange(20)[5:9],
    }


def save(access: dict[str, str]) -> None:
    """Save by the C++ connector: what `osstorchconnector` is for the interpreter of the peers."""
    from osstorchconnector import OssSafetensor

    OssSafetensor(**access).save_file(tensors(), f"oss://{BUCKET}/{FILE.name}", METADATA)


def main() -> None:
    from osstorchconnector import emulator

    with emulator.serve(buckets=[BUCKET], domains=[HOST]) as oss, tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.json")
        logs = {"logLevel": 2, "logPath": f"{folder}/connector.log", "auditPath": f"{folder}/audit.log"}
        config.write_text(json.dumps({**logs, "datasetConfig": TRANSFER, "checkpointConfig": TRANSFER}))
        access = {"cred_path": oss.credentials_file(folder), "config_path": str(config), "region": oss.region}
        access["endpoint"] = f"http://{HOST}:{oss.port}"
        subprocess.run([PEERS, "-P", __file__, json.dumps(access)], check=True)
        FILE.write_bytes(oss.get(BUCKET, FILE.name))


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        save(json.loads(sys.argv[1]))
