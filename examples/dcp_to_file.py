"""Turn a distributed checkpoint in OSS into one object that torch.load can read, without a local file."""

from __future__ import annotations

import warnings

import torch
import torch.distributed.checkpoint as dcp
from playground import playground
from torch.distributed.checkpoint.default_planner import _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

from osstorchconnector import OssCheckpoint, OssDCPFileSystem


def main() -> None:
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # one process is intended
    with playground("dcp-to-file") as oss:
        fs = OssDCPFileSystem(**oss.options)
        model = torch.nn.Linear(512, 512)
        dcp.save({"model": model.state_dict(), "step": 7}, storage_writer=fs.writer(oss.uri + "step-7"), no_dist=True)

        # Load all of the checkpoint, in the same way as torch's own dcp_to_torch_save loads one from a folder.
        state: dict[str, object] = {}
        reader = fs.reader(oss.uri + "step-7")
        _load_state_dict(state, storage_reader=reader, planner=_EmptyStateDictLoadPlanner(), no_dist=True)
        files = OssCheckpoint(**oss.options)
        with files.writer(oss.uri + "step-7.pt") as writer:
            torch.save(state, writer)

        with files.reader(oss.uri + "step-7.pt") as file:
            loaded = torch.load(file, weights_only=True)
        print("step", loaded["step"], "the same weights:", torch.equal(model.weight, loaded["model"]["weight"]))


if __name__ == "__main__":
    main()
