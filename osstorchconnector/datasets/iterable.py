"""Objects as a stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import IterableDataset, IterDataPipe, get_worker_info

from ..datapipes.fetcher import OssObjectFetcher, fetch
from ..datapipes.sharder import OssObjectSharder, Share
from .common import ObjectDataset


class OssIterableDataset(ObjectDataset, IterableDataset[Any]):
    """Objects in the order of the listing, the manifest or the names, fetched ahead of the reader.

    In a DataLoader with workers each worker yields its share, every n-th object, and all together yield each object
    once; they read one listing. It may be iterated again and again, and by several iterators at once. An object that
    can't be read is an error (`OssNotFoundError` if it is missing), never left out.
    """

    def __iter__(self) -> Iterator[Any]:
        share = worker_share()
        return fetch(self._client, self._index.infos(share.first, share.step), transform=self._transform)

    def datapipe(self) -> IterDataPipe[Any]:
        """Return the dataset as a graph of datapipes, to which further stages may be chained.

        The graph leaves sharing out to whoever runs it, as datapipes do. Each call returns one of its own; all read
        the listing of this dataset.
        """
        return OssObjectFetcher(OssObjectSharder(self._objects), self._client, transform=self._transform)


def worker_share() -> Share:
    """Return the share of the DataLoader worker that this is; everything in a process that is none."""
    worker = get_worker_info()
    return Share() if worker is None else Share(worker.id, worker.num_workers)
