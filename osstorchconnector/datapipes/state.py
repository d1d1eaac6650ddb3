"""The state of an epoch as a small dictionary of plain values, and the merge of all processes' states into one.

An epoch is an order of objects, divided into shares by strides. So a share, with the number of its objects that were
given out, is the whole state of a process. Merging the states of all shares makes these numbers one layer of "taken"
objects. An epoch that resumes from the merged state has the remaining objects, divided again. It can also be
interrupted and merged.
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from ..errors import OssUsageError
from ..index.orders import Share, Taken

LARGEST_NUMBER = (1 << 63) - 1

_MARK = "osstorchconnector_epoch"
_VERSION, _VERSION_WITHOUT_CHECK = 2, 1
_SHOWN_SHARES = 10


@dataclass(frozen=True)
class Anchor:
    """An object that was given out: its number in the order that remains after `layers`, and a digest of its URI.

    When the epoch resumes, it shows whether the listing is still the same.
    """

    layers: int
    number: int
    digest: str


@dataclass(frozen=True)
class EpochState:
    """The progress of one process, or of a whole job (`share` is `None`), in an epoch."""

    dataset: str
    epoch: int
    share: Share | None
    consumed: int = 0
    taken: tuple[tuple[int, ...], ...] = ()
    rows: int = -1  # of the whole index, if the order depends on their number
    anchor: Anchor | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the state as values that JSON can represent."""
        anchor = self.anchor
        fields = {
            "dataset": self.dataset,
            "epoch": self.epoch,
            "share": None if self.share is None else list(self.share),
            "consumed": self.consumed,
            "taken": [list(layer) for layer in self.taken],
            "rows": self.rows,
            "anchor": None if anchor is None else [anchor.layers, anchor.number, anchor.digest],
        }
        return {_MARK: _VERSION, **fields, "check": _check_of(fields)}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> EpochState:
        """Return the state that `to_dict` gave. Raise `OssUsageError` for anything else."""
        if not isinstance(state, Mapping) or not _is_number(state.get(_MARK)):
            raise OssUsageError("this is not the state of a dataset of this library")
        if state[_MARK] not in (_VERSION, _VERSION_WITHOUT_CHECK):
            raise OssUsageError(f"the state is of another version of this library: its format is {state[_MARK]}")
        fields = {name: _field(name, state) for name in _SCHEMA}
        if state[_MARK] == _VERSION and state.get("check") != _check_of(fields):
            raise OssUsageError("the state is damaged: it is not as state_dict() gave it")
        share, anchor = fields["share"], fields["anchor"]
        found = cls(
            dataset=fields["dataset"],
            epoch=fields["epoch"],
            share=None if share is None else Share(*share),
            consumed=fields["consumed"],
            taken=tuple(map(tuple, fields["taken"])),
            rows=fields["rows"],
            anchor=None if anchor is None else Anchor(*anchor),
        )
        if (found.share is None and found.consumed) or (found.anchor and found.anchor.layers > len(found.taken)):
            raise OssUsageError("the state is damaged: its numbers do not belong together")
        return found

    def furthest(self) -> tuple[int, int] | None:
        """Return the number of layers and the number of the last object given out; `None` if none was given out."""
        if self.share is not None and self.consumed:
            return len(self.taken), self.share.number(self.consumed - 1)
        last = Taken(self.taken[-1]).last() if self.taken else -1
        return (len(self.taken) - 1, last) if last >= 0 else None

    def check_against(self, total: int) -> None:
        """Raise `OssUsageError` if the state has given out more objects than there can be in `total`."""
        for layer in map(Taken, self.taken):
            for share, count in layer.by_share():
                _check_given_out(count, share, total)
            total = layer.rest(total)
        if self.share is not None:
            _check_given_out(self.consumed, self.share, total)


