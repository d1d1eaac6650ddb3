"""Train on one folder per class, as with torchvision's ImageFolder: the label is the number of the folder."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from playground import playground
from torch.utils.data import DataLoader

from osstorchconnector import DataObject, OssClient, OssIterableDataset


def decode(data: DataObject) -> tuple[torch.Tensor, int]:
    """Return the picture and the number of its class, which is that of its folder."""
    picture = Image.open(data).convert("RGB").resize((32, 32))
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1), data.label


def main() -> None:
    names = ["cat", "dog", "fox"]
    with playground("class-labels") as oss:
        client = OssClient(**oss.options)
        for number in range(30):
            file = io.BytesIO()
            Image.new("RGB", (64, 48), (8 * number, 128, 64)).save(file, "PNG")
            client.put(f"{oss.uri}train/{names[number % 3]}/{number:03}.png", file.getvalue())
        client.put(f"{oss.uri}train/README.txt", b"not a picture")

        dataset = OssIterableDataset.from_prefix(
            oss.uri + "train/", **oss.options, transform=decode, filter=".png", labels="folders", shuffle=True
        )
        print(dataset.classes)
        loader = DataLoader(dataset, batch_size=10, num_workers=2)
        for epoch in range(2):
            dataset.set_epoch(epoch)
            for pictures, labels in loader:
                print(epoch, tuple(pictures.shape), labels.tolist())


if __name__ == "__main__":
    main()
