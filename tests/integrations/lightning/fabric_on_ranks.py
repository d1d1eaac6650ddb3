"""Program of test_sharded.py, for each rank: Fabric saves a spread model in OSS, and loads it into another one."""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

import torch
from lightning.fabric import Fabric
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard

from osstorchconnector.integrations.lightning import OssCheckpointIO, OssFabricModelParallelStrategy


def spread(model: Any, mesh: Any) -> Any:
    fully_shard(model, mesh=mesh["data_parallel"])
    return model


def whole(model: Any) -> dict[str, Any]:
    return get_model_state_dict(model.module, options=StateDictOptions(full_state_dict=True))


def trained(fabric: Any, steps: int) -> tuple[Any, Any]:
    model = fabric.setup_module(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2)))
    optimizer = fabric.setup_optimizers(torch.optim.AdamW(model.parameters(), lr=0.05))
    for _ in range(steps):
        fabric.backward(model(torch.ones(3, 8)).square().mean())
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def check(strategy: Any) -> None:
    path = JOB["uri"] + "run/last.ckpt"
    fabric = Fabric(accelerator="cpu", devices=2, strategy=strategy, plugins=[OssCheckpointIO(**JOB["options"])])
    fabric.launch()
    model, optimizer = trained(fabric, 3)
    fabric.save(path, {"model": model, "optimizer": optimizer, "step": 3, "more": [1]})
    saved = whole(model)
    other, its_optimizer = trained(fabric, 1)
    state = {"model": other, "optimizer": its_optimizer, "step": 0}
    assert fabric.load(path, state) == {"more": [1]}
    assert state["step"] == 3
    found = whole(other)
    assert all(torch.equal(found[key], saved[key]) for key in saved)
    if fabric.global_rank == 0:
        print("rank 0 went on", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    JOB = json.loads(os.environ["JOB"])
    check(OssFabricModelParallelStrategy(spread, data_parallel_size=2, tensor_parallel_size=1))
