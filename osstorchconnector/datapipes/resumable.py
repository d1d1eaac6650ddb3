"""What datasets share that can be broken off and gone on with, in any process of a job."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.context import get_spawning_popen
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

from ..errors import OssUsageError
from ..index.info import ObjectInfo
from ..index.orders import Evening, Taken, View, ordered
from ..index.shared import ObjectIndex, SharedNumbers
from .ranks import reads_for_all, warn_of_everything
from .sharder import Share
from .state import Anchor, EpochState, checked_epoch


class Position:
    """So many objects of a share of an order; `orders` are those that were left after each layer of taken objects."""

    def __init__(
        self,
        *,
        state: EpochState,
        share: Share,
        index: ObjectIndex,
        order: View,
        orders: Sequence[View],
        depends_on_count: bool,
    ) -> None:
        self._begun, self._share, self._index = state, share, index
        self._order, self._orders, self._depends_on_count = order, orders, depends_on_count
        self.consumed = state.consumed

    def rest(self) -> Iterator[ObjectInfo]:
        """Yield the objects that come next."""
        first, step = self._share
        return self._order.infos(first + self.consumed * step, step)

    def check(self) -> None:
        """Raise `OssUsageError` if the objects are not those of which the state was taken."""
        rows, anchor = self._begun.rows, self._begun.anchor
        if rows >= 0 and self._index.count() != rows:
            raise OssUsageError(
                f"the state is of {rows} objects and now there are {self._index.count()}: a shuffled or evened epoch "
                "can't go on; keep the listing with save_index and from_index"
            )
        # What was given out last is at the anchor. Where there is none, the listing's end tells whether that can be.
        furthest = self._begun.furthest()
        if furthest is not None and (anchor is None or furthest != (anchor.layers, anchor.number)):
            self._begun.check_against(self._index.count())
        if anchor is not None and self._digest(anchor.layers, anchor.number) != anchor.digest:
            raise OssUsageError(
                "the state is of another listing: objects have come or gone before the position in it; keep the "
                "listing with save_index and from_index"
            )

    def state(self) -> EpochState:
        """Return where it stands now."""
        first, step = self._share
        begun, anchor = self._begun, self._begun.anchor
        if self.consumed > begun.consumed:
            layers, number = len(self._orders) - 1, first + (self.consumed - 1) * step
            digest = self._digest(layers, number)
            anchor = Anchor(layers, number, digest) if digest else None
        rows = self._index.count() if self._depends_on_count and self.consumed else begun.rows
        return dataclasses.replace(begun, share=self._share, consumed=self.consumed, rows=rows, anchor=anchor)

    def _digest(self, layers: int, number: int) -> str:
        """Return a digest of the object's URI; "" if there is none of this number."""
        for info in self._orders[layers].at([number]):
            return hashlib.blake2b(str(info.uri).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()
        return ""


# Places of the numbers that all processes share; worker n notes in BEGUN + n which loaded state it has begun with.
EPOCH, SKIPPED, LOADED, WARNED, BEGUN = range(5)


class ResumableDataset(IterableDataset[Any]):
    """Objects in an order that arithmetic tells, so that a few numbers say where an iterator stands.

    A derived class has the index, says what to make of the objects (`_items`), and why it has no position if so
    (`_no_position`). `undecided` tells the user how to choose whether ranks share the objects; it is empty once that is
    chosen.
    """

    def __init__(
        self,
        index: ObjectIndex,
        identity: str,
        *,
        folder: str,
        seed: int | None,
        epoch: int = 0,
        rank: Share = Share(),  # noqa: B008
        evening: Evening = "none",
        undecided: str = "",
    ) -> None:
        self._index, self._identity, self._undecided = index, identity, undecided
        self._numbers = SharedNumbers(folder=folder, initial={EPOCH: epoch})
        self._seed, self._rank, self._evening = seed, rank, evening
        self._loaded: tuple[EpochState, int, int] | None = None
        self._position: Position | None = None

    @property
    def epoch(self) -> int:
        """The epoch that the next iterators begin, in whatever process."""
        return self._numbers.get(EPOCH)

    def set_epoch(self, epoch: int) -> None:
        """Begin epoch `epoch` with the next iterators, in workers that live on as well."""
        epoch = checked_epoch(epoch)
        self._numbers.set(EPOCH, epoch)
        self._position = None
        if self._loaded is not None and self._loaded[0].epoch != epoch:
            self._loaded = None

    def state_dict(self) -> dict[str, Any]:
        """Return where the latest iterator in this process stands: a small dictionary, cheap at every step."""
        reason = self._no_position()
        if reason:
            raise OssUsageError(reason)
        if self._position is None:
            loaded = self._pending()
            self._position = self._at(loaded) if loaded is not None else self._at_start()
        return self._position.state().to_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Let the next iterator go on where `state_dict` was taken: with the next object, and nothing fetched before.

        A state of one process belongs to the same share in a job of as many ranks and workers; one that
        `merge_states` made belongs to the job: load it before the loader starts. If the objects are not the same any
        more, the iterator says so. `OssUsageError` for a state of another dataset, and for
        anything that is no state.
        """
        state = EpochState.from_dict(state_dict)
        if state.dataset != self._fingerprint():
            raise OssUsageError("the state is of another dataset: other objects, another shuffle, seed or evening")
        self._numbers.set(EPOCH, state.epoch)
        self._loaded = (state, self._numbers.add(LOADED, 1), os.getpid())
        self._position = None

    def __iter__(self) -> Iterator[Any]:
        self._warn_if_undecided()
        loaded = self._pending()
        self._position = position = self._at(loaded) if loaded is not None else self._at_start()
        self._begin()
        return self._items(position)

    def __getstate__(self) -> dict[str, Any]:
        if get_spawning_popen() is not None:
            self._warn_if_undecided()  # a worker that is spawned doesn't know of the ranks
        return {**self.__dict__, "_position": None}

    def _warn_if_undecided(self) -> None:
        """Warn once for the whole job that each rank reads everything, unless the user has chosen that."""
        if self._undecided and reads_for_all() and self._numbers.add(WARNED, 1) == 1:
            warn_of_everything(self._undecided)

    def _items(self, position: Position) -> Iterator[Any]:
        """Yield what comes after `position`, which counts what is given out."""
        raise NotImplementedError

    def _no_position(self) -> str:
        return ""

    def _index_of(self, epoch: int) -> ObjectIndex:
        return self._index

    def _at_start(self) -> Position:
        return self._at(EpochState(self._fingerprint(), self.epoch, None))

    def _at(self, state: EpochState) -> Position:
        """Return the position that a state describes, seen from this process."""
        share = worker_share().within(self._rank)
        if state.share is not None and state.share != share:
            raise OssUsageError(
                f"the state is of share {state.share.first} of {state.share.step}, and this is share {share.first} of "
                f"{share.step}: load it with as many ranks and workers, or merge the states of all by merge_states"
            )
        index, seed, epoch = self._index_of(state.epoch), self._seed, state.epoch
        taken = [Taken(layer) for layer in state.taken]
        orders = [ordered(index, seed=seed, epoch=epoch, taken=taken[:n]) for n in range(len(taken) + 1)]
        even = ordered(index, seed=seed, epoch=epoch, taken=taken, ranks=self._rank.step, evening=self._evening)
        depends_on_count = seed is not None or self._evening != "none"
        return Position(
            state=state, share=share, index=index, order=even, orders=orders, depends_on_count=depends_on_count
        )

    def _pending(self) -> EpochState | None:
        """Return the loaded state that this process has not begun with yet."""
        if self._loaded is None:
            return None
        state, number, pid = self._loaded
        worker = get_worker_info()
        if worker is not None and pid != os.getpid() and self._numbers.get(BEGUN + worker.id) == number:
            return None
        return state

    def _begin(self) -> None:
        """Note that what was loaded has been begun with, for workers that come after this one as well."""
        if self._loaded is None:
            return
        worker = get_worker_info()
        if worker is not None and self._loaded[2] != os.getpid():
            self._numbers.set(BEGUN + worker.id, self._loaded[1])
        self._loaded = None

    def _fingerprint(self) -> str:
        text = f"{self._identity} {self._seed} {self._evening}"
        return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()


def worker_share() -> Share:
    """Return the share of the DataLoader worker that this is; everything in a process that is none."""
    worker = get_worker_info()
    return Share() if worker is None else Share(worker.id, worker.num_workers)
