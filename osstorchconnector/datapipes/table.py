"""MapDataPipes, which give objects by number: their `ObjectInfo`s or their bytes, one object or a batch at a time.

    numbers -> `OssObjectTable` -> `ObjectInfo`s -> `OssObjectMapFetcher` -> `DataObject`s, those of a batch in parallel

Subclasses of `FetchesBatches` can be joined by `+` (`OssConcatDataset`) and still fetch a batch in parallel.
"""

from __future__ import annotations

import contextlib
import operator
from abc import abstractmethod
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeGuard

from torch.utils.data import ConcatDataset, Dataset

from ..client.client import OssClient, as_client
from ..errors import OssError, OssUsageError
from ..files.data_object import DataObject
from ..index.info import ObjectInfo
from ..index.orders import View
from ..index.shared import SharedNumbers
from ..uri import MemberUri
from .fetcher import (
    OnError,
    Skipping,
    as_info,
    checked_transform,
    data_object,
    fetch,
    first_span,
    identity,
    transformed,
)
from .job import exit_when_job_is_killed
from .numbered_objects import NumberedObjects, functional
from .torch_pipes import IterDataPipe, MapDataPipe

_NOTHING: Any = object()


class LeftOut(NamedTuple):
    """The placeholder for an object that `on_error="skip"` leaves out."""

    error: OssError


class FetchesBatches:
    """A map of objects that fetches those of a batch in parallel, also when joined to others by `+`."""

    @abstractmethod
    def outcomes(self, positions: Sequence[int]) -> Generator[Any, None, None]:
        """Yield an object, or a `LeftOut`, for each of `positions`; the first requests are sent at once."""

    def __add__(self, other: Dataset[Any]) -> OssConcatDataset:
        return OssConcatDataset([self, other])  # type: ignore[list-item]


class OssObjectTable(MapDataPipe[ObjectInfo]):
    """Objects by number: the `ObjectInfo`s of a lister, a manifest parser or a list of names, shuffled or not.

    Functional form, of those pipes: `index_oss_objects`. `len` waits until the listing is done. Negative numbers count
    from the end. Slices are not supported.
    """

    def __init__(self, source: NumberedObjects) -> None:
        if not isinstance(source, NumberedObjects) or source.index is None:
            raise OssUsageError("objects that come through a pipe have no numbers: give the prefixes or names directly")
        self._source = source

    def __len__(self) -> int:
        return self._view().count()

    def __getitem__(self, position: int | Sequence[int]) -> Any:
        if is_batch(position):
            return self.__getitems__(position)
        (info,) = self._view().at([checked_position(position, len(self))])
        return info

    def __getitems__(self, positions: Sequence[int]) -> list[ObjectInfo]:
        """Return the `ObjectInfo`s of several objects, in the order of `positions`."""
        view = self._view()
        count = view.count()
        return list(view.at([checked_position(position, count) for position in positions]))

    def infos(self) -> Iterator[ObjectInfo]:
        """Yield all `ObjectInfo`s, each as soon as it is listed."""
        return self._view().items()

    def _view(self) -> View[ObjectInfo]:
        view = self._source.view()
        assert view is not None
        return view


