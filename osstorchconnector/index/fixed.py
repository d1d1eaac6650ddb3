"""An index of objects that are all known from the start. Its rows are in memory."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import mmap
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.context import get_spawning_popen
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OssError, OssUsageError
from .held_file import HeldFile, choose_folder, new_path, open_own
from .info import ObjectInfo
from .layout import Batch, RowBlock, Table, block_bytes, pack_block

if TYPE_CHECKING:
    from typing_extensions import Self

# From this size on, spawned processes map one file instead of getting a copy each.
FILED_FROM_BYTES = 1 << 20
_HEAD_BYTES = 32


class FixedIndex:
    """An index whose rows are all known when it is made. It is pickled with them.

    Forked worker processes share the memory. Spawned ones map one file if the rows are many; the file is removed with
    this process. `folder` is where the file is put; by default in shared memory or among the temporary files.
    """

    def __init__(self, batches: Iterable[Batch], *, folder: str = "") -> None:
        self.folder = folder
        self._hold(b"".join(map(pack_block, batches)))

    @classmethod
    def of_blocks(cls, blocks: bytes, *, folder: str = "") -> Self:
        """Return an index of the rows of another one: its `blocks`, or some of them."""
        index = cls((), folder=folder)
        index._hold(blocks)
        return index

    @property
    def is_complete(self) -> bool:
        return True

    def known(self) -> tuple[int, bool]:
        return self._table.rows, True

    def items(self, first: int = 0, step: int = 1) -> Iterator[ObjectInfo]:
        return itertools.chain.from_iterable(self._blocks_of_items(first, step))

    def _blocks_of_items(self, first: int, step: int) -> Iterator[list[ObjectInfo]]:
        position = first
        while rows := self._table.infos_from(position, step):
            yield rows
            position += len(rows) * step

    def at(self, positions: Iterable[int]) -> Iterator[ObjectInfo]:
        return map(self._table.info, itertools.takewhile(self._table.rows.__gt__, positions))

    def info(self, position: int) -> ObjectInfo:
        return self._table.info(position)

    def count(self) -> int:
        return self._table.rows

    def skipped(self) -> int:
        return 0

    def blocks(self) -> memoryview:
        return memoryview(self._blocks)

    def row_blocks(self) -> Iterator[RowBlock]:
        """Yield the rows block by block, without decoding them."""
        return (RowBlock(self.blocks(), start) for start in self._starts()[:-1])

    def parts(self, bounds: Sequence[int]) -> Iterator[Neighbours]:
        """Yield the rows between each two of `bounds`, which begin with 0 and end with `count()`."""
        starts = self._starts()
        firsts = [0, *itertools.accumulate(block.rows for block in self.row_blocks())]
        for first, stop in itertools.pairwise(bounds):
            begin, end = bisect_right(firsts, first) - 1, bisect_left(firsts, stop)
            blocks = bytes(self._blocks[starts[begin] : starts[end]])
            yield Neighbours(FixedIndex.of_blocks(blocks, folder=self.folder), first - firsts[begin], stop - first)

    def _starts(self) -> list[int]:
        """Return where each block begins, and where the last one ends."""
        starts = [0]
        while starts[-1] < len(self._blocks):
            starts.append(starts[-1] + block_bytes(bytes(self._blocks[starts[-1] : starts[-1] + _HEAD_BYTES])))
        return starts

    def digest(self) -> str:
        """Return a digest that distinguishes these rows from others."""
        return hashlib.blake2b(self._blocks, digest_size=16).hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        if len(self._blocks) >= FILED_FROM_BYTES and get_spawning_popen() is not None:
            with contextlib.suppress(OssError):  # if no folder can be used, each process gets a copy
                return {"folder": self.folder, "path": str(self._filed())}
        return {"folder": self.folder, "blocks": bytes(self._blocks)}  # no copy, unless the rows are a mapped file

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.folder = state["folder"]
        self._hold(_mapped(Path(state["path"])) if "path" in state else state["blocks"])

    def _hold(self, blocks: bytes | memoryview) -> None:
        self._blocks, self._table = blocks, Table()
        self._table.extend(memoryview(blocks), 0, len(blocks))
        self._file: HeldFile | None = None

    def _filed(self) -> Path:
        """Return a file with the rows. It is written when first asked for, and kept as long as this index exists."""
        if self._file is None or not self._file.is_in_place():
            self._file = HeldFile(new_path(choose_folder(self.folder)), self._blocks)
            self._file.file  # noqa: B018
        return self._file.path


@dataclass(frozen=True)
class Neighbours:
    """Rows of a table that follow one another: `count` from row `first` of an index that has whole blocks of it."""

    index: FixedIndex
    first: int
    count: int

    def items(self) -> Iterator[ObjectInfo]:
        """Yield the objects."""
        return itertools.islice(self.index.items(), self.first, self.first + self.count)


def _mapped(path: Path) -> memoryview:
    if not path.exists():
        raise OssUsageError(
            "the names of objects are gone, with the dataset that this process was given a copy of: keep it until the "
            "processes that it is given to have begun"
        )
    file, _ = open_own(path, create=False)
    try:
        return memoryview(mmap.mmap(file, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(file)
