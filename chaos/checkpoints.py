"""What the training job saves and loads, and its expected content; shared by the job and the test that starts it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed.checkpoint as dcp

from osstorchconnector import OssCheckpoint, OssClient
from osstorchconnector.dcp import OssStorageReader, OssStorageWriter

LAYERS, ELEMENTS = 6, 50_000


def weights(epoch: int, done: int) -> dict[str, torch.Tensor]:
    """Return the model after this many samples, which a checkpoint of that moment must equal bit by bit."""
    dice = torch.Generator().manual_seed(epoch * 1_000_000 + done)
    return {f"layer{number}": torch.randn(ELEMENTS, generator=dice) for number in range(LAYERS)}


def is_same(found: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


class Checkpoints:
    """The job's checkpoints: its whole state in one object, and sometimes the model by DCP too."""

    def __init__(self, uri: str, options: dict[str, Any]) -> None:
        self.uri, self._options = uri, options
        self._checkpoint = OssCheckpoint(**options)

    def save(self, epoch: int, done: int, loader: object) -> str:
        """Save the state, and check that it can be loaded; return its URI."""
        state = {"epoch": epoch, "done": done, "loader": loader, "model": weights(epoch, done)}
        uri = f"{self.uri}train/{epoch}-{done:06}"
        with self._checkpoint.writer(uri) as writer:
            torch.save(state, writer)
        assert is_same(self.load(uri)["model"], state["model"]), uri
        return uri

    def load(self, uri: str) -> dict[str, Any]:
        with self._checkpoint.reader(uri) as reader:
            state: dict[str, Any] = torch.load(reader, weights_only=True)
        return state

    def newest(self) -> dict[str, Any]:
        """Return the newest state, or that of a new job if there is none."""
        found = [listed.key for listed in OssClient(**self._options).list(self.uri + "train/")]
        return self.load(self.uri + found[-1]) if found else {"epoch": 0, "done": 0, "loader": None}

    def save_dcp(self, epoch: int, done: int) -> str:
        uri = f"{self.uri}dcp/{epoch}-{done:06}"
        dcp.save(weights(epoch, done), storage_writer=OssStorageWriter(uri, **self._options))
        return uri

    def load_dcp(self, uri: str) -> dict[str, torch.Tensor]:
        found = {f"layer{number}": torch.zeros(ELEMENTS) for number in range(LAYERS)}
        dcp.load(found, storage_reader=OssStorageReader(uri, **self._options))
        return found
