"""Programs for several ranks, each a process of its own with gloo between them."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing
from dcp.states import differences
from torch.distributed._shard.sharded_tensor import Shard as TensorShard
from torch.distributed._shard.sharded_tensor import init_from_local_shards
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import Replicate, Shard, distribute_tensor

from osstorchconnector.dcp import OssCheckpointManager, OssDCPFileSystem, RoundRobinPrefixes


class Place(NamedTuple):
    """Where the ranks' checkpoints go: the bucket's URI, and the options that lead there."""

    uri: str
    options: dict[str, str]

    @property
    def fs(self) -> OssDCPFileSystem:
        return OssDCPFileSystem(**self.options)


def run_ranks(count: int, program: Callable[[Place], None], place: Place, folder: Path) -> None:
    """Run `program` on so many ranks; raises if it raises on one of them."""
    context = start_ranks(count, program, place, folder)
    while not context.join():
        pass


def start_ranks(count: int, program: Callable[[Place], None], place: Place, folder: Path) -> Any:
    """Start `program` on so many ranks; the context that is returned knows their processes."""
    arguments = (count, program, place, str(folder / "rendezvous"))
    return torch.multiprocessing.start_processes(_run, arguments, nprocs=count, join=False, start_method="forkserver")


def _run(rank: int, count: int, program: Callable[[Place], None], place: Place, file: str) -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", RANK=str(rank), WORLD_SIZE=str(count), LOCAL_RANK=str(rank))
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=count)
    try:
        program(place)
    finally:
        dist.destroy_process_group()


# --- resharding

WHOLE = {
    "even": torch.arange(48.0).reshape(8, 6),
    "uneven": torch.arange(70.0).reshape(10, 7),
    "fewer rows than ranks": torch.arange(6.0).reshape(3, 2),
    "large": torch.arange(1_500_000.0).reshape(1500, 1000),
}
KINDS = ((Shard(0),), (Shard(1),), (Replicate(),))


def distributed(mesh: DeviceMesh, placements: Any, *, is_blank: bool) -> dict[str, Any]:
    whole = {key: torch.zeros_like(value) if is_blank else value for key, value in WHOLE.items()}
    return {key: distribute_tensor(value, mesh, placements) for key, value in whole.items()}


def meshes() -> Iterator[tuple[str, DeviceMesh, Any]]:
    """Yield a mesh over the first ranks, a group of these, and how to spread tensors over it, for many of them."""
    for count in (4, 3, 2, 1):
        mesh = DeviceMesh("cpu", list(range(count)))
        for placements in KINDS:
            yield f"{count} ranks, {placements}", mesh, placements
    yield "2 by 2", init_device_mesh("cpu", (2, 2)), (Shard(0), Shard(1))


def reshard(place: Place) -> None:
    """What 4, 2 ranks and 1 saved loads on 4, 3, 2 and 1, spread in every way over them, and on a 2-D mesh."""
    fs = place.fs
    one, two, all_ranks = (DeviceMesh("cpu", list(range(count))) for count in (1, 2, 4))
    square = init_device_mesh("cpu", (2, 2))
    sources = {
        "rows": (all_ranks, (Shard(0),)),
        "columns": (all_ranks, (Shard(1),)),
        "square": (square, (Shard(0), Shard(1))),
        "two": (two, (Shard(0),)),
        "one": (one, (Shard(0),)),
    }
    for name, (mesh, placements) in sources.items():
        writer = fs.writer(place.uri + name, prefix_strategy=RoundRobinPrefixes(["a", "b"]))
        if dist.get_rank() < mesh.size():
            group = mesh.get_group() if mesh.ndim == 1 else None
            dcp.save(distributed(mesh, placements, is_blank=False), storage_writer=writer, process_group=group)
    dist.barrier()
    for what, mesh, placements in meshes():
        if dist.get_rank() < mesh.size():
            group = mesh.get_group() if mesh.ndim == 1 else None
            for name in sources:
                target = distributed(mesh, placements, is_blank=True)
                dcp.load(target, storage_reader=fs.reader(place.uri + name), process_group=group)
                expected = distributed(mesh, placements, is_blank=False)
                local = {key: value.to_local() for key, value in target.items()}
                assert differences({key: value.to_local() for key, value in expected.items()}, local) == [], (
                    what,
                    name,
                )
        dist.barrier()


def load_alone(place: Place) -> None:
    """Each rank loads whole tensors for itself, without collectives."""
    target = {key: torch.zeros_like(value) for key, value in WHOLE.items()}
    dcp.load(target, storage_reader=place.fs.reader(place.uri + "square"), no_dist=True)
    assert differences(WHOLE, target) == []


def sharded_tensors(place: Place) -> None:
    """The older kind of spread tensor, and a tensor that all ranks have: that is stored once."""
    rank, fs = dist.get_rank(), place.fs

    def state(number: float) -> dict[str, Any]:
        shard = TensorShard.from_tensor_and_offsets(torch.full((2, 3), float(number + rank)), [2 * rank, 0], rank)
        return {"sharded": init_from_local_shards([shard], (8, 3)), "replicated": torch.full((1000,), float(number))}

    dcp.save(state(10), storage_writer=fs.writer(place.uri + "sharded"))
    target = state(0)
    dcp.load(target, storage_reader=fs.reader(place.uri + "sharded"))
    assert differences(target["sharded"].local_shards()[0].tensor, torch.full((2, 3), 10.0 + rank)) == []
    assert differences(target["replicated"], torch.full((1000,), 10.0)) == []


def every_way_to_spread(place: Place) -> None:
    for program in (reshard, load_alone, sharded_tensors):
        program(place)


# --- when things go wrong, and without collectives


def one_rank_fails(place: Place) -> None:
    """Rank 2 may not write; the test's server sees to that. All ranks learn who, what and why."""
    rank, fs = dist.get_rank(), place.fs
    state = {f"weight {rank}": torch.full((10,), float(rank))}
    writer = fs.writer(place.uri + "failing")
    with pytest.raises(CheckpointException, match=r"(?s)RANK 2.*failing/__2_0\..*AccessDenied") as caught:
        dcp.save(state, storage_writer=writer)
    assert list(caught.value.failures) == [2]
    dist.barrier()
    writer.reset(place.uri + "next")
    dist.barrier()
    assert list(fs.client.list(place.uri + "failing/")) == []


