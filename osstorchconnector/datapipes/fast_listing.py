"""Listing in parallel: the key space is split where there is more to list, and the pieces are listed side by side.

A piece is listed page by page, and a page tells whether more is to come. While requests are to spare, such a piece is
cut at keys evenly spaced over what is left of it; where nothing lies behind a cut, that costs one request and is not
tried again. Pages are given out in the order of the keys, whatever piece they are of.
"""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, InvalidStateError
from os.path import commonprefix

from ..index.filling import Wait
from ..protocol.values import ListPage

Ask = Callable[[str], "Future[ListPage]"]

_MOST_CUTS = 8
_PAGES_HELD = 1000  # what is listed ahead of the order, at most (and a page of each piece)
_LEAST, _MOST = 0x20, 0x7F  # keys are cut at printable ASCII, unless they go on with something else
_LAST = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


class _Piece:
    """The keys behind `after`, up to `until` (`None`: to the end)."""

    __slots__ = ("after", "has_more", "is_done", "pages", "request", "until")

    def __init__(self, after: str, until: str | None) -> None:
        self.after, self.until = after, until
        self.pages: deque[ListPage] = deque()
        self.request: Future[ListPage] | None = None
        self.has_more = self.is_done = False

    def take(self, page: ListPage) -> None:
        """Take in the next page: what of it lies within this piece."""
        until, objects = self.until, page.objects
        if until is not None and objects and objects[-1].key > until:
            objects = [listed for listed in objects if listed.key <= until]
            self.is_done = True
        is_full = until is not None and bool(objects) and objects[-1].key == until
        self.is_done = self.is_done or is_full or not page.next_token
        self.has_more = not self.is_done
        if objects:
            self.after = objects[-1].key
            self.pages.append(ListPage(objects, [], "more"))


def parallel_pages(
    ask: Ask, prefix: str, *, start_after: str = "", concurrency: int, wait: Wait = Future.result
) -> Generator[ListPage, None, None]:
    """Yield the pages of a listing in its order, up to `concurrency` requests in flight.

    `ask` requests a page of the keys with `prefix` behind the key it is given. The last page is an empty one, and only
    it has no `next_token`.
    """
    pieces, is_exiting = [_Piece(start_after, None)], sys.is_finalizing
    try:
        while pieces:
            _cut(pieces, prefix, concurrency)
            _request(pieces, ask, concurrency)
            _take(pieces, wait)
            while pieces and (pieces[0].pages or pieces[0].is_done):
                yield from _drain(pieces[0])
                if not pieces[0].is_done:
                    break
                del pieces[0]
        yield ListPage([], [], "")
    finally:
        for piece in pieces:
            if piece.request is not None and not is_exiting():  # at the end the globals of modules may be gone
                piece.request.cancel()


def cuts(low: str, high: str | None, prefix: str, count: int) -> list[str]:
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


def _cut(pieces: list[_Piece], prefix: str, concurrency: int) -> None:
    """Cut pieces of which more is to come until there is one for each request."""
    spare = concurrency - sum(not piece.is_done for piece in pieces)
    for number in range(len(pieces) - 1, -1, -1):
        piece = pieces[number]
        if spare <= 0:
            return
        if not piece.has_more:
            continue
        keys = cuts(piece.after, piece.until, prefix, min(spare, _MOST_CUTS))
        ends = [*keys[1:], piece.until]
        pieces[number + 1 : number + 1] = [_Piece(key, end) for key, end in zip(keys, ends, strict=True) if keys]
        if keys:
            piece.until = keys[0]
            piece.has_more = False  # until its next page says so
            spare -= len(keys)


def _request(pieces: list[_Piece], ask: Ask, concurrency: int) -> None:
    flying = sum(piece.request is not None for piece in pieces)
    held = sum(len(piece.pages) for piece in pieces)
    for number, piece in enumerate(pieces):
        if flying >= concurrency or (number and held > _PAGES_HELD):
            return
        if piece.request is None and not piece.is_done:
            piece.request = ask(piece.after)
            flying += 1


def _take(pieces: list[_Piece], wait: Wait) -> None:
    """Wait until at least one request is answered; take in all answers that are there."""
    asked = [piece for piece in pieces if piece.request is not None]
    if not asked:
        return
    arrived: Future[None] = Future()
    for piece in asked:
        assert piece.request is not None
        piece.request.add_done_callback(lambda _: _tell(arrived))
    wait(arrived)
    for piece in asked:
        if piece.request is not None and piece.request.done():
            page = piece.request.result()
            piece.request = None
            piece.take(page)


def _tell(arrived: Future[None]) -> None:
    # Several answers may come at once, from several threads, and nobody may wait any more: the first one counts.
    with contextlib.suppress(InvalidStateError):
        arrived.set_result(None)


def _drain(piece: _Piece) -> Iterator[ListPage]:
    while piece.pages:
        yield piece.pages.popleft()
