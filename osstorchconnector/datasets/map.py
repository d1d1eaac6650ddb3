"""Objects by number."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any

from torch.utils.data import Dataset, MapDataPipe

from ..client.client import OssClient
from ..datapipes.fetcher import OnError, identity
from ..datapipes.numbered_objects import NumberedObjects
from ..datapipes.table import FetchesBatches, OssObjectMapFetcher, OssObjectTable
from .object_dataset import ObjectDataset, Transform


class OssMapDataset(ObjectDataset, FetchesBatches, Dataset[Any]):
    """Objects by number, in the order of the listing, the manifest or the names.

    Make one by `from_prefix`, `from_objects`, `from_manifest_file` or `from_index`. `len` and the first access wait
    for the end of the listing, once for all workers and epochs. A batch is fetched in parallel, and so are
    `dataset[[3, 1, 2]]`, all objects when the dataset is iterated over, and the batches of `a + b`, which has the
    objects of both. Negative numbers count from the end; there are no slices. Options of the `from_` methods:

    on_error: "raise" | "skip" | function = "raise"
        "skip": an object that can't be read even after retries is left out of its batch, logged and counted in
        `skipped_objects`. A function is called with the `ObjectInfo` and the error before that, and may raise. A
        batch of which nothing would be left is an error, and so is a single object asked for by its number.
    share_listing: bool = False
        All ranks of torch.distributed read rank 0's listing, so that a number is the same object on each. Making the
        dataset is then a collective call: all ranks make it at the same point of the program.

    Raises, when made, `OssConfigError` for an option with another value, and `OssUsageError` for `share_listing`
    without an initialized torch.distributed. When objects are asked for: `IndexError` for a number that is too large,
    `TypeError` for a slice, `OssNotFoundError` for an object that is missing or a prefix without objects,
    `OssTransformError` if `transform` raises, and other `OssError`s of requests that failed after all retries.
    """

    def __init__(
        self,
        objects: NumberedObjects,
        client: OssClient,
        transform: Transform = identity,
        *,
        on_error: OnError = "raise",
        share_listing: bool = False,
    ) -> None:
        super().__init__(objects, client, transform)
        self._pipe = OssObjectMapFetcher(OssObjectTable(objects), client, transform=transform, on_error=on_error)
        if share_listing:
            objects.share_listing()

    @property
    def skipped_objects(self) -> int:
        """How many objects all processes have left out because they can't be read."""
        return self._pipe.skipped_objects

    def __len__(self) -> int:
        return len(self._pipe)

    def __getitem__(self, position: int | Sequence[int]) -> Any:
        """Return the object of a number, or the objects of a list of numbers, fetched in parallel."""
        return self._pipe[position]

    def __getitems__(self, positions: Sequence[int]) -> list[Any]:
        """Return the objects of a batch, in its order, fetched in parallel."""
        return self._pipe.__getitems__(positions)

    def outcomes(self, positions: Sequence[int]) -> Generator[Any, None, None]:
        return self._pipe.outcomes(positions)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._pipe)

    def datapipe(self) -> MapDataPipe[Any]:
        """Return the dataset as a graph of datapipes, to which further stages may be chained."""
        return self._pipe
