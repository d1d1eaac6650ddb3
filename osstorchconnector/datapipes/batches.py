"""Objects asked for many at a time: which numbers are meant, and several maps of objects joined to one."""

from __future__ import annotations

import contextlib
import operator
from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeGuard

from torch.utils.data import ConcatDataset, Dataset

from ..errors import OssError

_NOTHING: Any = object()


class LeftOut(NamedTuple):
    """What stands for an object that `on_error="skip"` leaves out."""

    error: OssError


class FetchesBatches:
    """A map of objects that fetches those of a batch in parallel, also when joined to others by `+`."""

    @abstractmethod
    def outcomes(self, positions: Sequence[int]) -> Generator[Any, None, None]:
        """Yield an object, or a `LeftOut`, for each of `positions`; the first requests are sent at once."""

    def __add__(self, other: Dataset[Any]) -> OssConcatDataset:
        return OssConcatDataset([self, other])  # type: ignore[list-item]


class OssConcatDataset(ConcatDataset[Any]):
    """Several map datasets as one, what `a + b` makes of ours: the objects of a batch are fetched in parallel.

    A part that is not ours gives its share of a batch by its own `__getitems__`, or one object after the other.
    """

    def __getitem__(self, position: Any) -> Any:
        """Return the object of a number, or the objects of a list of numbers."""
        if is_batch(position):
            return self.__getitems__(position)
        part, number = self._place(position)
        return self.datasets[part][number]

    def __getitems__(self, positions: Sequence[int]) -> list[Any]:
        """Return the objects of a batch, in its order, fetched in parallel."""
        places = [self._place(position) for position in positions]
        numbers: dict[int, list[int]] = {}
        for part, number in places:
            numbers.setdefault(part, []).append(number)
        with contextlib.ExitStack() as stack:
            shares = {part: stack.enter_context(self._share(part, asked)) for part, asked in numbers.items()}
            outcomes = [next(shares[part], _NOTHING) for part, _ in places]
        return without_left_out(outcome for outcome in outcomes if outcome is not _NOTHING)

    def __iter__(self) -> Iterator[Any]:
        for part in self.datasets:
            yield from part if hasattr(part, "__iter__") else map(part.__getitem__, range(len(part)))  # type: ignore[arg-type]

    def __add__(self, other: Dataset[Any]) -> OssConcatDataset:
        return OssConcatDataset([*self.datasets, other])

    @property
    def skipped_objects(self) -> int:
        """How many objects the parts have left out because they can't be read."""
        return sum(getattr(part, "skipped_objects", 0) for part in self.datasets)

    def _place(self, position: Any) -> tuple[int, int]:
        """Return the part that has the object, and its number there."""
        number = checked_position(position, len(self))
        part = bisect_right(self.cumulative_sizes, number)
        return part, number - (self.cumulative_sizes[part - 1] if part else 0)

    def _share(self, part: int, numbers: list[int]) -> contextlib.closing[Generator[Any, None, None]]:
        """Return the outcomes of a part, of ours with the first requests under way."""
        dataset: Any = self.datasets[part]
        is_ours = isinstance(dataset, FetchesBatches)
        return contextlib.closing(dataset.outcomes(numbers) if is_ours else _foreign(dataset, numbers))


def is_batch(position: Any) -> TypeGuard[Sequence[int]]:
    """Say whether several numbers are meant: a list, a range, an array or tensor of one dimension."""
    return isinstance(position, list | range) or getattr(position, "ndim", 0) == 1


def checked_position(position: Any, count: int) -> int:
    """Return the number of an object, counted from 0; `IndexError` if there is none, `TypeError` for a slice."""
    if isinstance(position, slice):
        raise TypeError(
            "there are no slices: use torch.utils.data.Subset(dataset, range(...)), which fetches nothing by itself"
        )
    number = operator.index(position)
    if not -count <= number < count:
        raise IndexError(f"there is no object {number}: the dataset has {count}")
    return number % count


def without_left_out(outcomes: Iterable[Any]) -> list[Any]:
    """Return the objects that are not left out; raise the last error if none would be left."""
    items, left_out = [], None
    for outcome in outcomes:
        if isinstance(outcome, LeftOut):
            left_out = outcome
        else:
            items.append(outcome)
    if left_out is not None and not items:
        raise left_out.error
    return items


def _foreign(dataset: Any, numbers: list[int]) -> Generator[Any, None, None]:
    if callable(getattr(dataset, "__getitems__", None)):
        yield from dataset.__getitems__(numbers)
    else:
        yield from map(dataset.__getitem__, numbers)
