"""Program of test_sharded.py, for each rank: a Trainer saves a spread model in OSS, and another one goes on from it."""

from __future__ import annotations

import json
import os
import warnings
from typing import Any

import fsspec
import fsspec.config
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader

from osstorchconnector import OssFileSystem
from osstorchconnector.integrations.lightning import OssCheckpointIO, OssModelParallelStrategy

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


class Squares(LightningModule):
    """Two layers, spread with FSDP2."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2))
        self.seen: dict[str, Any] = {}

    def configure_model(self) -> None:
        fully_shard(self.layers, mesh=self.device_mesh["data_parallel"])

    def on_train_start(self) -> None:
        self.seen = whole(self.trainer)

    def training_step(self, batch: torch.Tensor, number: int) -> torch.Tensor:
        return self.layers(batch).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.trainer.model.parameters(), lr=0.05)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(torch.linspace(0, 1, 64).reshape(8, 8), batch_size=2)  # type: ignore[arg-type]


def whole(trainer: Any) -> dict[str, Any]:
    return get_model_state_dict(trainer.strategy.model, options=StateDictOptions(full_state_dict=True))


def fitted(folder: str, epochs: int, path: str | None = None, kind: Any = OssModelParallelStrategy) -> Any:
    strategy = kind(data_parallel_size=2, tensor_parallel_size=1)
    saver = ModelCheckpoint(folder, save_last=True, enable_version_counter=False)
    plugins = [OssCheckpointIO(**JOB["options"])]
    trainer = Trainer(**QUIET, devices=2, strategy=strategy, plugins=plugins, callbacks=[saver], max_epochs=epochs)
    model = Squares()
    trainer.fit(model, ckpt_path=path)
    return trainer, model


def check() -> None:
    folder = JOB["uri"] + "run"
    first, _ = fitted(folder, 1)
    saved = whole(first)
    second, model = fitted(folder, 2, folder + "/last.ckpt")
    assert second.global_step == 2 * first.global_step and second.current_epoch == 2
    assert all(torch.equal(model.seen[key], saved[key]) for key in saved)
    assert not all(torch.equal(whole(second)[key], saved[key]) for key in saved)

    # A copy on a disk is a checkpoint of Lightning's own strategy.
    copied = os.environ["COPIED"]
    if second.is_global_zero:
        OssFileSystem(**JOB["options"]).get(folder + "/last.ckpt/", copied + "/last.ckpt/", recursive=True)
    second.strategy.barrier()
    third, model = fitted(copied, 3, copied + "/last.ckpt", ModelParallelStrategy)
    assert third.global_step == 3 * first.global_step
    assert all(torch.equal(model.seen[key], whole(second)[key]) for key in saved)
    if third.is_global_zero:
        print("rank 0 went on", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    JOB = json.loads(os.environ["JOB"])
    fsspec.config.conf["oss"] = JOB["options"]  # ModelCheckpoint looks into the folder
    fsspec.register_implementation("oss", OssFileSystem, clobber=True)
    check()
