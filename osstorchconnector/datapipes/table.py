"""Objects by number, as MapDataPipes: the table of them, and their bytes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch.utils.data import IterDataPipe, MapDataPipe

from ..client.access import as_client
from ..client.client import OssClient
from ..errors import OssError, OssUsageError
from ..objects.data_object import DataObject
from ..objects.info import ObjectInfo
from ..objects.shared_numbers import SharedNumbers
from ..objects.views import View
from .common import NumberedObjects, functional
from .fetcher import as_info, checked_transform, data_object, fetch, first_span, identity, transformed
from .skipping import OnError, Skipping


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

    def __getitem__(self, position: int) -> ObjectInfo:
        return self.__getitems__([position])[0]

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
class OssObjectMapFetcher(MapDataPipe[Any]):
    """Fetch objects by number; several at a time in parallel (functional form: `fetch_oss_objects`).

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

    def __getitem__(self, position: int) -> Any:
        info = as_info(self._source[position])
        data = data_object(self._client, info, self._client.get(info.uri, first_span(info)))
        return data if self._transform is identity else transformed(data, self._transform)

    def __getitems__(self, positions: Sequence[int]) -> list[Any]:
        """Return the objects of a batch, in its order, fetched in parallel."""
        source = self._source
        if isinstance(source, OssObjectTable):
            infos = source.__getitems__(positions)
        else:
            infos = [as_info(source[position]) for position in positions]
        if not self._skipping.is_on:
            return list(fetch(self._client, infos, transform=self._transform))
        errors: list[OssError] = []

        def skip(info: ObjectInfo, error: OssError) -> None:
            self._skipping(info, error)
            errors.append(error)

        items = list(fetch(self._client, infos, transform=self._transform, skip=skip))
        if errors and not items:
            raise errors[-1]
        return items

    def __iter__(self) -> Iterator[Any]:
        source = self._source
        infos = source.infos() if isinstance(source, OssObjectTable) else map(source.__getitem__, range(len(source)))
        skip = self._skipping if self._skipping.is_on else None
        return fetch(self._client, map(as_info, infos), transform=self._transform, skip=skip)


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


# A form of iterable pipes that makes a map, which torch's decorator can't tell. A second load replaces its own.
IterDataPipe.functions["index_oss_objects"] = OssObjectTable
