"""Read and write objects through NVIDIA's multi-storage-client, which Megatron-LM and NeMo use."""

from __future__ import annotations

import multistorageclient as msc
import torch
from playground import playground


def main() -> None:
    with playground("msc") as oss:
        # A profile stands in the client's configuration file, as YAML or JSON. Here the file is a dictionary.
        bundle = {
            "type": "osstorchconnector.integrations.msc.OssProviderBundle",
            "options": {"base_path": oss.uri.removeprefix("oss://").rstrip("/"), **oss.options},
        }
        config = msc.StorageClientConfig.from_dict({"profiles": {"oss": {"provider_bundle": bundle}}}, profile="oss")
        client = msc.StorageClient(config)

        model = torch.nn.Linear(512, 512)
        with client.open("model.pt", "wb", attributes={"step": "7"}) as file:
            torch.save(model.state_dict(), file)
        for found in client.list():
            print(found.key, client.info(found.key).metadata)
        with client.open("model.pt", "rb") as file:
            loaded = torch.load(file, weights_only=True)
        print("the same weights:", torch.equal(model.weight, loaded["weight"]))


if __name__ == "__main__":
    main()
