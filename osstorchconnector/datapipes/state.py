"""Where an epoch stands, as a small dictionary of plain values, and one such state from those of all processes. Pure.

An epoch is an order of objects, shared out by strides. So a share and how many of its objects have been given out say
everything. When the states of all shares are merged, what each has had becomes one layer of "taken" objects; an epoch
that goes on from there has the rest, shared out anew, and may be broken off and merged again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import OssUsageError
from .sharder import Share

_MARK = "osstorchconnector_epoch"
_VERSION = 1


@dataclass(frozen=True)
class Anchor:
    """An object that has been given out: its number in the order that is left after `layers`, and a digest of its URI.

    It shows whether the listing is still the same when the epoch goes on.
    """

    layers: int
    number: int
    digest: str


@dataclass(frozen=True)
class EpochState:
    """How far one process, or a whole job (`share` is `None`), has come in an epoch."""

    dataset: str
    epoch: int
    share: Share | None
    consumed: int = 0
    taken: tuple[tuple[int, ...], ...] = ()
    rows: int = -1  # of the whole index, where the order depends on it
    anchor: Anchor | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON could hold it."""
        anchor = self.anchor
        return {
            _MARK: _VERSION,
            "dataset": self.dataset,
            "epoch": self.epoch,
            "share": None if self.share is None else list(self.share),
            "consumed": self.consumed,
            "taken": [list(layer) for layer in self.taken],
            "rows": self.rows,
            "anchor": None if anchor is None else [anchor.layers, anchor.number, anchor.digest],
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> EpochState:
        """Return what `to_dict` gave; `OssUsageError` for anything else."""
        if not isinstance(state, Mapping) or state.get(_MARK) != _VERSION:
            raise OssUsageError("this is not the state of a dataset of this library (or of another version of it)")
        try:
            share, anchor = state["share"], state["anchor"]
            return cls(
                dataset=state["dataset"],
                epoch=state["epoch"],
                share=None if share is None else Share(*share),
                consumed=state["consumed"],
                taken=tuple(map(tuple, state["taken"])),
                rows=state["rows"],
                anchor=None if anchor is None else Anchor(*anchor),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise OssUsageError(f"the state is damaged: {type(error).__name__}: {error}") from error


def merge_states(states: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one state from those of every rank and every worker, for a job of any number of ranks and workers.

    `states` are what `state_dict()` of the dataset gave in each process, or what `StatefulDataLoader.state_dict()`
    gave on each rank (with `snapshot_every_n_steps=1`). The dataset's `load_state_dict` takes the result, before the
    new loader starts; what is left of the epoch is then shared out anew. `OssUsageError` names a share that is missing.
    """
    found = [EpochState.from_dict(state) for given in states for state in _states_in(given)]
    if not found:
        raise OssUsageError("no state of a dataset of this library among those to merge")
    if len(found) == 1 and found[0].share is None:
        return found[0].to_dict()
    counts = _counts(found)
    first = found[0]
    anchors = [state.anchor for state in found if state.anchor is not None]
    merged = replace(
        first,
        share=None,
        consumed=0,
        taken=(*first.taken, counts) if any(counts) else first.taken,
        rows=max(state.rows for state in found),
        anchor=max(anchors, key=lambda anchor: (anchor.layers, anchor.number), default=None),
    )
    return merged.to_dict()


def _counts(states: Sequence[EpochState]) -> tuple[int, ...]:
    """Return what each share has had; the states must be of one epoch, and of all shares."""
    first = states[0]
    counts: dict[int, int] = {}
    for state in states:
        if (state.dataset, state.epoch, state.taken) != (first.dataset, first.epoch, first.taken):
            raise OssUsageError("the states to merge are of different datasets or epochs")
        if state.share is None or first.share is None or state.share.step != first.share.step:
            raise OssUsageError("the states to merge are of different numbers of ranks and workers")
        if state.share.first in counts:
            raise OssUsageError(f"share {state.share.first} is there twice among the states to merge")
        counts[state.share.first] = state.consumed
    shares = range(first.share.step if first.share is not None else 0)
    missing = [share for share in shares if share not in counts]
    if missing:
        raise OssUsageError(
            f"shares {missing} of {len(shares)} are missing among the states to merge: "
            "give those of every rank and every worker"
        )
    return tuple(counts[share] for share in shares)


def _states_in(given: Any) -> Iterator[Mapping[str, Any]]:
    """Yield our states in whatever a loader puts around them."""
    if isinstance(given, Mapping):
        if _MARK in given:
            yield given
            return
        if given.get("_steps_since_snapshot"):
            raise OssUsageError("the loader's state is of an earlier step: give it snapshot_every_n_steps=1")
        for value in given.values():
            yield from _states_in(value)
    elif isinstance(given, list | tuple):
        for value in given:
            yield from _states_in(value)