@functional("fetch_oss_objects")
class OssObjectMapFetcher(FetchesBatches, MapDataPipe[Any]):
    """Fetch objects by number, several at a time in parallel (functional form: `fetch_oss_objects`).

    A batch, or a list of numbers in square brackets, is fetched in parallel. `a + b` does the same with the objects of
    both.

    With `on_error="skip"`, an object that can't be read even after retries is left out of a batch or an iteration,
    logged and counted in `skipped_objects`. The error is raised if it would leave a batch empty, or if the object was
    asked for by its own number. If `on_error` is a function, it is called with the `ObjectInfo` and the error: what it
    returns, if not None, stands in the place of the object. It may raise.
    """

    def __init__(
        self,
        source: MapDataPipe[ObjectInfo],
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
        self._source = source
        self._client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)
        self._transform = checked_transform(transform)
        self._skipping = Skipping(on_error, SharedNumbers(folder=self._client.config.index_dir))

    @property
    def skipped_objects(self) -> int:
        """The number of objects that all copies of this pipe have left out or replaced because they can't be read."""
        return self._skipping.count()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, position: int | Sequence[int]) -> Any:
        if not isinstance(position, int) and is_batch(position):
            return self.__getitems__(position)
        exit_when_job_is_killed()
        info = as_info(self._source[position])
        try:
            if isinstance(info.uri, MemberUri):
                return next(fetch(self._client, [info], transform=self._transform))
            data = data_object(self._client, info, self._client.get(info.uri, first_span(info)))
            return data if self._transform is identity else transformed(data, self._transform, info.uri)
        except OssError as error:
            return self._skipping.substitute(info, error)

    def __getitems__(self, positions: Sequence[int]) -> list[Any]:
        """Return the objects of a batch, in its order, fetched in parallel."""
        outcomes = self.outcomes(positions)
        return without_left_out(outcomes) if self._skipping.is_on else list(outcomes)

    def outcomes(self, positions: Sequence[int]) -> Generator[Any, None, None]:
        source = self._source
        if isinstance(source, OssObjectTable):
            infos = source.__getitems__(positions)
        else:
            infos = [as_info(source[position]) for position in positions]
        window = (len(infos), len(infos))  # neighbours in a tar come together, however the batch is ordered
        if not self._skipping.is_on:
            return fetch(self._client, infos, transform=self._transform, begin=True, window=window)
        left_out: deque[LeftOut] = deque()

        def skip(info: ObjectInfo, error: OssError) -> object:
            substitute = self._skipping(info, error)
            if substitute is None:
                left_out.append(LeftOut(error))
            return substitute

        fetched = fetch(self._client, infos, transform=self._transform, skip=skip, begin=True, window=window)
        return _with_left_out(fetched, left_out)

    def __iter__(self) -> Iterator[Any]:
        source = self._source
        infos = source.infos() if isinstance(source, OssObjectTable) else map(source.__getitem__, range(len(source)))
        skip = self._skipping if self._skipping.is_on else None
        return fetch(self._client, map(as_info, infos), transform=self._transform, skip=skip)


def _with_left_out(items: Generator[Any, None, None], left_out: deque[LeftOut]) -> Generator[Any, None, None]:
    """Yield the items, and each `LeftOut` in the place of its object."""
    with contextlib.closing(items):
        for item in items:
            while left_out:
                yield left_out.popleft()
            yield item
    yield from left_out


class OssConcatDataset(ConcatDataset[Any]):
    """Several map datasets as one, the result of `a + b`. The objects of a batch are fetched in parallel.

    A part that is not a dataset of this library fetches its objects of a batch by its own `__getitems__`, or else one
    after the other.
    """

    def __getitem__(self, position: Any) -> Any:
        """Return one object by its number, or several by a list of numbers."""
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
        """The number of objects that the parts have left out because they can't be read."""
        return sum(getattr(part, "skipped_objects", 0) for part in self.datasets)

    def _place(self, position: Any) -> tuple[int, int]:
        """Return the part that has the object, and the object's number in that part."""
        number = checked_position(position, len(self))
        part = bisect_right(self.cumulative_sizes, number)
        return part, number - (self.cumulative_sizes[part - 1] if part else 0)

    def _share(self, part: int, numbers: list[int]) -> contextlib.closing[Generator[Any, None, None]]:
        """Return the outcomes of a part. If it is a `FetchesBatches`, the first requests are already under way."""
        dataset: Any = self.datasets[part]
        is_ours = isinstance(dataset, FetchesBatches)
        return contextlib.closing(dataset.outcomes(numbers) if is_ours else _foreign(dataset, numbers))


def is_batch(position: Any) -> TypeGuard[Sequence[int]]:
    """Return whether `position` is several numbers: a list, a range, or an array or tensor of one dimension."""
    return isinstance(position, list | range) or getattr(position, "ndim", 0) == 1


def checked_position(position: Any, count: int) -> int:
    """Return the number of an object, counted from 0. Raise `IndexError` if out of range, `TypeError` for a slice."""
    if isinstance(position, slice):
        raise TypeError(
            "there are no slices: use torch.utils.data.Subset(dataset, range(...)), which fetches nothing by itself"
        )
    number = operator.index(position)
    if not -count <= number < count:
        raise IndexError(f"there is no object {number}: the dataset has {count}")
    return number % count


def without_left_out(outcomes: Iterable[Any]) -> list[Any]:
    """Return the objects that are not left out. If all are left out, raise the error of the last one."""
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


# A method of iterable pipes that returns a map pipe. torch's decorator has no way to register one. If this module is
# loaded again, the new class replaces the old one.
IterDataPipe.functions["index_oss_objects"] = OssObjectTable
