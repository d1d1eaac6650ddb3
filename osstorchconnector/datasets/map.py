"""Objects by number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import Dataset, MapDataPipe

from ..client.client import OssClient
from ..datapipes.common import NumberedObjects
from ..datapipes.fetcher import OssObjectMapFetcher, OssObjectTable, fetch, identity
from .common import ObjectDataset, Transform


class OssMapDataset(ObjectDataset, Dataset[Any]):
    """Objects by number, in the order of the listing, the manifest or the names.

    `len` and the first access wait until the listing is done: once for all workers and epochs. Batches are fetched in
    parallel, and so are all objects when the dataset is iterated over. An object that can't be read is an error
    (`OssNotFoundError` if it is missing).
    """

    def __init__(self, objects: NumberedObjects, client: OssClient, transform: Transform = identity) -> None:
        super().__init__(objects, client, transform)
        self._pipe = OssObjectMapFetcher(OssObjectTable(objects), client, transform=transform)

    def __len__(self) -> int:
        return len(self._pipe)

    def __getitem__(self, position: int) -> Any:
        return self._pipe[position]

    def __getitems__(self, positions: Sequence[int]) -> list[Any]:
        """Return the objects of a batch, in its order, fetched in parallel."""
        return self._pipe.__getitems__(positions)

    def __iter__(self) -> Iterator[Any]:
        return fetch(self._client, self._index.infos(), transform=self._transform)

    def datapipe(self) -> MapDataPipe[Any]:
        """Return the dataset as a graph of datapipes, to which further stages may be chained."""
        return OssObjectMapFetcher(OssObjectTable(self._objects), self._client, transform=self._transform)
