"""Programs for several ranks: a model under FSDP2, tensor parallel and both, saved in one way, loaded in another."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from dcp.ranks import Place
from dcp.states import differences
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

PLAN = {"0": ColwiseParallel(), "2": RowwiseParallel()}
SPREADS = ("FSDP2", "tensor parallel", "FSDP2 and tensor parallel", "on one rank")


def model_and_optimizer(spread: str) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """Return a model that has begun to train, its weights spread over 4 ranks; sizes do not divide evenly by FSDP2."""
    torch.manual_seed(3)
    model: torch.nn.Module = torch.nn.Sequential(torch.nn.Linear(13, 20), torch.nn.ReLU(), torch.nn.Linear(20, 5))
    if spread == "FSDP2":
        fully_shard(model, mesh=init_device_mesh("cpu", (4,)))
    elif spread == "tensor parallel":
        model = parallelize_module(model, init_device_mesh("cpu", (4,)), PLAN)
    elif spread == "FSDP2 and tensor parallel":
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))
        model = parallelize_module(model, mesh["tensor"], PLAN)
        fully_shard(model, mesh=mesh["data"])
    return model, torch.optim.AdamW(model.parameters(), lr=0.1, foreach=False)


def trained(spread: str, steps: int) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    model, optimizer = model_and_optimizer(spread)
    for _ in range(steps):
        model(torch.ones(2, 13)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def state_of(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return dict(zip(("model", "optimizer"), get_state_dict(model, optimizer), strict=True))


def whole(state: Any) -> Any:
    """Return a state with all of its tensors on every rank."""
    if isinstance(state, dict):
        return {key: whole(value) for key, value in state.items()}
    return state.full_tensor() if isinstance(state, DTensor) else state


def every_parallelism(place: Place) -> None:
    """What a model saved, spread in one way, goes on from, spread in each other."""
    expected = {}
    for spread in SPREADS:
        state = state_of(*trained(spread, 2))
        expected[spread] = whole(state)
        dcp.save(state, storage_writer=place.fs.writer(place.uri + spread))
    for spread in SPREADS:
        for saved in SPREADS:
            model, optimizer = trained(spread, 1)
            state = state_of(model, optimizer)
            dcp.load(state, storage_reader=place.fs.reader(place.uri + saved))
            set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
            found = whole(state_of(model, optimizer))
            assert differences(expected[saved], found) == [], (saved, spread)
        dist.barrier()


def save_for_ever(place: Place) -> None:
    """Save numbers, one after the other, under one id; all of a checkpoint is the same number."""
    mesh, writer = init_device_mesh("cpu", (dist.get_world_size(),)), place.fs.writer(place.uri + "ckpt")
    number = 0
    while True:
        number += 1
        spread = DTensor.from_local(torch.full((1000, 7), float(number)), mesh, [Shard(0)])
        own = torch.full((3,), float(number))
        dcp.save({"spread": spread, f"of rank {dist.get_rank()}": own, "number": number}, storage_writer=writer)