def one_rank_cant_read(place: Place) -> None:
    """Rank 1's file is damaged: all ranks learn which, whoever reads it."""
    rank, fs = dist.get_rank(), place.fs
    state = {f"weight {rank}": torch.full((10,), float(rank))}
    dcp.save(state, storage_writer=fs.writer(place.uri + "damaged"))
    if rank == 1:
        (file,) = (found.key for found in fs.client.list(place.uri + "damaged/") if "__1_0" in found.key)
        damaged = bytearray(fs.client.get(f"oss://{place.uri[6:-1]}/{file}").body)
        damaged[710] ^= 1
        fs.client.put(f"oss://{place.uri[6:-1]}/{file}", damaged)
    dist.barrier()
    with pytest.raises(CheckpointException, match=r"(?s)RANK 1.*damaged/__1_0.*CRC-32"):
        dcp.load(state, storage_reader=fs.reader(place.uri + "damaged"))


def without_collectives(place: Place) -> None:
    """Each rank has metadata of its own."""
    rank, fs = dist.get_rank(), place.fs
    state = {"weight": torch.full((10,), float(rank))}
    dcp.save(state, storage_writer=fs.writer(place.uri + "alone"), use_collectives=False)
    target = {"weight": torch.zeros(10)}
    dcp.load(target, storage_reader=fs.reader(place.uri + "alone"))
    assert differences(state, target) == []


def manager_on_many_ranks(place: Place) -> None:
    """Two saves in flight, old ones removed, all ranks load the same step."""
    mesh = DeviceMesh("cpu", list(range(dist.get_world_size())))
    manager = OssCheckpointManager(place.fs, place.uri + "run", keep=2, in_flight=2)
    weight = distribute_tensor(torch.zeros(10, 3), mesh, [Shard(0)])
    for step in range(1, 6):
        weight.to_local().fill_(step)
        manager.async_save(step, {"weight": weight})
    manager.close()
    dist.barrier()
    assert manager.steps() == [4, 5]
    assert manager.load({"weight": weight}, 4) == 4
    assert (weight.to_local() == 4).all()
    assert manager.load({"weight": weight}) == 5
    assert (weight.to_local() == 5).all()
    manager.save(3, {"weight": weight})  # going back
    dist.barrier()
    assert manager.load({"weight": weight}) == 3
    assert manager.steps() == [3, 5]


def trouble(place: Place) -> None:
    for program in (one_rank_fails, one_rank_cant_read, without_collectives, manager_on_many_ranks):
        program(place)


# --- saving in another process


def save_from_another_process(place: Place) -> None:
    writer = place.fs.writer(place.uri + "process")
    weights = torch.arange(1000.0)
    for step in range(2):
        future = dcp.async_save(
            {"weight": weights, "step": step},
            checkpoint_id=f"{place.uri}process/{step}",
            storage_writer=writer,
            async_checkpointer_type=AsyncCheckpointerType.PROCESS,
        )
        weights.zero_()
        future.result()
    target = {"weight": torch.ones(1000), "step": None}
    dcp.load(target, storage_reader=place.fs.reader(place.uri + "process/0"))
    assert differences({"weight": torch.arange(1000.0), "step": 0}, target) == []
