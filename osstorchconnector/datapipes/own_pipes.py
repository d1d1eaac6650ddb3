"""A base for pipes where torch has none: as much of torch's DataPipes as ours need, under the same names.

Functional forms (`lister.shard_oss_objects()`) work as with torch's. Of torch's own stages there are `map`, which has a
position, and `sharding_filter`, which shares out among the workers of a DataLoader by itself. No loader shares out
among ranks: `shard_ranks` of the sharder does, or `OssIterableDataset`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from typing import Any, ClassVar, TypeVar

from torch.utils.data import Dataset, IterableDataset, get_worker_info

T_co = TypeVar("T_co", covariant=True)
Kind = TypeVar("Kind", bound=type)


class IterDataPipe(IterableDataset[T_co]):
    """A stage of a graph. What `functional_datapipe` registers can be called as a method of each."""

    functions: ClassVar[dict[str, Callable[..., Any]]] = {}

    def __getattr__(self, name: str) -> Any:
        return _method(self, IterDataPipe.functions, name)


class MapDataPipe(Dataset[T_co]):
    """A stage whose items have numbers."""

    functions: ClassVar[dict[str, Callable[..., Any]]] = {}

    def __getattr__(self, name: str) -> Any:
        return _method(self, MapDataPipe.functions, name)


def _method(pipe: object, functions: dict[str, Callable[..., Any]], name: str) -> Any:
    if name not in functions:
        raise AttributeError(f"{type(pipe).__name__!r} object has no attribute {name!r}")
    return functools.partial(functions[name], pipe)


def functional_datapipe(name: str) -> Callable[[Kind], Kind]:
    """Return a decorator that registers a class of pipes as a method of all pipes of its kind."""

    def register(pipe: Kind) -> Kind:
        for kind in (IterDataPipe, MapDataPipe):
            if issubclass(pipe, kind):
                if name in kind.functions:
                    raise ValueError(f"the functional form {name} is taken by {kind.functions[name]}")
                kind.functions[name] = functools.partial(pipe)
        return pipe

    return register


@functional_datapipe("map")
class Mapper(IterDataPipe[Any]):
    """Yield what `fn` makes of each item (functional form: `map`)."""

    def __init__(self, datapipe: Iterable[Any], fn: Callable[[Any], Any]) -> None:
        self.datapipe, self.fn = datapipe, fn

    def __iter__(self) -> Iterator[Any]:
        return map(self.fn, self.datapipe)

    def __len__(self) -> int:
        return len(self.datapipe)  # type: ignore[arg-type]


class SHARDING_PRIORITIES(IntEnum):  # noqa: N801 - torch's name
    """The order in which shares are taken one within the other."""

    DEFAULT = 1
    DISTRIBUTED = 2
    MULTIPROCESSING = 3


@functional_datapipe("sharding_filter")
class ShardingFilter(IterDataPipe[Any]):
    """Yield this worker's share of the items (functional form: `sharding_filter`)."""

    def __init__(self, source_datapipe: Any) -> None:
        self.source_datapipe = source_datapipe
        self._given: dict[int, tuple[int, int]] = {}

    @property
    def groups(self) -> dict[int, tuple[int, int]]:
        """How many share and which of them this is, by group; a DataLoader's workers know that themselves."""
        worker = get_worker_info()
        if worker is None:
            return self._given
        return {SHARDING_PRIORITIES.MULTIPROCESSING: (worker.num_workers, worker.id), **self._given}

    def apply_sharding(
        self, num_of_instances: int, instance_id: int, sharding_group: int = SHARDING_PRIORITIES.DEFAULT
    ) -> None:
        """Take a share in one group, as a loader does that is made for pipes."""
        self._given[sharding_group] = (num_of_instances, instance_id)

    def __iter__(self) -> Iterator[Any]:
        step, first = 1, 0
        for _, (count, instance) in sorted(self.groups.items(), reverse=True):
            first += step * instance
            step *= count
        return (item for number, item in enumerate(self.source_datapipe) if number % step == first)


def StreamWrapper(stream: Any, name: str = "") -> Any:  # noqa: N802 - torch's name
    """Return the stream itself: a `DataObject` has all that archive readers ask for."""
    return stream


def traverse_dps(pipe: object) -> dict[int, tuple[object, Any]]:
    """Return the graph that ends with a pipe: by `id`, the pipe and the graphs that end with its sources."""
    sources: dict[int, tuple[object, Any]] = {}
    for value in vars(pipe).values():
        for candidate in value if isinstance(value, list | tuple) else (value,):
            if isinstance(candidate, IterDataPipe | MapDataPipe):
                sources |= traverse_dps(candidate)
    return {id(pipe): (pipe, sources)}
