"""Objects by number, as MapDataPipes: the table of them, and their bytes."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from torch.utils.data import IterDataPipe, MapDataPipe

from ..client.client import OssClient, as_client
from ..errors import OssError, OssUsageError
from ..files.data_object import DataObject
from ..index.info import ObjectInfo
from ..index.orders import View
from ..index.shared import SharedNumbers
from .batches import FetchesBatches, LeftOut, checked_position, is_batch, without_left_out
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
from .numbered_objects import NumberedObjects, functional


class OssObjectTable(MapDataPipe[ObjectInfo]):
    """Objects by number: the `ObjectInfo`s of a lister, a manifest parser or a list of names, shuffled or not.

    Functional form, of those pipes: `index_oss_objects`. `len` waits until the listing is done. Negative numbers count
    from the end; there are no slices.
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
        """Return what is known of several objects, in the order of `positions`."""
        view = self._view()
        count = view.count()
        return list(view.at([checked_position(position, count) for position in positions]))

    def infos(self) -> Iterator[ObjectInfo]:
        """Yield all of them, each as soon as it is known."""
        return self._view().infos()

    def _view(self) -> View:
        view = self._source.view()
        assert view is not None
        return view


@functional("fetch_oss_objects")
class OssObjectMapFetcher(FetchesBatches, MapDataPipe[Any]):
    """Fetch objects by number; several at a time in parallel (functional form: `fetch_oss_objects`).

    Several are those of a batch, or of a list of numbers in square brackets. `a + b` does the same with the objects of
    both.

    With `on_error="skip"` what can't be read even after retries is left out of a batch, logged and counted in
    `skipped_objects`, and so it is when the pipe is iterated over; a function is called with the `ObjectInfo` and the
    error before that, and may raise. A batch of which nothing would be left is an error, and so is a single object
    asked for by its number.
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
        on_error: OnError = "raise",
    ) -> None:
        self._source = source
        self._client = as_client(
            endpoint, cred_path=cred_path, cred_provider=cred_provider, config_path=config_path, region=region
        )
        self._transform = checked_transform(transform)
        self._skipping = Skipping(on_error, SharedNumbers(folder=self._client.config.index_dir))

    @property
    def skipped_objects(self) -> int:
        """How many objects all copies of this pipe have left out because they can't be read."""
        return self._skipping.count()

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, position: int | Sequence[int]) -> Any:
        if not isinstance(position, int) and is_batch(position):
            return self.__getitems__(position)
        info = as_info(self._source[position])
        data = data_object(self._client, info, self._client.get(info.uri, first_span(info)))
        return data if self._transform is identity else transformed(data, self._transform)

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
        if not self._skipping.is_on:
            return fetch(self._client, infos, transform=self._transform, begin=True)
        left_out: deque[LeftOut] = deque()

        def skip(info: ObjectInfo, error: OssError) -> None:
            self._skipping(info, error)
            left_out.append(LeftOut(error))

        return _with_left_out(fetch(self._client, infos, transform=self._transform, skip=skip, begin=True), left_out)

    def __iter__(self) -> Iterator[Any]:
        source = self._source
        infos = source.infos() if isinstance(source, OssObjectTable) else map(source.__getitem__, range(len(source)))
        skip = self._skipping if self._skipping.is_on else None
        return fetch(self._client, map(as_info, infos), transform=self._transform, skip=skip)


def _with_left_out(items: Generator[Any, None, None], left_out: deque[LeftOut]) -> Generator[Any, None, None]:
    """Yield the items, and before each what was left out on the way to it."""
    with contextlib.closing(items):
        for item in items:
            while left_out:
                yield left_out.popleft()
            yield item
    yield from left_out


# A form of iterable pipes that makes a map, which torch's decorator can't tell. A second load replaces its own.
IterDataPipe.functions["index_oss_objects"] = OssObjectTable
