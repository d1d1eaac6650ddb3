"""Objects as torchdata nodes (torchdata 0.10 and newer): a lister and a parallel fetcher, both with state.

    node = OssFetcher(OssLister("oss://bucket/prefix/", client, shuffle=True), client, transform=decode)
    loader = torchdata.nodes.Loader(torchdata.nodes.Batcher(node, 32))

The state of such a loader is small, and restoring it fetches nothing that was given out before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from .client.client import OssClient, as_client
from .datapipes.fetcher import OnError, Skipping, as_info, checked_transform, fetch, identity
from .datapipes.lister import OssObjectLister
from .datapipes.numbered_objects import NumberedObjects
from .datapipes.resumable import ObjectRun, ResumableDataset
from .errors import OssConfigError, OssError, OssUsageError
from .files.data_object import DataObject
from .index.chunks import Chunks
from .index.filters import Filter
from .index.info import ObjectInfo
from .index.labels import LabelSource
from .index.orders import Chunking, Share
from .index.shared import SharedNumbers
from .optional import needed

if TYPE_CHECKING:
    BaseNode = Any
else:
    try:
        from torchdata.nodes import BaseNode
    except Exception as error:  # missing, too old or broken
        _problem = error

        class BaseNode:
            def __init__(self) -> None:
                raise needed("osstorchconnector.nodes", "torchdata>=0.10", _problem)


_UNDECIDED = "give OssLister rank and world_size to share them out, or world_size=1 if that is meant"


class _Infos(ResumableDataset):
    """What is known of the objects, with a position."""

    def _items(self, run: ObjectRun) -> Iterator[ObjectInfo]:
        return run.remaining()

    def window(self) -> tuple[int, int]:
        """Return what `fetch` wants to know of the order in which the latest iterator goes on."""
        return self._chunking.window(0 if self._run is None else self._run.consumed)


class OssLister(BaseNode):  # type: ignore[misc, unused-ignore]
    """Yield an `ObjectInfo` for each object below `prefixes`, or of a pipe of named objects, a manifest or tars.

    They are listed once, whatever the number of epochs. `shuffle`, `shuffle_chunk_size`, `seed` and `set_epoch` are
    those of `OssIterableDataset`. For members of tars, `prefixes` is an `OssTarLister`. Of `world_size` ranks each
    yields its share. `labels="folders"` is that of `OssMapDataset.from_prefix`. No object under a prefix is an
    `OssNotFoundError`, unless `allow_empty` is set.
    """

    def __init__(
        self,
        prefixes: str | Iterable[str] | NumberedObjects,
        endpoint: str | OssClient,
        *,
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        region: str = "",
        anonymous: bool = False,
        filter: Filter = None,
        allow_empty: bool = False,
        labels: LabelSource = "",
        shuffle: bool | Literal["chunks"] = False,
        shuffle_chunk_size: int = 1000,
        seed: int = 0,
        rank: int = 0,
        world_size: int | None = None,
    ) -> None:
        super().__init__()
        client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)
        if not isinstance(prefixes, NumberedObjects):
            prefixes = OssObjectLister(prefixes, client, filter=filter, allow_empty=allow_empty, labels=labels)
        ranks = 1 if world_size is None else world_size
        if prefixes.index is None or not 0 <= rank < ranks:
            raise OssConfigError("OssLister takes prefixes, not a pipe of them, and a rank below world_size")
        self._infos = _Infos(
            prefixes.index,
            prefixes.identity,
            folder=client.config.index_dir,
            seed=seed if shuffle else None,
            rank=Share(rank, ranks),
            undecided=_UNDECIDED if world_size is None else "",
            chunking=_chunking(shuffle, shuffle_chunk_size, prefixes.chunking),
        )
        self._iterator: Iterator[ObjectInfo] = iter(())

    @property
    def window(self) -> tuple[int, int]:
        """For internal use, by `OssFetcher`: how many members of tars end the present chunk, and how many are one."""
        return self._infos.window()

    def set_epoch(self, epoch: int) -> None:
        """Yield the objects in the order of epoch `epoch` after the next reset."""
        self._infos.set_epoch(epoch)

    def reset(self, initial_state: dict[str, Any] | None = None) -> None:
        """Begin an epoch, or go on where the state was taken."""
        super().reset(initial_state)
        if initial_state is not None:
            self._infos.load_state_dict(initial_state)
        self._iterator = iter(self._infos)

    def next(self) -> ObjectInfo:
        """Return the `ObjectInfo` of the next object."""
        return next(self._iterator)

    def get_state(self) -> dict[str, Any]:
        """Return how far the epoch has come."""
        return self._infos.state_dict()


class OssFetcher(BaseNode):  # type: ignore[misc, unused-ignore]
    """Yield a `DataObject`, or what `transform` makes of it, for each `ObjectInfo` or URI of `source`, in its order.

    Many requests are in flight at a time (`prefetchConcurrency`). The state is that of `source` after the last object
    given out, not after the last one asked for. `on_error` is that of `OssIterableDataset`.
    """

    def __init__(
        self,
        source: BaseNode,
        endpoint: str | OssClient,
        *,
        cred_path: str = "",
        cred_provider: object | None = None,
        config_path: str = "",
        transform: Callable[[DataObject], Any] = identity,
        region: str = "",
        anonymous: bool = False,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__()
        self._source, self._transform = source, checked_transform(transform)
        self._client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)
        self._skipping = Skipping(on_error, SharedNumbers(folder=self._client.config.index_dir))
        self._states: deque[dict[str, Any]] = deque()
        self._items: Generator[Any, None, None] | None = None
        self._state: dict[str, Any] = {}

    @property
    def skipped_objects(self) -> int:
        """How many objects have been left out or replaced because they can't be read."""
        return self._skipping.count()

    def reset(self, initial_state: dict[str, Any] | None = None) -> None:
        """Begin an epoch, or go on where the state was taken."""
        super().reset(initial_state)
        if self._items is not None:
            self._items.close()
        self._source.reset(None if initial_state is None else _source_state(initial_state))
        self._state = self._source.state_dict()
        self._states = states = deque[dict[str, Any]]()
        skipping = self._skipping

        def skip(info: ObjectInfo, error: OssError) -> object:
            substitute = skipping(info, error)
            if substitute is None:
                states.popleft()
            return substitute

        self._items = fetch(
            self._client,
            _pulled(self._source, states),
            transform=self._transform,
            skip=skip if skipping.is_on else None,
            window=getattr(self._source, "window", (0, 0)),
        )

    def next(self) -> Any:
        """Return the next object."""
        assert self._items is not None
        item = next(self._items)
        self._state = self._states.popleft()
        return item

    def get_state(self) -> dict[str, Any]:
        """Return the state of the source after the last object given out."""
        return {"source": self._state}


def _chunking(shuffle: bool | Literal["chunks"], chunk_rows: int, otherwise: Chunking) -> Chunking:
    if shuffle not in (False, True, "chunks"):
        raise OssConfigError(f'shuffle: {shuffle!r:.80} is none of False, True and "chunks"')
    if chunk_rows < 1:
        raise OssConfigError(f"shuffle_chunk_size: {chunk_rows} is less than one")
    return Chunks(chunk_rows, are_shuffled=True) if shuffle == "chunks" else otherwise


def _source_state(state: Any) -> dict[str, Any]:
    if not isinstance(state, Mapping) or not isinstance(state.get("source"), Mapping):
        raise OssUsageError("this is not the state of an OssFetcher")
    return dict(state["source"])


def _pulled(source: BaseNode, states: deque[dict[str, Any]]) -> Iterator[ObjectInfo]:
    """Yield what the source gives, and note its state after each."""
    # A function, not a method: breaks the cycle fetcher -> generator of requests -> source of requests -> fetcher.
    for item in source:
        states.append(source.state_dict())
        yield as_info(item)
