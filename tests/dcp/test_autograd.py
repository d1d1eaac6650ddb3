"""Autograd learns what a load has changed, as it does with `copy_`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from dcp.conftest import download, names
from torch.distributed.checkpoint import FileSystemReader

from osstorchconnector.dcp import OssDCPFileSystem
from osstorchconnector.testing import OssBucket

LARGE, SMALL = (300, 300), (3, 3)  # its bytes land where they belong; they are copied

# What a model may hold: the tensor that a load fills, and the one that the model computes with.
TARGETS: dict[str, Callable[[tuple[int, int]], tuple[torch.Tensor, torch.Tensor]]] = {
    "plain": lambda shape: (weight := torch.ones(shape), weight),
    "parameter": lambda shape: (weight := torch.nn.Parameter(torch.ones(shape)), weight),
    "detached": lambda shape: ((weight := torch.nn.Parameter(torch.ones(shape))).detach(), weight),
    "part": lambda shape: ((base := torch.ones(2, *shape))[1], base),
    "transposed": lambda shape: (weight := torch.ones(shape).t(), weight),
    "other dtype": lambda shape: (weight := torch.ones(shape, dtype=torch.float64), weight),
}


@pytest.mark.parametrize("shape", [LARGE, SMALL], ids=["large", "small"])
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("whose", ["torch's", "ours"])
def test_a_backward_pass_over_values_from_before_a_load_is_an_error(
    whose: str, kind: str, shape: tuple[int, int], fs: OssDCPFileSystem, oss_bucket: OssBucket, tmp_path: Path
) -> None:
    uri = oss_bucket.uri + "ckpt"
    dcp.save({"weight": torch.full(shape, 5.0)}, storage_writer=fs.writer(uri))
    target, used = TARGETS[kind](shape)
    graph = (torch.ones_like(used, requires_grad=True) * used).sum()
    state: dict[str, Any] = {"weight": target}
    reader = fs.reader(uri) if whose == "ours" else FileSystemReader(download(oss_bucket, "ckpt/", tmp_path))
    dcp.load(state, storage_reader=reader)
    assert torch.equal(state["weight"].detach().float(), torch.full(shape, 5.0))
    assert state["weight"] is target
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        graph.backward()


def test_a_load_that_fails_half_way_has_changed_what_it_touched(fs: OssDCPFileSystem, oss_bucket: OssBucket) -> None:
    uri = oss_bucket.uri + "ckpt"
    dcp.save({"weight": torch.full(LARGE, 5.0)}, storage_writer=fs.writer(uri))
    (key,) = names(oss_bucket, ".distcp")
    damaged = bytearray(oss_bucket.get(key))
    damaged[len(damaged) // 2] ^= 1
    oss_bucket.put(key, bytes(damaged))
    weight = torch.ones(LARGE)
    graph = (torch.ones_like(weight, requires_grad=True) * weight).sum()
    with pytest.raises(dcp.api.CheckpointException, match="CRC-32"):
        dcp.load({"weight": weight}, storage_reader=fs.reader(uri))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        graph.backward()
