"""Objects that have numbers, as pipes: all of them, in a random order, and this process's share of them.

    source of objects -> `NumberedObjects` -> `OssObjectShuffler` -> `OssObjectSharder` -> fetcher

Each stage works on numbers alone: it computes which objects come (index/orders.py), and no object passes through a
stage that leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from ..errors import OssUsageError
from ..index.chunks import Chunks
from ..index.fixed import FixedIndex
from ..index.info import ObjectInfo
from ..index.orders import NO_CHUNKS, Balanced, Chunking, RankBalance, Share, View, balanced, nested
from ..index.shared import ObjectIndex
from ..index.shared_file import Source
from .job import share_rank0_index
from .state import checked_epoch
from .torch_pipes import SHARDING_PRIORITIES, IterDataPipe, MapDataPipe, ShardingFilter, functional_datapipe

if TYPE_CHECKING:
    from typing_extensions import Self

Pipe = TypeVar("Pipe", bound=type)


def functional(name: str) -> Callable[[Pipe], Pipe]:
    """Register a pipe's functional form, as torch's decorator does; a module that is loaded again replaces its own."""

    def register(pipe: Pipe) -> Pipe:
        for kind in (IterDataPipe, MapDataPipe):
            registered = kind.functions.get(name)
            if issubclass(pipe, kind) and registered is not None and _is_earlier_load(registered, pipe):
                del kind.functions[name]
        functional_datapipe(name)(pipe)
        return pipe

    return register


def _is_earlier_load(registered: Callable[..., object], pipe: type) -> bool:
    (taken, *_) = getattr(registered, "args", (object,))
    return (taken.__module__, taken.__qualname__) == (pipe.__module__, pipe.__qualname__)


class NumberedObjects(IterDataPipe[ObjectInfo]):
    """Objects that have numbers: a sharder behind this pipe takes its share by arithmetic, without reading the rest.

    `index` is `None` where the objects depend on what comes through another pipe; then `stream` yields them.
    `identity` tells the objects from those of another pipe, on the next run, too. `bucket` is where they are, if that
    is known before they are listed. `chunking` tells which of them should stay together when they are shared out.
    `has_classes` tells whether their labels are numbers of folders, which depend on all of them. `where` names what
    they come from, for people.
    """

    has_classes, where = False, ""

    def __init__(
        self, index: ObjectIndex | None, identity: str = "", bucket: str = "", chunking: Chunking = NO_CHUNKS
    ) -> None:
        self.index, self.identity, self.bucket, self.chunking = index, identity, bucket, chunking

    @property
    def awaited_bucket(self) -> str:
        """The bucket of objects that are still being listed; "" if all are known, or where they are is not."""
        return self.bucket if self.index is None or not self.index.is_complete else ""

    def __len__(self) -> int:
        """Return the number of objects if it is known by now."""
        if self.index is None or not self.index.is_complete:
            raise TypeError(f"{type(self).__name__}: the number of objects is not known before they are listed")
        return self.index.count()

    def __iter__(self) -> Iterator[ObjectInfo]:
        return self.stream() if self.index is None else self.index.items()

    def view(self) -> View[ObjectInfo] | None:
        """Return the objects by number, in the order in which this pipe yields them."""
        return self.index

    def share_listing(self) -> Self:
        """Let all ranks of torch.distributed read rank 0's listing of these objects; return this pipe.

        It is a collective call: every rank makes it, at the same point of the program. Without it each rank lists for
        itself, and ranks that list at different moments may not agree.
        """
        if self.index is None:
            raise OssUsageError("objects that come through a pipe are listed by each process that reads them")
        share_rank0_index(self.index, "share_listing")
        return self

    def stream(self) -> Iterator[ObjectInfo]:
        """Yield the objects that follow from another pipe's items."""
        raise NotImplementedError


