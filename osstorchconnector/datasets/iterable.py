"""Objects as a stream."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from torch.utils.data import IterableDataset, IterDataPipe, get_worker_info

from ..client.client import OssClient
from ..datapipes.common import NumberedObjects
from ..datapipes.fetcher import OssObjectFetcher, fetch, identity
from ..datapipes.sharder import OssObjectSharder, Share
from ..datapipes.shuffler import OssObjectShuffler
from ..datapipes.skipping import OnError, Skipping
from ..errors import OssConfigError, OssUsageError
from ..objects.index import SharedIndex
from ..objects.shared_numbers import SharedNumbers
from ..objects.views import Evening, Taken, ordered
from .common import ObjectDataset, Transform
from .position import Position
from .ranks import agree_on, rank_share
from .state import EpochState

# Places of the numbers that all processes share; worker n notes in _BEGUN + n which loaded state it has begun with.
_EPOCH, _SKIPPED, _LOADED, _BEGUN = range(4)


class OssIterableDataset(ObjectDataset, IterableDataset[Any]):
    """Objects in the order of the listing, the manifest or the names, fetched ahead of the reader.

    In a DataLoader with workers each worker yields its share, every n-th object, and all together yield each object
    once; they read one listing. It may be iterated again and again, and by several iterators at once. An object that
    can't be read is an error (`OssNotFoundError` if it is missing), never left out. Options of the `from_` methods:

    - `shuffle=True`: another order in each epoch that `set_epoch` names, decided by `seed` and the epoch alone. It is
      an order of all objects and therefore waits for the listing; it takes no memory.
    - `shard_ranks=True`: each rank of torch.distributed, and each worker of it, yields its share; all read rank 0's
      listing. All ranks must make the dataset at the same point. `even="drop"` leaves out the last few objects so that
      each rank has as many, `even="repeat"` gives some once more.
    - `relist="epoch"`: `set_epoch` with another number lists anew (a collective call with `shard_ranks`).
    - `on_error="skip"`: what can't be read even after retries is left out, logged, and counted in `skipped_objects`. A
      function is called with the `ObjectInfo` and the error before that, and may raise.
    - `in_order=False`: objects come as they arrive; then there is no position to resume from.

    `state_dict()` tells where the latest iterator stands, and `load_state_dict()` lets the next one go on there.
    """

    def __init__(
        self,
        objects: NumberedObjects,
        client: OssClient,
        transform: Transform = identity,
        *,
        shuffle: bool = False,
        seed: int = 0,
        shard_ranks: bool = False,
        even: Evening = "none",
        relist: Literal["never", "epoch"] = "never",
        on_error: OnError = "raise",
        in_order: bool = True,
    ) -> None:
        super().__init__(objects, client, transform)
        _check_choice("even", even, ("none", "drop", "repeat"))
        _check_choice("relist", relist, ("never", "epoch"))
        if even != "none" and not shard_ranks:
            raise OssConfigError(f'even="{even}" evens out ranks: it needs shard_ranks=True')
        self._numbers = SharedNumbers(folder=client.config.index_dir)
        self._skipping = Skipping(on_error, self._numbers, _SKIPPED)
        self._seed = seed if shuffle else None
        self._evening, self._relist, self._in_order = even, relist, in_order
        self._rank = rank_share() if shard_ranks else Share()
        self._shard_ranks = shard_ranks
        self._loaded: tuple[EpochState, int, int] | None = None
        self._position: Position | None = None
        if shard_ranks:
            agree_on(self._index)

    @property
    def skipped_objects(self) -> int:
        """How many objects all processes have left out because they can't be read."""
        return self._skipping.count()

    def set_epoch(self, epoch: int) -> None:
        """Begin epoch `epoch` with the next iterators, in workers that live on as well."""
        before = self._numbers.get(_EPOCH)
        if epoch != before and self._shard_ranks and self._relist == "epoch":
            agree_on(self._index_of(epoch))
        self._numbers.set(_EPOCH, epoch)
        if epoch != before and self._relist == "epoch" and isinstance(self._index, SharedIndex):
            self._index.discard(before)
        self._position = None
        if self._loaded is not None and self._loaded[0].epoch != epoch:
            self._loaded = None

    def state_dict(self) -> dict[str, Any]:
        """Return where the latest iterator in this process stands: a small dictionary, in any process at any time."""
        if not self._in_order:
            raise OssUsageError("with in_order=False there is no position: make the dataset with in_order=True")
        if self._position is None:
            loaded = self._pending()
            self._position = self._at(loaded) if loaded is not None else self._at_start()
        return self._position.state().to_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Let the next iterator go on where `state_dict` was taken: with the next object, and nothing fetched before.

        A state of one process belongs to the same share in a job of as many ranks and workers; one that
        `merge_states` made belongs to the job: load it before the loader starts. Of what was listed meanwhile as well,
        nothing changes: if the objects are not the same any more, the iterator says so. `OssUsageError` for a state of
        another dataset.
        """
        state = EpochState.from_dict(state_dict)
        if state.dataset != self._fingerprint():
            raise OssUsageError("the state is of another dataset: other objects, another shuffle, seed or evening")
        self._numbers.set(_EPOCH, state.epoch)
        self._loaded = (state, self._numbers.add(_LOADED, 1), os.getpid())
        self._position = None

    def __iter__(self) -> Iterator[Any]:
        loaded = self._pending()
        self._position = position = self._at(loaded) if loaded is not None else self._at_start()
        self._begin()
        return self._items(position)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_position": None}

    def datapipe(self) -> IterDataPipe[Any]:
        """Return the dataset as a graph of datapipes, to which further stages may be chained.

        The graph leaves sharing out to whoever runs it, as datapipes do. Each call returns one of its own; all read
        the listing of this dataset.
        """
        objects: IterDataPipe[Any] = self._objects
        if self._seed is not None:
            objects = OssObjectShuffler(self._objects, seed=self._seed)
            objects.set_epoch(self._numbers.get(_EPOCH))
        sharder = OssObjectSharder(objects)
        if self._shard_ranks:
            sharder.shard_ranks(self._rank)
        return OssObjectFetcher(sharder, self._client, transform=self._transform, in_order=self._in_order)

    def _items(self, position: Position) -> Iterator[Any]:
        position.check()

        def skip(info: Any, error: Any) -> None:
            self._skipping(info, error)
            position.consumed += 1

        items = fetch(
            self._client,
            position.rest(),
            transform=self._transform,
            in_order=self._in_order,
            skip=skip if self._skipping.is_on else None,
        )
        with contextlib.closing(items):  # type: ignore[type-var]
            for item in items:
                position.consumed += 1
                yield item

    def _at_start(self) -> Position:
        return self._at(EpochState(self._fingerprint(), self._numbers.get(_EPOCH), None))

    def _at(self, state: EpochState) -> Position:
        """Return the position that a state describes, seen from this process."""
        share = worker_share().within(self._rank)
        if state.share is not None and state.share != share:
            raise OssUsageError(
                f"the state is of share {state.share.first} of {state.share.step}, and this is share {share.first} of "
                f"{share.step}: load it with as many ranks and workers, or merge the states of all by merge_states"
            )
        index = self._index_of(state.epoch)
        taken = [Taken(layer) for layer in state.taken]
        orders = [
            ordered(index, seed=self._seed, epoch=state.epoch, taken=taken[:layers]) for layers in range(len(taken) + 1)
        ]
        order = ordered(
            index,
            seed=self._seed,
            epoch=state.epoch,
            taken=taken,
            ranks=self._rank.step,
            evening=self._evening,
        )
        return Position(
            state=state,
            share=share,
            index=index,
            order=order,
            orders=orders,
            depends_on_count=self._seed is not None or self._evening != "none",
        )

    def _pending(self) -> EpochState | None:
        """Return the loaded state that this process has not begun with yet."""
        if self._loaded is None:
            return None
        state, number, pid = self._loaded
        worker = get_worker_info()
        if worker is not None and pid != os.getpid() and self._numbers.get(_BEGUN + worker.id) == number:
            return None
        return state

    def _begin(self) -> None:
        """Note that what was loaded has been begun with, for workers that come after this one as well."""
        if self._loaded is None:
            return
        worker = get_worker_info()
        if worker is not None and self._loaded[2] != os.getpid():
            self._numbers.set(_BEGUN + worker.id, self._loaded[1])
        self._loaded = None

    def _index_of(self, epoch: int) -> Any:
        if self._relist == "epoch" and isinstance(self._index, SharedIndex):
            return self._index.again(epoch)
        return self._index

    def _fingerprint(self) -> str:
        text = f"{self._objects.identity} {self._seed} {self._evening}"
        return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()


def worker_share() -> Share:
    """Return the share of the DataLoader worker that this is; everything in a process that is none."""
    worker = get_worker_info()
    return Share() if worker is None else Share(worker.id, worker.num_workers)


def _check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OssConfigError(f"{name}: {value!r} is none of {', '.join(choices)}")
