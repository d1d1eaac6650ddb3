"""Datasets that can be stopped and resumed, in any process of a job: the one way in which an epoch is iterated.

    state of the epoch + this process's share -> `EpochRun` -> items, counted in `consumed` -> state

An `EpochRun` is one share of one epoch: it yields what has not been given out yet, and tells where it stands. The code
that gives the items out counts them. Samplers use it as it is, over plain numbers. `ObjectRun` is one over objects, and
checks that the listing is still the same. A `ResumableDataset` decides which run comes next: an epoch from its start,
or from a state that was loaded, which may have happened in another process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Generator, Iterator, Mapping
from enum import IntEnum
from multiprocessing.context import get_spawning_popen
from typing import Any, Generic, NamedTuple, TypeVar

from torch.utils.data import IterableDataset, get_worker_info

from ..errors import OssUsageError
from ..index.info import ObjectInfo
from ..index.orders import NO_CHUNKS, Chunking, RankBalance, Share, Taken, View, ordered
from ..index.shared import ObjectIndex, SharedNumbers
from .job import reads_for_all, warn_of_everything, worker_share
from .state import Anchor, EpochState, checked_epoch

T = TypeVar("T")


class EpochRun(Generic[T]):
    """One share of an epoch, from where `state` stands: what comes next, and the state that tells how far it has come.

    `items` are all items by number. `consumed` is how many of the share have been given out.
    """

    def __init__(
        self,
        items: View[T],
        state: EpochState,
        share: Share,
        *,
        seed: int | None,
        ranks: int = 1,
        balance: RankBalance = "none",
        chunking: Chunking = NO_CHUNKS,
    ) -> None:
        self._begun, self._share = state, share
        self._seed, self._balance = seed, balance
        self._is_striped = chunking is not NO_CHUNKS and (share.step > 1 or bool(state.taken))
        taken = [Taken(layer) for layer in state.taken]
        order: dict[str, Any] = {"seed": seed, "epoch": state.epoch, "chunking": chunking}
        # The order that was left after each layer of taken items: numbers in an anchor are those of one of these.
        shares = [*(len(layer.counts) for layer in taken), share.step]
        self._orders = [ordered(items, taken=taken[:n], shares=count, **order) for n, count in enumerate(shares)]
        self._order = ordered(items, taken=taken, shares=share.step, ranks=ranks, balance=balance, **order)
        self.consumed = state.consumed

    @property
    def epoch(self) -> int:
        """The epoch that this is a part of."""
        return self._begun.epoch

    def remaining(self) -> Iterator[T]:
        """Yield the items that come next."""
        return self._order.items(self._share.number(self.consumed), self._share.step)

    def state(self) -> EpochState:
        """Return where the run stands now."""
        return dataclasses.replace(self._begun, share=self._share, consumed=self.consumed)


class ObjectRun(EpochRun[ObjectInfo]):
    """A share of an epoch of objects. Its state also tells whether the listing is still the same when it is resumed."""

    def __init__(self, index: ObjectIndex, state: EpochState, share: Share, **order: Any) -> None:
        super().__init__(index, state, share, **order)
        self._index = index

    def check(self) -> None:
        """Raise `OssUsageError` if the objects are not those of which the state was taken."""
        rows, anchor = self._begun.rows, self._begun.anchor
        if rows >= 0 and self._index.count() != rows:
            raise OssUsageError(
                f"the state is of {rows} objects and now there are {self._index.count()}: a shuffled or balanced epoch "
                "can't go on; keep the listing with save_index and from_index"
            )
        # If the anchor is the object that was given out last, it shows that there is one of that number. Otherwise the
        # count has to, and that waits for the end of the listing.
        furthest = self._begun.furthest()
        if furthest is not None and (anchor is None or furthest != (anchor.layers, anchor.number)):
            self._begun.check_against(self._index.count())
        if anchor is not None and self._digest(anchor.layers, anchor.number) != anchor.digest:
            raise OssUsageError(
                "the state is of another listing: objects have come or gone before the position in it; keep the "
                "listing with save_index and from_index"
            )

    def state(self) -> EpochState:
        """Return where the run stands now, with what tells its listing from others."""
        begun, anchor = self._begun, self._begun.anchor
        if self.consumed > begun.consumed:
            layers, number = len(self._orders) - 1, self._share.number(self.consumed - 1)
            digest = self._digest(layers, number)
            anchor = Anchor(layers, number, digest) if digest else None
        depends_on_count = self._seed is not None or self._balance != "none" or self._is_striped
        rows = self._index.count() if depends_on_count and self.consumed else begun.rows
        return dataclasses.replace(begun, share=self._share, consumed=self.consumed, rows=rows, anchor=anchor)

    def _digest(self, layers: int, number: int) -> str:
        """Return a digest of the object's URI; "" if there is none of this number."""
        for info in self._orders[layers].at([number]):
            return hashlib.blake2b(str(info.uri).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()
        return ""


class Slot(IntEnum):
    """Where the numbers are that all processes of a dataset share (`SharedNumbers`).

    Slot `BEGUN + n` has the number of the loaded state that worker n has begun with last.
    """

    EPOCH = 0
    SKIPPED = 1
    LOADED = 2
    WARNED = 3
    BEGUN = 4


class _Loaded(NamedTuple):
    """A state that was loaded: its number among all that were, and the process that loaded it."""

    state: EpochState
    number: int
    pid: int


class ResumableDataset(IterableDataset[Any]):
    """Objects in an order that is computed from their numbers, so that a small state tells where an iterator stands.

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
        balance: RankBalance = "none",
        undecided: str = "",
        chunking: Chunking = NO_CHUNKS,
    ) -> None:
        self._index, self._identity, self._undecided = index, identity, undecided
        self._numbers = SharedNumbers(folder=folder, initial={Slot.EPOCH: epoch})
        self._seed, self._rank, self._balance, self._chunking = seed, rank, balance, chunking
        self._loaded: _Loaded | None = None
        self._run: ObjectRun | None = None

    @property
    def epoch(self) -> int:
        """The epoch that the next iterators start, in all processes."""
        return self._numbers.get(Slot.EPOCH)

    def set_epoch(self, epoch: int) -> None:
        """Start epoch `epoch` with the next iterators, also in workers that are already running.

        Raises `OssUsageError` if it is not a whole number of at most 64 bits.
        """
        epoch = checked_epoch(epoch)
        self._numbers.set(Slot.EPOCH, epoch)
        self._run = None
        if self._loaded is not None and self._loaded.state.epoch != epoch:
            self._loaded = None

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the latest iterator in this process, as a small dictionary. Cheap at every step.

        Raises `OssUsageError` if the dataset has no position (`in_order=False`).
        """
        reason = self._no_position()
        if reason:
            raise OssUsageError(reason)
        if self._run is None:
            self._run = self._next_run()
        return self._run.state().to_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Let the next iterator continue from `state_dict`, with the next object; earlier objects are not fetched.

        Load the state of one process in the process with the same rank and worker number, in a job with as many ranks
        and workers. Load the result of `merge_states` before the loader starts, in any job. Raises `OssUsageError` for
        the state of another dataset, and for a value that is not a state. The next iterator raises `OssUsageError` if
        the objects have changed.
        """
        state = EpochState.from_dict(state_dict)
        if state.dataset != self._fingerprint():
            raise OssUsageError("the state is of another dataset: other objects, another shuffle, seed or even=")
        self._numbers.set(Slot.EPOCH, state.epoch)
        self._loaded = _Loaded(state, self._numbers.add(Slot.LOADED, 1), os.getpid())
        self._run = None

    def __iter__(self) -> Iterator[Any]:
        self._warn_if_undecided()
        self._run = run = self._next_run()
        self._note_begun()
        return self._given_out(run)

    def __getstate__(self) -> dict[str, Any]:
        if get_spawning_popen() is not None:
            self._warn_if_undecided()  # a worker that is spawned doesn't know of the ranks
        return {**self.__dict__, "_run": None}

    def _given_out(self, run: ObjectRun) -> Generator[Any, None, None]:
        """Yield the items of a run and count them: the loop that every epoch of every dataset goes through."""
        run.check()
        items = self._items(run)
        try:
            for item in items:
                run.consumed += 1
                yield item
        finally:
            if isinstance(items, Generator):
                items.close()  # now, not when it is collected: requests may be in flight

    def _items(self, run: ObjectRun) -> Iterator[Any]:
        """Yield an item for each of the remaining objects of a run; what is left out counts as consumed, too."""
        raise NotImplementedError

    def _no_position(self) -> str:
        return ""

    def _index_of(self, epoch: int) -> ObjectIndex:
        return self._index

    def _next_run(self) -> ObjectRun:
        """Return what the next iterator goes through, seen from this process."""
        state = self._pending() or EpochState(self._fingerprint(), self.epoch, None)
        share = worker_share().within(self._rank)
        if state.share is not None and state.share != share:
            raise OssUsageError(
                f"the state is of share {state.share.first} of {state.share.step}, and this is share {share.first} of "
                f"{share.step}: load it with as many ranks and workers, or merge the states of all by merge_states"
            )
        index, ranks = self._index_of(state.epoch), self._rank.step
        order = {"seed": self._seed, "balance": self._balance, "chunking": self._chunking}
        return ObjectRun(index, state, share, ranks=ranks, **order)

    def _pending(self) -> EpochState | None:
        """Return the loaded state that this process has not begun with yet."""
        if self._loaded is None:
            return None
        state, number, pid = self._loaded
        worker = get_worker_info()
        if worker is not None and pid != os.getpid() and self._numbers.get(Slot.BEGUN + worker.id) == number:
            return None
        return state

    def _note_begun(self) -> None:
        """Note that this process has begun with the loaded state: workers that come after this one go on from there."""
        if self._loaded is None:
            return
        worker = get_worker_info()
        if worker is not None and self._loaded.pid != os.getpid():
            self._numbers.set(Slot.BEGUN + worker.id, self._loaded.number)
        self._loaded = None

    def _warn_if_undecided(self) -> None:
        """Warn once for the whole job that each rank reads everything, unless the user has chosen that."""
        if self._undecided and reads_for_all() and self._numbers.add(Slot.WARNED, 1) == 1:
            warn_of_everything(self._undecided)

    def _fingerprint(self) -> str:
        text = f"{self._identity} {self._seed} {self._balance}{self._chunking.identity}"
        return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()
