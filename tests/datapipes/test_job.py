"""How ranks come to read one table; jobs of several ranks are in tests/datasets/test_ranks.py."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from osstorchconnector.datapipes.job import share_table
from osstorchconnector.index.layout import Batch
from osstorchconnector.index.shared import SharedIndex
from osstorchconnector.index.shared_file import Wait


class Names:
    """A source of rows."""

    def __init__(self, *keys: str) -> None:
        self._keys = keys

    def batches(self, cursor: bytes, wait: Wait = Future.result) -> Generator[Batch, None, None]:
        yield Batch("bucket/", self._keys, [1] * len(self._keys))


class SecondRank:
    """torch.distributed as the second of two ranks sees it; the first has said all that it will say."""

    def __init__(self, *said: Any) -> None:
        self._said = list(said)
        self.told: list[Any] = []

    def get_rank(self) -> int:
        return 1

    def get_world_size(self) -> int:
        return 2

    def broadcast_object_list(self, values: list[Any], src: int) -> None:
        values[0] = self._said.pop(0)

    def all_gather_object(self, values: list[Any], value: Any) -> None:
        self.told.append(value)
        values[:] = [True, value]


@pytest.mark.parametrize(("machine", "is_linked"), [("first", True), ("second", False)])
def test_only_ranks_on_one_machine_read_one_file(tmp_path: Path, machine: str, is_linked: bool) -> None:
    first = SharedIndex(Names("of", "the", "first"), folder=str(tmp_path))
    table = first.dump()
    dist = SecondRank(("first", str(first.path)), (len(table), ""), table)
    second = SharedIndex(Names("other"), folder=str(tmp_path))
    share_table(dist, second, machine)
    assert dist.told == [is_linked]
    assert [info.uri.key for info in second.items()] == ["of", "the", "first"]
    assert (second.path.stat().st_ino == first.path.stat().st_ino) is is_linked
