"""Pack a folder of pictures into tars, and train from their members, by batches in another order in each epoch."""

from __future__ import annotations

from typing import Any

import torch
from playground import playground, put_pictures
from torch.utils.data import DataLoader
from transform import transform

from osstorchconnector import OssIterableDataset, generate_tar_archive


def main() -> None:
    torch.manual_seed(0)
    with playground("tar-training") as oss:
        put_pictures(oss, 64)

        # Each tar holds 16 pictures, and has an index beside it.
        shards = oss.uri + "shards/"
        generate_tar_archive(
            oss.options["endpoint"],
            oss.options["cred_path"],
            "",
            shards + "pictures.tar",
            shards + "pictures.tar.idx",
            oss.uri + "pictures/",
            region=oss.options["region"],
            shard_members=16,
        )

        # All tars below a folder; chunks of neighbours come together, and are shuffled within.
        dataset = OssIterableDataset.from_tar(
            shards, None, transform=transform, shuffle="chunks", shuffle_chunk_size=32, **oss.options
        )
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        loader: Any = DataLoader(dataset, batch_size=16, num_workers=2)
        for epoch in range(2):
            dataset.set_epoch(epoch)
            seen: set[str] = set()
            for pictures, names in loader:
                loss = (model(pictures) - pictures.mean(dim=(1, 2, 3)).unsqueeze(1)).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                seen.update(names)
            print(f"epoch {epoch}: {len(seen)} pictures")


if __name__ == "__main__":
    main()
