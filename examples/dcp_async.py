"""Save while training continues: OssCheckpointManager.async_save in a training loop, one process."""

from __future__ import annotations

import warnings

import torch
from playground import playground

from osstorchconnector import OssCheckpointManager


def main() -> None:
    warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # one process is intended
    with playground("dcp-async") as oss:
        model = torch.nn.Linear(512, 512)
        optimizer = torch.optim.AdamW(model.parameters())
        manager = OssCheckpointManager(oss.uri + "run", keep=2, **oss.options)

        for step in range(1, 6):
            model(torch.randn(8, 512)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            # Returns as soon as the state has been copied. The copy is stored while training continues.
            manager.async_save(step, {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
        manager.close()  # waits, and raises if a save failed
        print("kept:", manager.steps())

        # Another process would start like this: load the newest checkpoint into the tensors that it has allocated.
        state = {"model": torch.nn.Linear(512, 512).state_dict()}
        step = manager.load(state)
        print(f"the weights of step {step}:", torch.equal(state["model"]["weight"], model.weight))


if __name__ == "__main__":
    main()
