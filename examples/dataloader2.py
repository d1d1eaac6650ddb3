"""Run a graph of DataPipes in DataLoader2 with two workers, and resume in mid-epoch (torchdata before 0.10)."""

from __future__ import annotations

import warnings
from itertools import islice
from operator import attrgetter

from playground import playground, put_pictures

from osstorchconnector import OssIterableDataset

warnings.filterwarnings("ignore", message=r"[\s#]*WARNING!\s+The 'datapipes', 'dataloader2' modules are deprecated")
warnings.filterwarnings("ignore", message="'set_vital' is deprecated")


def short(name: str) -> str:
    return name.rpartition("/")[2]


def main() -> None:
    from torchdata.dataloader2 import DataLoader2, MultiProcessingReadingService

    from osstorchconnector.dataloader2 import OssReadingService

    with playground("dataloader2") as oss:
        put_pictures(oss, 12)
        dataset = OssIterableDataset.from_prefix(
            oss.uri + "pictures/", **oss.options, transform=attrgetter("name"), shuffle=True
        )
        loader = DataLoader2(dataset.datapipe(), reading_service=MultiProcessingReadingService(num_workers=2))
        for epoch in range(2):
            loader.seed(epoch)
            print(f"epoch {epoch}:", *map(short, loader))
        loader.shutdown()

        # torchdata's own services would start the epoch again.
        with DataLoader2(dataset.datapipe(), reading_service=OssReadingService(num_workers=2)) as loader:
            print("before:", *map(short, islice(loader, 5)))
            state = loader.state_dict()
        with DataLoader2.from_state(state, OssReadingService(num_workers=2)) as loader:
            print("after:", *map(short, loader))


if __name__ == "__main__":
    main()