def checked_epoch(epoch: Any) -> int:
    """Return the number of an epoch. Raise `OssUsageError` if it is not a whole number of 64 bits."""
    try:
        number = operator.index(epoch)
    except TypeError:
        number = LARGEST_NUMBER + 1
    if not -LARGEST_NUMBER <= number <= LARGEST_NUMBER:
        raise OssUsageError(f"epoch: {_shown(epoch)} is not a whole number of 64 bits")
    return number


def merge_states(states: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the states of all ranks and workers into one, for a job with any number of ranks and workers.

    `states` are the results of the dataset's (or sampler's) `state_dict()` in each process, or of
    `StatefulDataLoader.state_dict()` on each rank (with `snapshot_every_n_steps=1`). Give the result to
    `load_state_dict` of the dataset before the new loader starts: the rest of the epoch is then divided among the new
    ranks and workers. Raises `OssUsageError` if the state of a rank or worker is missing (the text says which), or if
    the states do not belong together.
    """
    if not isinstance(states, Iterable):
        raise OssUsageError(f"merge_states takes several states, not a {type(states).__name__}")
    try:
        found = [EpochState.from_dict(state) for given in states for state in _states_in(given)]
    except RecursionError:
        raise OssUsageError("the states to merge are nested too deeply, or contain themselves") from None
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
    """Return how many objects each share has given out. The states must be of one epoch and include every share."""
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
    if len(counts) < len(shares):
        missing = list(islice((share for share in shares if share not in counts), _SHOWN_SHARES))
        more = "..." if len(shares) - len(counts) > len(missing) else ""
        raise OssUsageError(
            f"shares {missing}{more} of {len(shares)} are missing among the states to merge: "
            "give those of every rank and every worker"
        )
    return tuple(counts[share] for share in shares)


def _states_in(given: Any) -> Iterator[Mapping[str, Any]]:
    """Yield this library's states from the nested state of a loader."""
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


def _is_number(value: Any, least: int = 0) -> bool:
    return type(value) is int and least <= value <= LARGEST_NUMBER


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _is_share(value: Any) -> bool:
    return _is_list(value) and len(value) == 2 and all(map(_is_number, value)) and value[0] < value[1]


def _is_taken(value: Any) -> bool:
    return _is_list(value) and all(_is_list(layer) and layer and all(map(_is_number, layer)) for layer in value)


def _is_anchor(value: Any) -> bool:
    return _is_list(value) and len(value) == 3 and all(map(_is_number, value[:2])) and isinstance(value[2], str)


_SCHEMA: Mapping[str, Callable[[Any], bool]] = {
    "dataset": lambda value: isinstance(value, str),
    "epoch": lambda value: _is_number(value, -LARGEST_NUMBER),
    "share": lambda value: value is None or _is_share(value),
    "consumed": _is_number,
    "taken": _is_taken,
    "rows": lambda value: _is_number(value, -1),
    "anchor": lambda value: value is None or _is_anchor(value),
}


def _field(name: str, state: Mapping[str, Any]) -> Any:
    if name not in state:
        raise OssUsageError(f"the state is damaged: it has no {name!r}")
    value = state[name]
    if not _SCHEMA[name](value):
        raise OssUsageError(f"the state is damaged: its {name!r} is {_shown(value)}")
    return value


def _check_of(fields: Mapping[str, Any]) -> str:
    """Return a digest of the fields, which shows whether they were changed."""
    return hashlib.blake2b(json.dumps(fields, sort_keys=True).encode(), digest_size=8).hexdigest()


def _check_given_out(count: int, share: Share, total: int) -> None:
    held = len(share.numbers(total))
    if count > held + 1:  # even="repeat" gives a share one more
        raise OssUsageError(f"the state is damaged: it has {count} objects given out of a share of {held}")


def _shown(value: Any) -> str:
    is_short = value is None or isinstance(value, bool | float) or (type(value) is int and abs(value) <= 1 << 64)
    return repr(value) if is_short else f"a {type(value).__name__}"
