"""FSDP2 on several ranks, with checkpoints in OSS and resuming: `python examples/dcp_fsdp.py`.

The program starts the ranks with torchrun, twice. The second time they resume where the first run ended. On a cluster,
leave out `launch` and start `train` with torchrun and your own bucket's URI.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings

import torch
import torch.distributed as dist
from playground import playground
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard

from osstorchconnector import OssCheckpointManager

RANKS = 2


def launch() -> None:
    """Start the training, and start it again."""
    with playground("dcp-fsdp") as oss:
        job = json.dumps({"uri": oss.uri + "run", "options": oss.options})
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"]
        environment = {**os.environ, "JOB": job, "OMP_NUM_THREADS": "1"}
        for last_step in ("3", "5"):
            subprocess.run([*torchrun, __file__, last_step], check=True, env=environment)


def train(last_step: int) -> None:
    """Resume from the newest checkpoint and train up to a step."""
    job = json.loads(os.environ["JOB"])
    manager = OssCheckpointManager(job["uri"], keep=2, **job["options"])
    model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 8))
    fully_shard(model, mesh=dist.init_device_mesh("cpu", (RANKS,)))
    optimizer = torch.optim.AdamW(model.parameters())

    model_state, optimizer_state = get_state_dict(model, optimizer)
    state = {"model": model_state, "optimizer": optimizer_state}
    begun_at = manager.load(state) or 0
    set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])

    for step in range(begun_at + 1, last_step + 1):
        model(torch.randn(4, 64)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        model_state, optimizer_state = get_state_dict(model, optimizer)
        manager.save(step, {"model": model_state, "optimizer": optimizer_state})
    if dist.get_rank() == 0:
        print(f"from step {begun_at} to {last_step}, kept: {manager.steps()}", flush=True)


def main() -> None:
    if "RANK" not in os.environ:
        launch()
        return
    warnings.filterwarnings("ignore", message=".*(barrier|device_id).*")
    dist.init_process_group("gloo")
    train(int(sys.argv[1]))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
