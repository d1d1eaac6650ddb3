"""Orders that keep neighbours together.

Members of a tar that lie side by side come by one request. A stride would tear them apart: each worker would get every
n-th member. So shares of tars are made of chunks:

    numbers --ChunkShuffled or Shuffled--> order --Striped--> shares by strides are whole chunks --Remaining--> ...

A share stays a stride, and a state stays a count for each share. `Striped` depends on how many shares there are; a
layer of a merged state tells how many there were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from .orders import Chunking, Order, Permutation, Shuffled, View, up_to

T = TypeVar("T")


@dataclass(frozen=True)
class Chunks(Chunking):
    """Chunks of `rows` neighbours.

    With `are_shuffled`, a shuffled epoch has the chunks in a random order, and the rows of each; else all rows.
    """

    rows: int
    are_shuffled: bool = False

    def shuffled(self, view: View[T], seed: int, epoch: int) -> View[T]:
        return ChunkShuffled(view, seed, epoch, self.rows) if self.are_shuffled else Shuffled(view, seed, epoch)

    def striped(self, view: View[T], shares: int, *, is_shuffled: bool) -> View[T]:
        is_torn = is_shuffled and not self.are_shuffled
        return view if is_torn or shares == 1 else Striped(view, shares, self.rows)

    def window(self, consumed: int) -> tuple[int, int]:
        return (self.rows - consumed % self.rows, self.rows) if self.are_shuffled else (0, 0)

    @property
    def identity(self) -> str:
        return f" chunks of {self.rows}{' shuffled' if self.are_shuffled else ''}"


class ChunkShuffled(Order[T]):
    """Chunks of neighbours in a random order, and in each chunk its items; where chunks begin changes, too.

    The order is the same for the same seed, epoch and count. It waits for the count.
    """

    def __init__(self, below: View[T], seed: int, epoch: int, rows: int) -> None:
        self._below, self._seed, self._epoch, self._rows = below, seed, epoch, rows

    def at(self, positions: Iterable[int]) -> Iterator[T]:
        return self._below.at(self._numbers(positions))

    def count(self) -> int:
        return self._below.count()

    def _numbers(self, positions: Iterable[int]) -> Iterator[int]:
        count, rows = self.count(), self._rows
        whole = Permutation(count // rows, self._seed, self._epoch)
        start = Permutation(count, self._seed, self._epoch)(0) if count else 0
        latest, inner = -1, whole
        for position in up_to(positions, count):
            place, row = divmod(position, rows)
            if place != latest:
                chunk = whole(place) if place < whole.count else place  # the last one may be smaller
                latest, inner = place, Permutation(min(rows, count - chunk * rows), self._seed ^ chunk, self._epoch)
                first = start + chunk * rows
            yield (first + inner(row)) % count


class Striped(Order[T]):
    """An order in which item `share + n * shares` belongs to a chunk of `rows` neighbours, for each n below `rows`.

    What does not fill a chunk for every share is divided into smaller chunks. It waits for the count.
    """

    def __init__(self, below: View[T], shares: int, rows: int) -> None:
        self._below, self._shares, self._rows = below, shares, rows

    def at(self, positions: Iterable[int]) -> Iterator[T]:
        count = self.count()
        return self._below.at(self._number(position, count) for position in up_to(positions, count))

    def count(self) -> int:
        return self._below.count()

    def _number(self, position: int, count: int) -> int:
        shares, rows = self._shares, self._rows
        group = shares * rows
        start = position - position % group
        rows = min(rows, (count - start) // shares)
        row, share = divmod(position - start, shares)
        return start + share * rows + row if row < rows else position
