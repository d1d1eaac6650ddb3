"""Objects by number."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from ..client.client import OssClient
from ..datapipes.fetcher import OnError, identity
from ..datapipes.numbered_objects import NumberedObjects
from ..datapipes.table import FetchesBatches, OssObjectMapFetcher, OssObjectTable
from ..datapipes.torch_pipes import MapDataPipe
from .object_dataset import ObjectDataset, SourceOptions, Transform

if TYPE_CHECKING:
    import os

    from typing_extensions import Self, Unpack

    from ..datapipes.manifest import ManifestParser
    from ..datapipes.tar_lister import GroupBy
    from ..index.labels import LabelSource


class MapOptions(SourceOptions, total=False):
    """What the constructors of `OssMapDataset` take beside what they read; another option is a `TypeError`."""

    share_listing: bool


class OssMapDataset(ObjectDataset, FetchesBatches, Dataset[Any]):
    """Objects by number, in the order of the listing, the manifest or the names.

    Create it with `from_prefix`, `from_objects`, `from_manifest_file`, `from_tar` or `from_index`. `len` and the first
    access wait until the listing is complete; workers and later epochs use the same listing. Objects are fetched in
    parallel for a batch of a DataLoader, for `dataset[[3, 1, 2]]`, for iteration, and for the batches of `a + b`, which
    has the objects of both. Negative numbers count from the end. Slices are not supported. Options of the `from_`
    methods:

    on_error: "raise" | "skip" | function = "raise"
        "skip": an object that can't be read even after retries is left out of its batch, logged and counted in
        `skipped_objects`. If no object of a batch is left, or a single object can't be read, the error is raised.
        A function is called with the `ObjectInfo` and the error. What it returns stands in the place of the object, so
        that batches keep their length; if it returns None, the object is left out. It may raise.
    share_listing: bool = False
        All ranks of torch.distributed read rank 0's listing, so that a number is the same object on each. Making the
        dataset is then a collective call: all ranks make it at the same point of the program.

    The `from_` methods raise `OssConfigError` for a wrong option, and `OssUsageError` for `share_listing` without an
    initialized torch.distributed. Access to objects raises `IndexError` for a number that is too large,
    `TypeError` for a slice, `OssNotFoundError` for an object that is missing or a prefix without objects,
    `OssTransformError` if `transform` raises, and other `OssError`s of requests that failed after all retries.
    """

    if TYPE_CHECKING:  # the constructors, with the options of this class instead of those of a stream

        @classmethod
        def from_prefix(  # type: ignore[override]
            cls,
            oss_uri: str | Iterable[str],
            endpoint: str | OssClient,
            *,
            keep_folder_markers: bool = False,
            allow_empty: bool = False,
            labels: LabelSource = "",
            **options: Unpack[MapOptions],
        ) -> Self: ...

        @classmethod
        def from_objects(  # type: ignore[override]
            cls, object_uris: str | Iterable[str], endpoint: str | OssClient, **options: Unpack[MapOptions]
        ) -> Self: ...

        @classmethod
        def from_manifest_file(  # type: ignore[override]
            cls,
            manifest_file_path: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
            manifest_parser: ManifestParser,
            oss_base_uri: str,
            endpoint: str | OssClient,
            *,
            labels: LabelSource = "",
            **options: Unpack[MapOptions],
        ) -> Self: ...

        @classmethod
        def from_index(  # type: ignore[override]
            cls, index_uri: str | os.PathLike[str], endpoint: str | OssClient, **options: Unpack[MapOptions]
        ) -> Self: ...

        @classmethod
        def from_tar(  # type: ignore[override]
            cls,
            tar_uri: str | Iterable[str | tuple[str, str | None]],
            tar_index_uri: str | os.PathLike[str] | Iterable[str | None] | None,
            endpoint: str | OssClient,
            *,
            labels: LabelSource = "",
            group_by: GroupBy = "",
            keep_index: bool = False,
            **options: Unpack[MapOptions],
        ) -> Self: ...

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
        """The number of objects that all processes have left out or replaced because they can't be read."""
        return self._pipe.skipped_objects

    def __len__(self) -> int:
        return len(self._pipe)

    def __getitem__(self, i: int | Sequence[int]) -> Any:
        """Return the object with this number, or a list of those with these numbers, fetched in parallel."""
        return self._pipe[i]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the objects with these numbers, in this order, fetched in parallel; a DataLoader calls this."""
        return self._pipe.__getitems__(indices)

    def is_continuous(self, indices: Sequence[int]) -> bool:
        """Return whether each number is the one before it plus one, as in the C++ connector.

        Nothing depends on it here: neighbours in a tar are fetched together in any order.
        """
        return all(after - before == 1 for before, after in pairwise(indices))

    def outcomes(self, positions: Sequence[int]) -> Generator[Any, None, None]:
        """For internal use, by `a + b`: yield an object, or a mark for one that is left out, for each number."""
        return self._pipe.outcomes(positions)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._pipe)

    def datapipe(self) -> MapDataPipe[Any]:
        """Return the dataset as a graph of datapipes, to which further stages may be chained."""
        return self._pipe
