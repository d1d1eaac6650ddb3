"""The options of the datasets' `from_` methods beside those that both have, by name and type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    from ..datapipes.skipping import OnError
    from ..index.orders import Evening


class DatasetOptions(TypedDict, total=False):
    """Each class takes those that its docstring names, and refuses others with a `TypeError` that names them."""

    # of both
    on_error: OnError
    # of OssIterableDataset
    shuffle: bool
    seed: int
    shard_ranks: bool | None
    even: Evening
    relist: Literal["never", "epoch"]
    in_order: bool
    # of OssMapDataset
    share_listing: bool
