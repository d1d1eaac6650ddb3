"""A sampler for map datasets: shuffled and shared out by arithmetic, and resumable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from typing import Any

from torch.utils.data import Sampler

from ..datapipes.job import reads_for_all, this_rank, warn_of_everything
from ..datapipes.resumable import EpochRun
from ..datapipes.state import EpochState, checked_epoch
from ..errors import OssConfigError, OssUsageError
from ..index.orders import Numbers, RankBalance, Share, balanced
from .shown import counted

_UNDECIDED = "give ResumableSampler shard_ranks=True to share them out, or shard_ranks=False if that is meant"


class ResumableSampler(Sampler[int]):
    """Yields the numbers of a map dataset's objects, for `DataLoader(dataset, sampler=...)` and StatefulDataLoader.

    The order is that of `OssIterableDataset`. Each number is computed when it is needed; there is no list in memory.

    data: Sized | int
        The dataset, or the number of objects.
    shuffle: bool = True
        True: each epoch (see `set_epoch`) has another order, which depends only on `seed` and the epoch.
    seed: int = 0
        The seed of `shuffle`.
    shard_ranks: bool | None = None
        True: each rank of torch.distributed has its share. False: each rank has all numbers. None: the same, with a
        warning if there are several ranks.
    even: "none" | "drop" | "repeat" = "none"
        With `shard_ranks`, gives all ranks the same number of objects: "drop" leaves out the last few, "repeat" yields
        a few twice.

    `state_dict()` returns the position of the latest iterator; after `load_state_dict()` the next iterator continues
    from it. `merge_states` makes one state from those of all ranks, for another number of ranks.

    Raises `OssConfigError` for another value of `even`, and `OssUsageError` for `shard_ranks` without an initialized
    torch.distributed, and for a state that does not fit.
    """

    def __init__(
        self,
        data: Sized | int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        shard_ranks: bool | None = None,
        even: RankBalance = "none",
    ) -> None:
        if even not in ("none", "drop", "repeat"):
            raise OssConfigError(f"even: {even!r} is none of none, drop, repeat")
        self._numbers = Numbers(data if isinstance(data, int) else len(data))
        self._seed, self._balance = seed if shuffle else None, even
        self._share = Share(*this_rank("shard_ranks=True")) if shard_ranks else Share()
        self._is_undecided = shard_ranks is None
        self._identity = f"numbers {self._numbers.count()} {self._seed} {even}"
        self._is_loaded = False
        self._run = self._run_at(self._start_of(0))

    def set_epoch(self, epoch: int) -> None:
        """Start epoch `epoch` with the next iterator; a loaded state of the same epoch stays in effect.

        Raises `OssUsageError` if it is not a whole number of at most 64 bits.
        """
        epoch = checked_epoch(epoch)
        if epoch != self._run.epoch:
            self._run = self._run_at(self._start_of(epoch))
            self._is_loaded = False

    def __repr__(self) -> str:
        notes = [counted(self._numbers.count(), "number"), f"epoch {self._run.epoch}"]
        notes += [] if self._seed is None else [f"shuffled by seed {self._seed}"]
        notes += [f"rank {self._share.first} of {self._share.step}"] if self._share.step > 1 else []
        return f"<ResumableSampler of {', '.join(notes)}, {self._run.consumed:,} given out>"

    def __len__(self) -> int:
        """Return how many numbers this rank yields in a whole epoch."""
        return len(self._share.numbers(balanced(self._numbers.count(), self._share.step, self._balance)))

    def __iter__(self) -> Iterator[int]:
        if self._is_undecided and reads_for_all():
            self._is_undecided = False
            warn_of_everything(_UNDECIDED)
        # A loader may ask for the iterator long before it begins: only then does the state count.
        if not self._is_loaded:
            self._run = self._run_at(self._start_of(self._run.epoch))
        self._is_loaded = False
        # The same run as a dataset's, counted here: a sampler has no requests to close and no listing to check.
        run = self._run
        for number in run.remaining():
            run.consumed += 1
            yield number

    def state_dict(self) -> dict[str, Any]:
        """Return the position of the latest iterator, as a small dictionary."""
        return self._run.state().to_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Let the next iterator continue from `state_dict`; `OssUsageError` for the state of another sampler."""
        state = EpochState.from_dict(state_dict)
        if state.dataset != self._identity:
            raise OssUsageError("the state is of another sampler: other numbers, another shuffle, seed or even=")
        if state.share is not None and state.share != self._share:
            raise OssUsageError(
                f"the state is of rank {state.share.first} of {state.share.step}, and this is rank {self._share.first} "
                f"of {self._share.step}: merge the states of all ranks by merge_states"
            )
        state.check_against(self._numbers.count())
        self._run = self._run_at(state)
        self._is_loaded = True

    def _start_of(self, epoch: int) -> EpochState:
        return EpochState(self._identity, epoch, self._share)

    def _run_at(self, state: EpochState) -> EpochRun[int]:
        ranks = self._share.step
        return EpochRun(self._numbers, state, self._share, seed=self._seed, ranks=ranks, balance=self._balance)
