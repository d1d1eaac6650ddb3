"""Run a graph of DataPipes in torchdata's DataLoader2 with two workers (torchdata before 0.10)."""

from __future__ import annotations

import warnings
from operator import attrgetter

from playground import playground, put_pictures

from osstorchconnector import OssIterableDataset

warnings.filterwarnings("ignore", message=r"[\s#]*WARNING!\s+The 'datapipes', 'dataloader2' modules are deprecated")


def main() -> None:
    from torchdata.dataloader2 import DataLoader2, MultiProcessingReadingService

    with playground("dataloader2") as oss:
        put_pictures(oss, 12)
        dataset = OssIterableDataset.from_prefix(
            oss.uri + "pictures/", **oss.options, transform=attrgetter("name"), shuffle=True
        )
        loader = DataLoader2(dataset.datapipe(), reading_service=MultiProcessingReadingService(num_workers=2))
        for epoch in range(2):
            loader.seed(epoch)
            print(f"epoch {epoch}:", *(name.rpartition("/")[2] for name in loader))
        loader.shutdown()


if __name__ == "__main__":
    main()
