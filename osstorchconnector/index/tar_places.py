"""Where rows of the table lie in a tar, and how a block says of which tar they are."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from typing import NamedTuple


class TarPlaces(NamedTuple):
    """Where the rows of a batch lie in a tar `bucket/key`: `starts` and `stops` are columns, in bytes.

    With `are_samples` a row is several members, side by side.
    """

    tar: str
    etag: str
    starts: Sequence[int]
    stops: Sequence[int]
    are_samples: bool = False

    def head(self, base: str) -> str:
        """Return what a block says of its rows: their tar, and `base`, what their names begin with."""
        return json.dumps([self.tar, self.etag, self.are_samples, base])


@functools.lru_cache(maxsize=64)
def tar_head(head: bytes) -> tuple[str, str, bool, str]:
    """Return `tar`, `etag`, `are_samples` and the base of a head that `TarPlaces.head` made.

    Rows in a random order are looked up one by one, and all rows of a block have one head.
    """
    tar, etag, are_samples, base = json.loads(head)
    return str(tar), str(etag), bool(are_samples), str(base)
