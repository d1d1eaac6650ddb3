"""Build a graph of DataPipes by hand: list, shuffle, shard, fetch, decode."""

from __future__ import annotations

from operator import attrgetter

from playground import playground, put_pictures
from torch.utils.data import DataLoader

from osstorchconnector import OssClient
from osstorchconnector.datapipes import OssObjectLister


def main() -> None:
    with playground("datapipes") as oss:
        put_pictures(oss, 12)
        client = OssClient(**oss.options)
        pipe = OssObjectLister(oss.uri + "pictures/", client)
        pipe = pipe.shuffle_oss_objects(seed=1).shard_oss_objects().fetch_oss_objects(client).map(attrgetter("name"))

        # DataLoader shards a graph among its workers, and gives the shuffle a new seed for each epoch.
        for name in DataLoader(pipe, batch_size=None, num_workers=2):
            print(name)

        # As a dataset, the graph also has a position.
        dataset = pipe.to_dataset()
        next(iter(dataset))
        print("consumed:", dataset.state_dict()["consumed"])


if __name__ == "__main__":
    main()
