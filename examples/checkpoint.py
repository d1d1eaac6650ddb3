"""Save and load a checkpoint with torch.save and torch.load, directly in OSS."""

from __future__ import annotations

import torch
from playground import playground

from osstorchconnector import OssCheckpoint


def main() -> None:
    with playground("checkpoint") as oss:
        checkpoint = OssCheckpoint(**oss.options)
        model = torch.nn.Linear(512, 512)

        # The object is stored when the block ends without an exception. An exception leaves the old object as it was.
        with checkpoint.writer(oss.uri + "epoch.0") as writer:
            torch.save(model.state_dict(), writer)

        with checkpoint.reader(oss.uri + "epoch.0") as reader:
            state = torch.load(reader, weights_only=True)

        loaded = torch.nn.Linear(512, 512)
        loaded.load_state_dict(state)
        print("the same weights:", torch.equal(model.weight, loaded.weight))


if __name__ == "__main__":
    main()
