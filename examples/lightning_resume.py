"""Lightning with checkpoints in OSS: train, and go on from the last checkpoint with a new Trainer."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import fsspec.config
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from playground import Playground, playground
from torch.utils.data import DataLoader

from osstorchconnector.integrations.lightning import OssAsyncCheckpointIO

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


class Line(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, number: int) -> torch.Tensor:
        loss = (self.layer(batch) - 2 * batch).square().mean()
        self.log("loss", loss, on_epoch=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(oss: Playground, epochs: int, go_on_from: str | None = None) -> None:
    saver = ModelCheckpoint(dirpath=oss.uri + "run", filename="{epoch}", monitor="loss", save_top_k=2, save_last=True)
    plugin = OssAsyncCheckpointIO(**oss.options)  # OssCheckpointIO waits until a checkpoint is stored
    trainer = Trainer(max_epochs=epochs, callbacks=[saver], plugins=[plugin], devices=1, **QUIET)
    data: Any = DataLoader(torch.linspace(0, 1, 64).reshape(64, 1), batch_size=8)
    trainer.fit(Line(), data, ckpt_path=go_on_from)
    print(f"up to epoch {trainer.current_epoch}, step {trainer.global_step}")


def main() -> None:
    warnings.simplefilter("ignore")  # Lightning's hints for larger jobs
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with playground("lightning") as oss:
        # ModelCheckpoint itself looks into the folder through fsspec. OSS_ENDPOINT and so on would do as well.
        fsspec.config.conf["oss"] = oss.options
        train(oss, 3)
        train(oss, 5, go_on_from=oss.uri + "run/last.ckpt")


if __name__ == "__main__":
    main()
