"""A random order of any number of things, computed place by place: nothing is stored, however many they are. Pure."""

from __future__ import annotations

import hashlib
import math
import struct

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
