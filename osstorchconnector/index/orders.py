"""Orders laid over an index: shuffled, only what is left of an epoch, evened out. They compute; they store no rows.

A view has numbers of its own, from 0, and finds the row behind each by arithmetic. So views may stand on each other,
and any share of the outermost one (every n-th, from any place on) can be read without going through the rest.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, Protocol

from .info import ObjectInfo
from .shared import ObjectIndex

_ROUNDS = 8  # half-rounds: each mixes one half of the number into the other
_MASK = (1 << 64) - 1
_MULTIPLIER = 0x9E37_79B9_7F4A_7C15


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
        """Return what stands at place `number`, which is below `count`."""
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


Evening = Literal["none", "drop", "repeat"]


class View(Protocol):
    """What can be read by number: an index, or an order over one."""

    def infos(self, first: int = 0, step: int = 1) -> Iterator[ObjectInfo]:
        """Yield objects `first`, `first + step` and so on to the end."""

    def at(self, positions: Iterable[int]) -> Iterator[ObjectInfo]:
        """Yield the objects of these numbers, up to the first number that is not below the count."""

    def count(self) -> int:
        """Return the number of objects, waiting until it is known."""


class _Order:
    """A view of which only `at` and `count` are its own."""

    def infos(self, first: int = 0, step: int = 1) -> Iterator[ObjectInfo]:
        return self.at(itertools.count(first, step))

    def at(self, positions: Iterable[int]) -> Iterator[ObjectInfo]:
        raise NotImplementedError


class Shuffled(_Order):
    """All objects in a random order, the same for the same seed, epoch and count; it waits for the count."""

    def __init__(self, below: View, seed: int, epoch: int) -> None:
        self._below, self._seed, self._epoch = below, seed, epoch

    def at(self, positions: Iterable[int]) -> Iterator[ObjectInfo]:
        count = self.count()
        return self._below.at(map(Permutation(count, self._seed, self._epoch), _up_to(positions, count)))

    def count(self) -> int:
        return self._below.count()


class Taken:
    """How much of an order is gone, which was shared out by strides: `counts[share]` of each share's objects. Pure."""

    def __init__(self, counts: Sequence[int]) -> None:
        self.counts = tuple(counts)
        # Round r has the numbers r * shares to r * shares + shares - 1. In the rounds that some shares are through
        # with and others are not, those of the others are left; behind the last of these rounds all are.
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

    def rest(self, total: int) -> int:
        """Return how many of `total` are left."""
        shares = len(self.counts)
        return sum(max(0, len(range(share, total, shares)) - count) for share, count in enumerate(self.counts))


class Remaining(_Order):
    """What is left of an order, in its order."""

    def __init__(self, below: View, taken: Taken) -> None:
        self._below, self._taken = below, taken

    def at(self, positions: Iterable[int]) -> Iterator[ObjectInfo]:
        return self._below.at(map(self._taken, positions))

    def count(self) -> int:
        return self._taken.rest(self._below.count())


class Evened(_Order):
    """As many objects for each of `ranks`: the last few are left out, or the first few come once more at the end."""

    def __init__(self, below: View, ranks: int, evening: Evening) -> None:
        self._below, self._ranks, self._evening = below, ranks, evening

    def infos(self, first: int = 0, step: int = 1) -> Iterator[ObjectInfo]:
        if self._evening == "none":
            return self._below.infos(first, step)
        if self._evening == "drop":
            return itertools.islice(self._below.infos(first, step), len(range(first, self.count(), step)))
        return super().infos(first, step)

    def at(self, positions: Iterable[int]) -> Iterator[ObjectInfo]:
        if self._evening == "none":
            return self._below.at(positions)
        count = self._below.count()
        return self._below.at(position % count for position in _up_to(positions, self.count()))

    def count(self) -> int:
        return evened(self._below.count(), self._ranks, self._evening)


def evened(count: int, ranks: int, evening: Evening) -> int:
    """Return how many numbers all ranks together have when `count` are evened out."""
    surplus = count % ranks
    if not surplus or evening == "none":
        return count
    return count - surplus if evening == "drop" else count + ranks - surplus


def ordered(
    index: ObjectIndex,
    *,
    seed: int | None = None,
    epoch: int = 0,
    taken: Iterable[Taken] = (),
    ranks: int = 1,
    evening: Evening = "none",
) -> View:
    """Return the order in which an epoch goes through an index, shared out by strides.

    Shuffled if there is a seed; without what was `taken` of it, then of what was left of it, and so on; evened out.
    """
    view: View = index if seed is None else Shuffled(index, seed, epoch)
    for layer in taken:
        view = Remaining(view, layer)
    return Evened(view, ranks, evening)


def _up_to(positions: Iterable[int], count: int) -> Iterator[int]:
    return itertools.takewhile(count.__gt__, positions)
