"""Who gets which object: every n-th, by number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple, TypeVar

from torch.utils.data import IterDataPipe
from torch.utils.data.datapipes.iter import ShardingFilter
from torch.utils.data.datapipes.iter.sharding import SHARDING_PRIORITIES

from ..errors import OssUsageError
from ..index.info import ObjectInfo
from ..index.orders import Evened, Evening, evened
from .numbered_objects import NumberedObjects, functional

T = TypeVar("T")


class Share(NamedTuple):
    """One of `step` equal shares: items `first`, `first + step`, `first + 2 * step` and so on."""

    first: int = 0
    step: int = 1

    def within(self, whole: Share) -> Share:
        """Return this share of what the share `whole` has; shares of all shares together are all, each item once."""
        return Share(whole.first + self.first * whole.step, whole.step * self.step)


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
        self._evening: Evening = "none"
        self._given: Callable[[], Iterator[ObjectInfo]] | None = None

    def begin_at(self, rest: Callable[[], Iterator[ObjectInfo]]) -> None:
        """Yield what `rest` gives, which has shared out already, instead of a share of the source."""
        self._given = rest

    def shard_ranks(self, rank: Share, evening: Evening = "none") -> None:
        """Take this rank's share once and for all: whoever shares out among ranks as well is told so."""
        self._rank, self._evening = rank, evening

    @property
    def is_decided(self) -> bool:
        """Whether `shard_ranks` has been called."""
        return self._rank is not None

    @property
    def rank(self) -> Share:
        """The share that was taken by `shard_ranks`; everything if none was."""
        return Share() if self._rank is None else self._rank

    @property
    def evening(self) -> Evening:
        """How the ranks are evened out."""
        return self._evening

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
        first, step = self.share
        return len(range(first, evened(len(self._filter.source_datapipe), self.rank.step, self._evening), step))

    def __iter__(self) -> Iterator[ObjectInfo]:
        if self._given is not None:
            return self._given()
        first, step = self.share
        source = self._filter.source_datapipe
        view = source.view() if isinstance(source, NumberedObjects) else None
        if view is not None:
            return Evened(view, self.rank.step, self._evening).infos(first, step)
        return islice(source, first, None, step)


def nested(shares: Iterable[Share]) -> Share:
    """Return the share that remains when each of `shares` is taken of what the one before it left."""
    whole = Share()
    for share in shares:
        whole = share.within(whole)
    return whole
