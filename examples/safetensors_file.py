"""Save a model's tensors as a safetensors file in OSS, load them, and fetch single rows."""

from __future__ import annotations

import torch
from playground import playground

from osstorchconnector import OssSafetensor


def main() -> None:
    with playground("safetensors") as oss:
        files = OssSafetensor(**oss.options)
        model = torch.nn.Embedding(10_000, 64)

        # The object has the bytes that the safetensors library would write: every tool for such files can read it.
        files.save_file(model.state_dict(), oss.uri + "model.safetensors", metadata={"format": "pt"})

        loaded = torch.nn.Embedding(10_000, 64)
        loaded.load_state_dict(files.load_file(oss.uri + "model.safetensors"))
        print("the same weights:", torch.equal(model.weight, loaded.weight))

        # Only the header and these rows are fetched.
        with files.safe_open(oss.uri + "model.safetensors") as file:
            rows = file.get_slice("weight")[5000:5010]
            print("the same rows:", torch.equal(model.weight[5000:5010], rows))


if __name__ == "__main__":
    main()
