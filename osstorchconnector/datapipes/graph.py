"""A graph of pipes as a dataset: divided among DataLoader workers, and resumable."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from typing import Any

from ..errors import OssUsageError
from ..files.data_object import DataObject
from .fetcher import OssObjectFetcher
from .numbered_objects import NumberedObjects, OssObjectSharder, OssObjectShuffler, functional
from .resumable import ObjectRun, ResumableDataset
from .torch_pipes import IterDataPipe, Mapper, ShardingFilter, StreamWrapper, traverse_dps

_UNDECIDED = (
    "take an OssIterableDataset with shard_ranks=True to share them out, or call shard_ranks(Share(rank, world_size)) "
    "of the graph's sharder before to_dataset(), with Share() if that is meant"
)


@functional("as_named_streams")
class OssNamedStreams(IterDataPipe[tuple[str, StreamWrapper]]):
    """Yield (uri, stream) for each `DataObject` (functional form: `as_named_streams`).

    This is what `load_from_tar` and `load_from_zip` take.
    """

    def __init__(self, source: Iterable[DataObject]) -> None:
        self._source = source

    def __len__(self) -> int:
        """Return the length of the source, if it has one."""
        return len(self._source)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[str, StreamWrapper]]:
        for data in self._source:
            yield data.uri, StreamWrapper(data, name=data.uri)


class OssPipeDataset(ResumableDataset):
    """The items of a graph of pipes (`pipe.to_dataset()`). Each worker gets its share, and the epoch can be resumed.

    The graph is one chain from `list_oss_objects`, `parse_oss_manifest` or names through `shard_oss_objects`. If each
    stage after `shard_oss_objects` yields exactly one item per input (ours by default, and `map`), `state_dict` gives
    the position of the latest iterator. Stages that read ahead, combine items or drop items have no position: batch in
    the DataLoader and shuffle by `shuffle_oss_objects` instead. Each iterator runs a copy of the graph, so several may
    run at once.
    """

    def __init__(self, pipe: IterDataPipe[Any]) -> None:
        stages = list(_chain(pipe))
        sharder = next((stage for stage in stages if isinstance(stage, OssObjectSharder)), None)
        source = stages[-1]
        if sharder is None or not isinstance(source, NumberedObjects) or source.index is None:
            raise OssUsageError(
                "to_dataset() takes a chain of pipes that begins with a lister, a manifest parser or names, followed "
                "by shard_oss_objects()"
            )
        shuffler = next((stage for stage in stages if isinstance(stage, OssObjectShuffler)), None)
        super().__init__(
            source.index,
            source.identity,
            folder=source.index.folder,
            seed=None if shuffler is None else shuffler.seed_in_use,
            epoch=0 if shuffler is None else shuffler.epoch,
            rank=sharder.rank,
            balance=sharder.balance,
            undecided="" if sharder.is_decided else _UNDECIDED,
            chunking=sharder.chunking,
        )
        self._pipe = pipe
        self._obstacle = _obstacle(stages[: stages.index(sharder)])

    def _items(self, run: ObjectRun) -> Iterator[Any]:
        graph = copy.deepcopy(self._pipe)
        for stage in _chain(graph):
            if isinstance(stage, OssObjectSharder):
                stage.begin_at(run.remaining)
        return iter(graph)

    def _no_position(self) -> str:
        return self._obstacle


def to_dataset(pipe: IterDataPipe[Any]) -> OssPipeDataset:
    """Return the graph that ends with `pipe` as a dataset for DataLoader and StatefulDataLoader."""
    return OssPipeDataset(pipe)


def _chain(pipe: IterDataPipe[Any]) -> Iterator[IterDataPipe[Any]]:
    """Yield the stages from the last to the first. Raise `OssUsageError` if the graph branches."""
    graph: Any = traverse_dps(pipe)
    while graph:
        if len(graph) > 1:
            raise OssUsageError("to_dataset() takes one chain of pipes, and this graph branches")
        ((stage, graph),) = graph.values()
        if type(stage) is not ShardingFilter:  # a part of our sharder, no stage of its own
            yield stage


def _obstacle(stages: list[IterDataPipe[Any]]) -> str:
    """Return why there is no position after these stages; "" if there is one."""
    for stage in stages:
        name = type(stage).__name__
        if isinstance(stage, OssObjectFetcher):
            if not stage.is_one_to_one:
                return f"{name} with in_order=False or on_error has no position: leave that out"
        elif type(stage) is not Mapper and not isinstance(stage, OssNamedStreams):
            return (
                f"there is no position behind {name}, which reads ahead or changes the number of items: batch in the "
                "DataLoader, shuffle by shuffle_oss_objects() before shard_oss_objects(), or use OssIterableDataset"
            )
    return ""


# A method of all iterable pipes, since a graph may end with one of torch's. If this module is loaded again, the new
# function replaces the old one.
IterDataPipe.functions["to_dataset"] = to_dataset
