"""The training job that the soak kills: its plan comes on stdin."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

import torch.utils.data  # noqa: E402
from torchdata.stateful_dataloader import StatefulDataLoader  # noqa: E402

from osstorchconnector import OssCheckpoint, OssIterableDataset  # noqa: E402

BATCH = 50


def train(plan: dict[str, Any]) -> None:
    """One epoch: each sample's key goes to the log when the state behind it is safe."""
    dataset = OssIterableDataset.from_prefix(plan["uri"], **plan["options"], shuffle=True, seed=plan["epoch"])
    loader = StatefulDataLoader(
        dataset,
        batch_size=BATCH,
        num_workers=4,
        collate_fn=list,
        multiprocessing_context="fork",
        snapshot_every_n_steps=1,
    )
    log, state = Path(plan["log"]), Path(plan["state"])
    done = 0
    if state.exists():
        saved = torch.load(state, weights_only=False)
        loader.load_state_dict(saved["loader"])
        done = saved["done"]
        lines = log.read_text().split()[:done]  # what was written after the state is done again
        log.write_text("".join(f"{line}\n" for line in lines))
    with log.open("a") as file:
        for batch in loader:
            assert all(len(item.read()) == 500 for item in batch)
            file.writelines(f"{item.key}\n" for item in batch)
            file.flush()
            done += len(batch)
            if done // 1000 != (done - len(batch)) // 1000:
                draft = state.with_suffix(".draft")
                torch.save({"loader": loader.state_dict(), "done": done}, draft)
                draft.replace(state)
            if plan["die_at"] and done >= plan["die_at"]:
                die(plan["victim"])
                plan["die_at"] = 0


def die(victim: str) -> None:
    if victim == "job":
        os.kill(os.getpid(), signal.SIGKILL)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGKILL)


def end_in_the_middle(plan: dict[str, Any]) -> None:
    """Read and write at once, and end."""
    items = iter(OssIterableDataset.from_prefix(plan["uri"], **plan["options"]))
    writer = OssCheckpoint(**plan["options"]).writer(plan["uri"] + "half")
    writer.write(b"x" * 1_000_000)
    for _ in range(100):
        next(items)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if plan["end"] == "exit":
        sys.exit(3)
    os.kill(os.getpid(), getattr(signal, plan["end"]))


if __name__ == "__main__":
    given = json.load(sys.stdin)
    end_in_the_middle(given) if "end" in given else train(given)
