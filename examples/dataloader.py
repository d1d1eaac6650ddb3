"""Both datasets in PyTorch's DataLoader with worker processes. Each object comes once, for any number of workers."""

from __future__ import annotations

import torch
from playground import playground, put_pictures
from torch.utils.data import DataLoader
from transform import transform

from osstorchconnector import OssIterableDataset, OssMapDataset


def main() -> None:
    torch.manual_seed(0)
    with playground("dataloader") as oss:
        put_pictures(oss, 64)

        # OssIterableDataset: every worker takes its share of the listing.
        iterable = OssIterableDataset.from_prefix(oss.uri + "pictures/", transform=transform, **oss.options)
        for pictures, names in DataLoader(iterable, batch_size=16, num_workers=2):
            print("iterable", tuple(pictures.shape), names[0], "to", names[-1])

        # OssMapDataset: random access, so the DataLoader can shuffle.
        mapped = OssMapDataset.from_prefix(oss.uri + "pictures/", transform=transform, **oss.options)
        for pictures, names in DataLoader(mapped, batch_size=16, num_workers=2, shuffle=True):
            print("shuffled", tuple(pictures.shape), names[0], "to", names[-1])


if __name__ == "__main__":
    main()
