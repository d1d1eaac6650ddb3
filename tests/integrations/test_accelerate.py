"""Accelerate: states in OSS, by way of a folder on the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from osstorchconnector.integrations.accelerate import load_state, save_state
from osstorchconnector.integrations.folders import CheckpointFolders
from osstorchconnector.testing import OssBucket

accelerate = pytest.importorskip("accelerate")


@pytest.fixture
def parts() -> tuple[Any, Any]:
    accelerator = accelerate.Accelerator(cpu=True)
    model = torch.nn.Linear(4, 2)
    return accelerator, accelerator.prepare(model, torch.optim.AdamW(model.parameters()))


def test_a_state_goes_there_and_comes_back(oss_bucket: OssBucket, tmp_path: Path, parts: tuple[Any, Any]) -> None:
    accelerator, (model, optimizer) = parts
    folders = CheckpointFolders(oss_bucket.uri + "run", **oss_bucket.options)
    assert load_state(accelerator, folders, tmp_path / "there") is None
    for step in range(2):
        accelerator.backward(model(torch.ones(3, 4)).square().mean())
        optimizer.step()
        save_state(accelerator, folders, tmp_path / "here", f"step-{step}")
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        model.weight.zero_()
    assert load_state(accelerator, folders, tmp_path / "there") == "step-1"
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert load_state(accelerator, folders, tmp_path / "there", "step-0") == "step-0"
    assert not torch.equal(model.weight, saved["weight"])
