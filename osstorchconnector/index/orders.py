"""In which order the objects of an epoch come, and whose share each is: arithmetic over their numbers.

    table: every object has a number --Shuffled, Remaining, Balanced--> order --Share-->

It stores no rows: each view has numbers of its own, from 0, and computes the number behind each in the view below. So
views may be stacked, and a share of the outermost one can be read from any position without reading what comes before
it.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, Literal, NamedTuple, Protocol, TypeVar

_ROUNDS = 8  # half-rounds: each mixes one half of the number into the other
_MASK = (1 << 64) - 1
_MULTIPLIER = 0x9E37_79B9_7F4A_7C15

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

RankBalance = Literal["none", "drop", "repeat"]


class Share(NamedTuple):
    """One of `step` equal shares: items `first`, `first + step`, `first + 2 * step` and so on."""

    first: int = 0
    step: int = 1

    def within(self, whole: Share) -> Share:
        """Return this share of the share `whole`; shares of all shares together are all items, each once."""
        return Share(whole.first + self.first * whole.step, whole.step * self.step)

    def number(self, position: int) -> int:
        """Return the number of the item at `position` of this share."""
        return self.first + position * self.step

    def numbers(self, total: int, *, after: int = 0) -> range:
        """Return the numbers below `total` that belong to this share, without the first `after` of them."""
        return range(self.number(after), total, self.step)


def nested(shares: Iterable[Share]) -> Share:
    """Return the share that remains when each of `shares` is taken of what the one before it left."""
    whole = Share()
    for share in shares:
        whole = share.within(whole)
    return whole


class View(Protocol[T_co]):
    """Items that can be read by number: an index, plain numbers, or an order over either."""

    def items(self, first: int = 0, step: int = 1) -> Iterator[T_co]:
        """Yield items `first`, `first + step` and so on to the end, each as soon as it is known."""

    def at(self, positions: Iterable[int]) -> Iterator[T_co]:
        """Yield the items of these numbers, each as soon as it is known, up to the first number without an item."""

    def count(self) -> int:
        """Return the number of items, waiting until it is known."""


class Numbers:
    """The numbers below `total` themselves: what a sampler orders."""

    def __init__(self, total: int) -> None:
        self._total = total

    def items(self, first: int = 0, step: int = 1) -> Iterator[int]:
        return iter(range(first, self._total, step))

    def at(self, positions: Iterable[int]) -> Iterator[int]:
        return up_to(positions, self._total)

    def count(self) -> int:
        return self._total


class Chunking:
    """How neighbours stay together: not at all. `chunks.Chunks` are kinds in which they do."""

    def shuffled(self, view: View[T], seed: int, epoch: int) -> View[T]:
        """Return the view in a random order."""
        return Shuffled(view, seed, epoch)

    def striped(self, view: View[T], shares: int, *, is_shuffled: bool) -> View[T]:
        """Return the view so that each of `shares` strides through it has neighbours, if they stay together."""
        return view

    def window(self, consumed: int) -> tuple[int, int]:
        """Return how many items of a share end its present chunk, when `consumed` have come, and those of a chunk.

        Both are 0 if nothing is known of their order.
        """
        return 0, 0

    @property
    def identity(self) -> str:
        """What distinguishes the orders that follow from it from others."""
        return ""


NO_CHUNKS = Chunking()


def ordered(
    index: View[T],
    *,
    seed: int | None = None,
    epoch: int = 0,
    taken: Sequence[Taken] = (),
    ranks: int = 1,
    balance: RankBalance = "none",
    chunking: Chunking = NO_CHUNKS,
    shares: int = 1,
) -> View[T]:
    """Return the order of an epoch: shuffled if there is a seed, without each layer of `taken`, balanced for ranks.

    It will be divided into `shares` by strides.
    """
    is_shuffled = seed is not None
    view: View[T] = index if seed is None else chunking.shuffled(index, seed, epoch)
    for layer in taken:
        view = Remaining(chunking.striped(view, len(layer.counts), is_shuffled=is_shuffled), layer)
    return Balanced(chunking.striped(view, shares, is_shuffled=is_shuffled), ranks, balance)


class Permutation:
    """The numbers below `count`, each once, in an order that `seed` and `epoch` alone decide, on every machine.

    A Feistel network over two digits whose bases multiply to `count` or a little more; a number that it sends beyond
    the end is sent on until it lands below (cycle walking), which keeps the mapping one to one.
    """

    __slots__ = ("_base", "_keys", "_other_base", "count")

    def __init__(self, count: int, seed: int, epoch: int = 0) -> None:
        self.count = count
        self._base = max(1, math.isqrt(max(count - 1, 0)) + 1)
        self._other_base = max(1, -(-count // self._base))
        digest = hashlib.blake2b(f"{count} {seed} {epoch}".encode(), digest_size=8 * _ROUNDS).digest()
        keys = struct.unpack(f"<{_ROUNDS}Q", digest)
        self._keys = tuple(zip(keys[::2], keys[1::2], strict=True))

    def __call__(self, number: int) -> int:
        """Return the number at position `number`, which is below `count`."""
        base, other_base, count = self._base, self._other_base, self.count
        while True:
            high, low = divmod(number, base)
            for key, other_key in self._keys:
                mixed = ((low ^ key) * _MULTIPLIER) & _MASK
                high = (high + (((mixed ^ (mixed >> 32)) * _MULTIPLIER & _MASK) >> 24)) % other_base
                mixed = ((high ^ other_key) * _MULTIPLIER) & _MASK
                low = (low + (((mixed ^ (mixed >> 32)) * _MULTIPLIER & _MASK) >> 24)) % base
            number = high * base + low
            if number < count:
                return number


class Order(Generic[T]):
    """A view of which only `at` and `count` are its own."""

    def items(self, first: int = 0, step: int = 1) -> Iterator[T]:
        return self.at(itertools.count(first, step))

    def at(self, positions: Iterable[int]) -> Iterator[T]:
        raise NotImplementedError


class Shuffled(Order[T]):
    """All items in a random order, the same for the same seed, epoch and count; it waits for the count."""

    def __init__(self, below: View[T], seed: int, epoch: int) -> None:
        self._below, self._seed, self._epoch = below, seed, epoch

    def at(self, positions: Iterable[int]) -> Iterator[T]:
        count = self.count()
        return self._below.at(map(Permutation(count, self._seed, self._epoch), up_to(positions, count)))

    def count(self) -> int:
        return self._below.count()


class Taken:
    """How much of an order is gone: `counts[share]` of the items of each of `len(counts)` shares."""

    def __init__(self, counts: Sequence[int]) -> None:
        self.counts = tuple(counts)
        # Round r has the numbers r * shares to r * shares + shares - 1, one of each share. The rounds fall into
        # segments: in each segment the same shares are left. In the last one, which has no end, all shares are.
        self._starts: list[int] = []
        self._rounds: list[int] = []
        self._left: list[list[int]] = []
        start = 0
        levels = sorted(set(self.counts))
        for level, next_level in itertools.zip_longest(levels, levels[1:]):
            left = [share for share, count in enumerate(self.counts) if count <= level]
            self._starts.append(start)
            self._rounds.append(level)
            self._left.append(left)
            start += (next_level - level) * len(left) if next_level is not None else 0

    def __call__(self, position: int) -> int:
        """Return the number, in the whole order, of what is left at `position`."""
        segment = bisect_right(self._starts, position) - 1
        left = self._left[segment]
        rounds, share = divmod(position - self._starts[segment], len(left))
        return (self._rounds[segment] + rounds) * len(self.counts) + left[share]

    def by_share(self) -> Iterator[tuple[Share, int]]:
        """Yield each share, and how many of its items are gone."""
        for first, count in enumerate(self.counts):
            yield Share(first, len(self.counts)), count

    def last(self) -> int:
        """Return the largest number that is gone; -1 if there is none."""
        return max((share.number(count - 1) for share, count in self.by_share() if count), default=-1)

    def rest(self, total: int) -> int:
        """Return how many of `total` are left."""
        return sum(len(share.numbers(total, after=count)) for share, count in self.by_share())


class Remaining(Order[T]):
    """What is left of an order, in its order."""

    def __init__(self, below: View[T], taken: Taken) -> None:
        self._below, self._taken = below, taken

    def at(self, positions: Iterable[int]) -> Iterator[T]:
        return self._below.at(map(self._taken, positions))

    def count(self) -> int:
        return self._taken.rest(self._below.count())


class Balanced(Order[T]):
    """As many items for each of `ranks`: "drop" leaves out the last few, "repeat" gives the first few again at the end.

    With "none" it is the view below, unchanged.
    """

    def __init__(self, below: View[T], ranks: int, balance: RankBalance) -> None:
        self._below, self._ranks, self._balance = below, ranks, balance

    def items(self, first: int = 0, step: int = 1) -> Iterator[T]:
        if self._balance == "none":
            return self._below.items(first, step)
        if self._balance == "drop":
            return itertools.islice(self._below.items(first, step), len(range(first, self.count(), step)))
        return super().items(first, step)

    def at(self, positions: Iterable[int]) -> Iterator[T]:
        if self._balance == "none":
            return self._below.at(positions)
        count = self._below.count()
        return self._below.at(position % count for position in up_to(positions, self.count()))

    def count(self) -> int:
        return balanced(self._below.count(), self._ranks, self._balance)


def balanced(count: int, ranks: int, balance: RankBalance) -> int:
    """Return how many items all ranks together have when `count` items are balanced."""
    surplus = count % ranks
    if not surplus or balance == "none":
        return count
    return count - surplus if balance == "drop" else count + ranks - surplus


def up_to(positions: Iterable[int], count: int) -> Iterator[int]:
    return itertools.takewhile(count.__gt__, positions)
