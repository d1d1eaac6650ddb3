"""A training loop that saves while it goes on: OssCheckpointManager and async_save, one process."""

from __future__ import annotations

import warnings

import torch
from playground import playground

from osstorchconnector import OssCheckpointManager


def main() -> None:
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # one process is what is meant
    with playground("dcp-async") as oss:
        model = torch.nn.Linear(512, 512)
        optimizer = torch.optim.AdamW(model.parameters())
        manager = OssCheckpointManager(oss.uri + "run", keep=2, **oss.options)

        for step in range(1, 6):
            model(torch.randn(8, 512)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            # returns as soon as the state has been copied; the copy is stored while training goes on
            manager.async_save(step, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
        manager.close()  # waits, and raises if a save failed
        print("kept:", manager.steps())

        # another process would begin like this: load the newest into what it has allocated
        state = {"model": torch.nn.Linear(512, 512).state_dict()}
        step = manager.load(state)
        print(f"the weights of step {step}:", torch.equal(state["model"]["weight"], model.weight))


if __name__ == "__main__":
    main()