@functional("shuffle_oss_objects")
class OssObjectShuffler(NumberedObjects):
    """Yield all objects of a lister, a parser or a list of names in a random order (functional: `shuffle_oss_objects`).

    The order is one of all objects, decided by seed and epoch; it waits until all are known and takes no memory. Put
    it before `shard_oss_objects`. Loaders set its seed anew for each epoch through `apply_random_seed`, the same in all
    processes; without one it is `seed`, and `set_epoch` makes another order of it.

    With `chunk_rows`, objects stay in chunks of this many neighbours: the chunks are shuffled, and the objects in each.
    That suits members of tars: a few requests fetch a chunk.
    """

    def __init__(self, source: NumberedObjects, *, seed: int = 0, chunk_rows: int = 0) -> None:
        if source.index is None:
            raise OssUsageError("objects that come through a pipe have no numbers: give the prefixes or names directly")
        chunking = Chunks(chunk_rows, are_shuffled=True) if chunk_rows else NO_CHUNKS
        super().__init__(source.index, source.identity, source.bucket, chunking)
        self._source = source
        self._seed, self._epoch, self._is_on = seed, 0, True

    @property
    def seed_in_use(self) -> int | None:
        """The seed that orders the objects; `None` while shuffling is off."""
        return self._seed if self._is_on else None

    @property
    def epoch(self) -> int:
        """The epoch in whose order the objects come."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Order the objects as in epoch `epoch` from the next iterator on."""
        self._epoch = checked_epoch(epoch)

    def set_seed(self, seed: int) -> OssObjectShuffler:
        """Take another seed, as `apply_random_seed` does."""
        self._seed = seed
        return self

    def set_shuffle(self, shuffle: bool = True) -> OssObjectShuffler:
        """Leave the order as it is, or shuffle, as `apply_shuffle_settings` wants it."""
        self._is_on = shuffle
        return self

    def view(self) -> View[ObjectInfo] | None:
        below = self._source.view()
        if not self._is_on or below is None:
            return below
        return self.chunking.shuffled(below, self._seed, self._epoch)

    def __iter__(self) -> Iterator[ObjectInfo]:
        view = self.view()
        assert view is not None
        return view.items()


@functional("shard_oss_objects")
class OssObjectSharder(IterDataPipe[ObjectInfo]):
    """Yield this process's share of the objects (functional form: `shard_oss_objects`).

    Loaders set the share through `apply_sharding`, as they do with torch's `sharding_filter`; shares of different
    groups (ranks, then workers) are taken one within the other. Nobody set one: all objects.
    """

    def __init__(self, source: Iterable[ObjectInfo]) -> None:
        # The loaders talk to this stock pipe, through which nothing flows. It must be one: only of what stands before a
        # pipe of exactly this class does torchdata know that all processes need the same random seed.
        self._filter = ShardingFilter(source)  # type: ignore[arg-type]
        self._rank: Share | None = None
        self._balance: RankBalance = "none"
        self._given: Callable[[], Iterator[ObjectInfo]] | None = None

    def begin_at(self, rest: Callable[[], Iterator[ObjectInfo]]) -> None:
        """Yield what `rest` gives, which has shared out already, instead of a share of the source."""
        self._given = rest

    def shard_ranks(self, rank: Share, balance: RankBalance = "none") -> None:
        """Take this rank's share once and for all: a loader that shares out among ranks again gets an error."""
        self._rank, self._balance = rank, balance

    @property
    def awaited_bucket(self) -> str:
        """The bucket of objects that are still being listed; "" if all are known, or where they are is not."""
        return getattr(self._filter.source_datapipe, "awaited_bucket", "")

    @property
    def chunking(self) -> Chunking:
        """Which objects stay together."""
        return getattr(self._filter.source_datapipe, "chunking", NO_CHUNKS)

    @property
    def is_decided(self) -> bool:
        """Whether `shard_ranks` has been called."""
        return self._rank is not None

    @property
    def rank(self) -> Share:
        """The share that was taken by `shard_ranks`; everything if none was."""
        return Share() if self._rank is None else self._rank

    @property
    def balance(self) -> RankBalance:
        """How the ranks are balanced."""
        return self._balance

    @property
    def share(self) -> Share:
        """This process's share of all."""
        groups = self._filter.groups
        shares = [Share(instance, count) for _, (count, instance) in sorted(groups.items())]
        if self._rank is None:
            return nested(shares)
        if set(groups) - {SHARDING_PRIORITIES.MULTIPROCESSING}:
            raise OssUsageError(
                "the dataset shares out among ranks already (shard_ranks=True), and the loader does it again: make "
                "the dataset without shard_ranks, or give the dataset itself to a DataLoader instead of its datapipe"
            )
        return nested([self._rank, *shares])

    def __len__(self) -> int:
        """Return how many objects this process's share has, if the source knows how many there are."""
        return len(self.share.numbers(balanced(len(self._filter.source_datapipe), self.rank.step, self._balance)))

    def __iter__(self) -> Iterator[ObjectInfo]:
        # A pipe has no state: its share begins at the start, unless a resumed run gives what remains of it.
        if self._given is not None:
            return self._given()
        first, step = self.share
        source = self._filter.source_datapipe
        view = source.view() if isinstance(source, NumberedObjects) else None
        if view is not None:
            view = self.chunking.striped(view, step, is_shuffled=False)
            return Balanced(view, self.rank.step, self._balance).items(first, step)
        return islice(source, first, None, step)


def named(places: Sequence[str], kind: str) -> str:
    """Return what a person wants to read of where objects come from: the place, or how many of a kind there are."""
    return places[0] if len(places) == 1 else f"{len(places)} {kind}, {places[0]} ..." if places else f"no {kind}"


def stream_source(source: Source) -> Iterator[ObjectInfo]:
    """Yield all that a source has; nothing is kept."""
    for batch in source.batches(b"", Future.result):
        yield from FixedIndex([batch]).items()
