"""Where to cut a listing so that its parts can be listed side by side, with few requests more than there are pages.

Keys are names, and how they are spread is not known. But most are numbers, hashes, or classes with numbers in them.
`Ruler` reads keys below a prefix as numbers: the letters seen at a place, and those of their kind, are its digits. The
distance from a page's first key to its last is then the length of a page. `SparingCuts` cuts where the next pages
should be, at multiples of that length.

A cut costs at most one request: for the incomplete page before it, or for nothing if no key lies behind it. So the
number of cuts limits the number of requests (`cuts_allowed`).
"""

from __future__ import annotations

import string
from bisect import bisect_left
from collections.abc import Sequence
from itertools import islice, zip_longest
from os.path import commonprefix
from typing import Protocol

# Keys on a full page.
PAGE_KEYS = 1000
# A listing is cut if waiting for a page takes this many times as long as reading it, and at least this many seconds.
FAR_FACTOR, FAR_SECONDS = 3.0, 0.010
# The first cuts are always allowed, further ones only one for every ten pages.
FREE_CUTS, PAGES_PER_CUT = 4, 10
# Until its end is seen, a listing of n known pages is expected to have this many times n more.
EXPECTED_PAGES = 4
# A piece that is shorter is not cut: it is done nearly as soon.
LEAST_PAGES = 2.0

_MOST_CUTS = 8
_LEAST, _MOST = 0x20, 0x7F  # keys are cut at printable ASCII, unless they go on with something else
_LAST = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)
_MOST_PLACES = 48
_SAMPLED_KEYS = 32
_KINDS = (string.digits, "0123456789abcdef", "0123456789ABCDEF", string.ascii_lowercase, string.ascii_uppercase)


def is_far(waited_seconds: float, read_seconds: float) -> bool:
    """Say whether a page takes so long to come that other pages could be listed meanwhile.

    `waited_seconds` is from its request to the end of its answer, `read_seconds` what the client does with it.
    """
    return waited_seconds >= max(FAR_FACTOR * read_seconds, FAR_SECONDS)


def cuts_allowed(listed_keys: int) -> int:
    """Return how often a listing may have been cut when `listed_keys` keys of it are known."""
    pages = listed_keys // PAGE_KEYS
    return min(pages, FREE_CUTS) + pages // PAGES_PER_CUT


