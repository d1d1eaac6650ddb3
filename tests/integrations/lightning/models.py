"""A small model and its trainer."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


class Squares(LightningModule):
    """Logs a number that grows, so that the last checkpoints are the best ones."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)

    def training_step(self, batch: torch.Tensor, number: int) -> torch.Tensor:
        loss = self.layer(batch).square().mean()
        self.log("epochs", float(self.current_epoch))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.05)

    def train_dataloader(self) -> DataLoader[Any]:
        data = torch.linspace(0, 1, 64).reshape(8, 8)
        return DataLoader(data, batch_size=2)  # type: ignore[arg-type]


def quiet_trainer(**settings: Any) -> Trainer:
    return Trainer(**{**QUIET, "devices": 1, **settings})
