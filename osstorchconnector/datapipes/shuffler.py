"""Objects in a random order, by arithmetic over their numbers."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import OssUsageError
from ..index.info import ObjectInfo
from ..index.orders import Shuffled, View
from .numbered_objects import NumberedObjects, functional
from .state import checked_epoch


@functional("shuffle_oss_objects")
class OssObjectShuffler(NumberedObjects):
    """Yield all objects of a lister, a parser or a list of names in a random order (functional: `shuffle_oss_objects`).

    The order is one of all objects, decided by seed and epoch; it waits until all are known and takes no memory. Put
    it before `shard_oss_objects`. Loaders set its seed anew for each epoch through `apply_random_seed`, the same in all
    processes; without one it is `seed`, and `set_epoch` makes another order of it.
    """

    def __init__(self, source: NumberedObjects, *, seed: int = 0) -> None:
        if source.index is None:
            raise OssUsageError("objects that come through a pipe have no numbers: give the prefixes or names directly")
        super().__init__(source.index, source.identity)
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

    def view(self) -> View | None:
        below = self._source.view()
        return Shuffled(below, self._seed, self._epoch) if self._is_on and below is not None else below

    def __iter__(self) -> Iterator[ObjectInfo]:
        view = self.view()
        assert view is not None
        return view.infos()