class Ruler:
    """Keys below `prefix` as whole numbers, in their order: made from some keys, which rise."""

    def __init__(self, prefix: str, keys: Sequence[str]) -> None:
        self._prefix = prefix
        sample = [*islice(keys, 0, None, max(len(keys) // _SAMPLED_KEYS, 1)), keys[-1]]
        tails = (key[len(prefix) :] for key in sample)
        self._places = [_digits(set(letters)) for letters in islice(zip_longest(*tails, fillvalue=""), _MOST_PLACES)]
        self.end = 1
        for digits in self._places:
            self.end *= len(digits)
        self.page_length = max(self.number(keys[-1]) - self.number(keys[0]), 1)

    def number(self, key: str) -> int:
        """Return the number that a key stands for, less than `end`; keys of other letters get the next one."""
        tail, number = key[len(self._prefix) :], 0
        for place, digits in enumerate(self._places):
            number = number * len(digits) + min(bisect_left(digits, tail[place : place + 1]), len(digits) - 1)
        return number

    def key(self, number: int) -> str:
        """Return the key that a number stands for: at least 0, and less than `end`."""
        letters: list[str] = []
        for digits in reversed(self._places):
            number, digit = divmod(number, len(digits))
            letters.append(digits[digit])
        letters.reverse()
        return self._prefix + "".join(letters[: letters.index("")] if "" in letters else letters)


def _digits(letters: set[str]) -> list[str]:
    """Return the letters that may stand at a place where these were seen; "" is the end of a key."""
    kinds = sorted(filter(None, letters))
    for kind in _KINDS:
        if letters - {""} <= set(kind):
            kinds = list(kind)
            break
    return [""] * ("" in letters) + kinds


class Piece(Protocol):
    """A range of keys that is listed page by page, as far as it matters here."""

    after: str  # all keys up to this one are listed
    until: str | None  # the last key that may belong to it; `None`: there is no limit
    is_done: bool
    has_more: bool  # its last page said so, and it was not cut since
    answers: int
    listed_keys: int
    page_keys: Sequence[str]  # the keys of its last page; empty before its first


class Cuts(Protocol):
    """Decides where to cut the pieces of one listing."""

    def places(self, pieces: Sequence[Piece], prefix: str, concurrency: int) -> list[tuple[int, list[str]]]:
        """Return at which keys to cut which piece, so that up to `concurrency` can be listed side by side.

        The pieces stand in order, and so does what is returned.
        """
        ...

    def forget(self, piece: Piece) -> None:
        """A piece is done, and will not be among the pieces any more."""
        ...


class SparingCuts:
    """Cuts where the next pages should be, as often as is allowed.

    `listed_keys` are known before the listing is cut the first time.
    """

    def __init__(self, listed_keys: int) -> None:
        self._gone_keys, self._gone_waste = listed_keys, 0.0  # of pieces that are done and gone

    def places(self, pieces: Sequence[Piece], prefix: str, concurrency: int) -> list[tuple[int, list[str]]]:
        listed_keys = self._gone_keys + sum(piece.listed_keys for piece in pieces)
        spare = concurrency - sum(not piece.is_done for piece in pieces)
        spare = min(spare, int(cuts_allowed(listed_keys) - self._waste(pieces)))
        if spare <= 0:
            return []
        rulers = {n: Ruler(prefix, piece.page_keys) for n, piece in enumerate(pieces) if _can_be_cut(piece)}
        lengths = {n: _pages_left(pieces[n], ruler, listed_keys) for n, ruler in rulers.items()}
        shares = dict.fromkeys(rulers, 1)
        for _ in range(spare):
            longest = max(shares, key=lambda n: lengths[n] / shares[n], default=-1)
            if longest >= 0 and lengths[longest] / shares[longest] >= LEAST_PAGES:
                shares[longest] += 1
        return [(n, _evenly(pieces[n], rulers[n], lengths[n], share)) for n, share in shares.items() if share > 1]

    def forget(self, piece: Piece) -> None:
        self._gone_keys += piece.listed_keys
        self._gone_waste += _waste(piece)

    def _waste(self, pieces: Sequence[Piece]) -> float:
        """Return how many requests more than pages it takes, at most, if there are no more cuts."""
        return self._gone_waste + sum(map(_waste, pieces)) - 1


def _waste(piece: Piece) -> float:
    """Return how many requests more than pages a piece has taken; one that is not done may waste one."""
    return piece.answers - piece.listed_keys / PAGE_KEYS if piece.is_done else 1.0


def _pages_left(piece: Piece, ruler: Ruler, listed_keys: int) -> float:
    here = ruler.number(piece.after)
    if piece.until is not None:
        return (ruler.number(piece.until) - here) / ruler.page_length
    return min(EXPECTED_PAGES * listed_keys / PAGE_KEYS, (ruler.end - here) / ruler.page_length)


def _can_be_cut(piece: Piece) -> bool:
    return not piece.is_done and len(piece.page_keys) > 1


def _evenly(piece: Piece, ruler: Ruler, pages: float, share: int) -> list[str]:
    """Return the keys between `share` parts of the next `pages` pages of a piece."""
    here, length = ruler.number(piece.after), int(pages * ruler.page_length)
    found: list[str] = []
    for number in range(1, share):
        key, low = ruler.key(min(here + length * number // share, ruler.end - 1)), found[-1] if found else piece.after
        if low < key and (piece.until is None or key < piece.until):
            found.append(key)
    return found


class EvenCuts:
    """Cuts as often as it takes to have `concurrency` pieces.

    A piece of which more is to come is cut at keys evenly spaced over what is left of it. Where nothing lies behind a
    cut, that costs one request and is not tried again.
    """

    def places(self, pieces: Sequence[Piece], prefix: str, concurrency: int) -> list[tuple[int, list[str]]]:
        spare = concurrency - sum(not piece.is_done for piece in pieces)
        found: list[tuple[int, list[str]]] = []
        for number in range(len(pieces) - 1, -1, -1):
            piece = pieces[number]
            if spare > 0 and piece.has_more:
                found.append((number, even_cuts(piece.after, piece.until, prefix, min(spare, _MOST_CUTS))))
                spare -= len(found[-1][1])
        return found[::-1]

    def forget(self, piece: Piece) -> None:
        """Nothing is remembered."""


def even_cuts(low: str, high: str | None, prefix: str, count: int) -> list[str]:
    """Return up to `count` keys, rising, between `low` and `high` (`None`: all that begins with `prefix`)."""
    shared = prefix if high is None else commonprefix([low, high])
    top = ord(high[len(shared)]) if high is not None else _MOST
    while True:
        bottom = ord(low[len(shared)]) if len(low) > len(shared) and low.startswith(shared) else _LEAST - 1
        if bottom >= top and high is None:
            top = _LAST
        chosen = _spread(bottom, top, count)
        if chosen:
            return [shared + chr(code) for code in chosen]
        if len(low) <= len(shared):
            return []
        shared, high, top = low[: len(shared) + 1], None, _MOST


def _spread(bottom: int, top: int, count: int) -> list[int]:
    """Return up to `count` numbers between `bottom` and `top`, evenly spaced."""
    between = top - bottom - 1
    count = min(count, between)
    if count < 1:
        return []
    found = (bottom + 1 + (2 * n + 1) * between // (2 * count) for n in range(count))
    return [code for code in found if code not in _SURROGATES]
