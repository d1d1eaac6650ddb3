"""Turn each object into the model's input, in the process that reads it: `transform=`."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from playground import playground, put_pictures

from osstorchconnector import DataObject, OssIterableDataset


def transform(data: DataObject) -> tuple[torch.Tensor, str]:
    """Return the picture as a tensor (channels, rows, columns) with values from 0 to 1, and its file name."""
    image = Image.open(data).convert("RGB").resize((32, 32))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255, data.name.rpartition("/")[2]


def main() -> None:
    with playground("transform") as oss:
        put_pictures(oss, 12)
        dataset = OssIterableDataset.from_prefix(oss.uri + "pictures/", transform=transform, **oss.options)
        for picture, name in dataset:
            print(name, tuple(picture.shape), f"{picture.mean():.3f}")


if __name__ == "__main__":
    main()
