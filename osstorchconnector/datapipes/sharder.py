"""Who gets which object: every n-th, by number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple, TypeVar

from torch.utils.data import IterDataPipe
from torch.utils.data.datapipes.iter.sharding import SHARDING_PRIORITIES

from ..errors import OssUsageError
from ..objects.info import ObjectInfo
from .common import NumberedObjects, functional

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
        self._source = source
        self._shares: dict[SHARDING_PRIORITIES, Share] = {}
        self._rank: Share | None = None

    def shard_ranks(self, rank: Share) -> None:
        """Take this rank's share once and for all: whoever would share out among ranks after that is told so."""
        self._rank = rank

    def apply_sharding(
        self,
        num_of_instances: int,
        instance_id: int,
        sharding_group: SHARDING_PRIORITIES = SHARDING_PRIORITIES.DEFAULT,
    ) -> None:
        """Take share `instance_id` of `num_of_instances` among the processes of the group."""
        if not 0 <= instance_id < num_of_instances:
            raise OssUsageError(f"there is no share {instance_id} of {num_of_instances}: they are counted from 0")
        if self._rank is not None and sharding_group is not SHARDING_PRIORITIES.MULTIPROCESSING:
            raise OssUsageError(
                "the dataset shares out among ranks already (shard_ranks=True), and the loader would do it again: make "
                "the dataset without shard_ranks, or give the dataset itself to a DataLoader instead of its datapipe"
            )
        self._shares = merged_shares(self._shares, sharding_group, Share(instance_id, num_of_instances))

    @property
    def share(self) -> Share:
        """This process's share of all."""
        whole = [self._rank] if self._rank is not None else []
        return nested([*whole, *(self._shares[group] for group in sorted(self._shares, key=lambda group: group.value))])

    def __len__(self) -> int:
        """Return how many objects this process's share has, if the source knows how many there are."""
        first, step = self.share
        return len(range(first, len(self._source), step))  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[ObjectInfo]:
        first, step = self.share
        source = self._source
        view = source.view() if isinstance(source, NumberedObjects) else None
        if view is not None:
            return view.infos(first, step)
        return islice(source, first, None, step)


def nested(shares: Iterable[Share]) -> Share:
    """Return the share that remains when each of `shares` is taken of what the one before it left."""
    whole = Share()
    for share in shares:
        whole = share.within(whole)
    return whole


def merged_shares(
    shares: dict[SHARDING_PRIORITIES, Share], group: SHARDING_PRIORITIES, share: Share
) -> dict[SHARDING_PRIORITIES, Share]:
    """Return the shares by group with one more; torch's default group stands alone, as in its `sharding_filter`."""
    merged = {**shares, group: share}
    if SHARDING_PRIORITIES.DEFAULT in merged and len(merged) > 1:
        raise OssUsageError("sharding by the default group can't be combined with sharding by ranks or workers")
    return merged
