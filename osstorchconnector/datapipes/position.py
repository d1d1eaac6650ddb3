"""Where one iterator stands in an epoch."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence

from ..errors import OssUsageError
from ..index.info import ObjectInfo
from ..index.orders import View
from ..index.shared import ObjectIndex
from .sharder import Share
from .state import Anchor, EpochState


class Position:
    """So many objects of a share of an order; `orders` are those that were left after each layer of taken objects."""

    def __init__(
        self,
        *,
        state: EpochState,
        share: Share,
        index: ObjectIndex,
        order: View,
        orders: Sequence[View],
        depends_on_count: bool,
    ) -> None:
        self._begun, self._share, self._index = state, share, index
        self._order, self._orders, self._depends_on_count = order, orders, depends_on_count
        self.consumed = state.consumed

    def rest(self) -> Iterator[ObjectInfo]:
        """Yield the objects that come next."""
        first, step = self._share
        return self._order.infos(first + self.consumed * step, step)

    def check(self) -> None:
        """Raise `OssUsageError` if the objects are not those of which the state was taken."""
        rows, anchor = self._begun.rows, self._begun.anchor
        if rows >= 0 and self._index.count() != rows:
            raise OssUsageError(
                f"the state is of {rows} objects and now there are {self._index.count()}: a shuffled or evened epoch "
                "can't go on; keep the listing with save_index and from_index"
            )
        # What was given out last is at the anchor. Where there is none, the listing's end tells whether that can be.
        furthest = self._begun.furthest()
        if furthest is not None and (anchor is None or furthest != (anchor.layers, anchor.number)):
            self._begun.check_against(self._index.count())
        if anchor is not None and self._digest(anchor.layers, anchor.number) != anchor.digest:
            raise OssUsageError(
                "the state is of another listing: objects have come or gone before the position in it; keep the "
                "listing with save_index and from_index"
            )

    def state(self) -> EpochState:
        """Return where it stands now."""
        first, step = self._share
        begun, anchor = self._begun, self._begun.anchor
        if self.consumed > begun.consumed:
            layers, number = len(self._orders) - 1, first + (self.consumed - 1) * step
            digest = self._digest(layers, number)
            anchor = Anchor(layers, number, digest) if digest else None
        rows = self._index.count() if self._depends_on_count and self.consumed else begun.rows
        return dataclasses.replace(begun, share=self._share, consumed=self.consumed, rows=rows, anchor=anchor)

    def _digest(self, layers: int, number: int) -> str:
        """Return a digest of the object's URI; "" if there is none of this number."""
        for info in self._orders[layers].at([number]):
            return hashlib.blake2b(str(info.uri).encode("utf-8", "backslashreplace"), digest_size=8).hexdigest()
        return ""
