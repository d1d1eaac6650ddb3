"""Listings, in two ways that both give the pages in the order of their keys.

`PageStream` lists page after page. It asks for the next page as soon as the answer with the one before has come, before
that is parsed: OSS writes one while we read the other.

`parallel_pages` splits the range of keys and lists the ranges side by side. A page tells whether more is to come.
While fewer requests than allowed are in flight, such a range is cut at keys evenly spaced over what is left of it.
Where nothing lies behind a cut, that costs one request and is not tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future, InvalidStateError
from os.path import commonprefix
from typing import Any, Protocol

from ..errors import OssProtocolError
from ..index.shared_file import Wait
from ..protocol import xml
from ..protocol.answers import PageOrder, check_within
from ..protocol.heads import ResponseHead
from ..protocol.values import ListPage, Request
from .attempts import DocumentAttempt


class Ahead(Protocol):
    """Asks for the page after this one, before this one is parsed."""

    def go_on(self, token: str) -> None:
        """The answer has come, and seems to say that the listing goes on at `token`."""

    def stop(self) -> None:
        """It does not: cancel that request."""


class PageAttempt(DocumentAttempt[ListPage]):
    """A page of a listing: of what was asked for, and going on where the last one ended."""

    def __init__(self, request: Request, order: PageOrder, ahead: Ahead | None) -> None:
        super().__init__(request, self._read)
        self.wants_early_look = ahead is not None
        self._order, self._ahead, self._token = order, ahead, ""
        asked = dict(request.query)
        self._prefix, self._delimiter = asked.get("prefix", ""), asked.get("delimiter", "")

    async def look_early(self) -> None:
        """Let the next request go out before this page is read: the server writes one while we read the other."""
        if self._ahead is not None:
            self._token = xml.peek_token(self._document)
            if self._token:
                self._ahead.go_on(self._token)
                await asyncio.sleep(0)

    def _read(self, _head: ResponseHead, body: bytearray) -> ListPage:
        try:
            page = xml.parse_list_page(body, self._prefix, self._delimiter)
            check_within(page, self._prefix, self._delimiter)
            self._order.accept(page)
        except OssProtocolError:
            self._take_back()
            raise
        if page.next_token != self._token:
            self._take_back()
        return page

    def _take_back(self) -> None:
        if self._ahead is not None and self._token:
            self._ahead.stop()


_MOST_UNASKED_PAGES = 4

Ask = Callable[[str, Ahead], Coroutine[Any, Any, ListPage]]


class PageStream:
    """The pages of a listing in order, on one event loop; `ask` asks for the page that a token stands for.

    Few pages are fetched that the caller has not asked for: one at first, up to four once some were read.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._pages: deque[asyncio.Task[ListPage]] = deque()
        self._asked = ""  # the token that was asked for last
        self._token = ""  # where the listing goes on behind these pages, as far as is known
        self._latest: asyncio.Task[ListPage] | None = None  # what was asked for on the word of the last page to arrive
        self._is_wanted, self._most_unasked = False, 1

    async def next(self) -> ListPage:
        """Return the next page, with the one after it asked for; not to be called after the last one."""
        self._is_wanted = True
        if not self._pages:
            self._start("")
        page = await self._pages[0]
        self._is_wanted = False
        self._most_unasked = min(self._most_unasked + 1, _MOST_UNASKED_PAGES)
        self._pages.popleft()
        if not self._pages:
            self._token = page.next_token
        self._advance()
        return page

    def close(self) -> None:
        """Cancel the requests for pages that were not read."""
        self._token = ""
        while self._pages:
            self._pages.pop().cancel()

    def go_on(self, token: str) -> None:
        self._token, self._latest = "", None
        if token != self._asked:  # a page that leads to itself is about to be refused
            self._token = token
            self._advance()

    def stop(self) -> None:
        self._token = ""
        if self._latest is not None:
            self._pages.remove(self._latest)
            self._latest.cancel()
            self._latest = None

    def _advance(self) -> None:
        if self._token and len(self._pages) - self._is_wanted < self._most_unasked:
            token, self._token = self._token, ""
            self._start(token)
            self._latest = self._pages[-1]

    def _start(self, token: str) -> None:
        self._asked = token
        task = asyncio.ensure_future(self._ask(token, self))
        task.add_done_callback(_look_at)
        self._pages.append(task)


def _look_at(task: asyncio.Task[ListPage]) -> None:
    # Maybe nobody awaits the task any more, and asyncio logs exceptions that nobody has looked at.
    if not task.cancelled():
        task.exception()


AskPage = Callable[[str], "Future[ListPage]"]

_MOST_CUTS = 8
_PAGES_HELD = 1000  # what is listed ahead of the order, at most (and a page of each piece)
_LEAST, _MOST = 0x20, 0x7F  # keys are cut at printable ASCII, unless they go on with something else
_LAST = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


class _KeyRange:
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
    ask: AskPage, prefix: str, *, start_after: str = "", concurrency: int, wait: Wait = Future.result
) -> Generator[ListPage, None, None]:
    """Yield the pages of a listing in its order, up to `concurrency` requests in flight.

    `ask` requests a page of the keys with `prefix` behind the key it is given. The last page is an empty one, and only
    it has no `next_token`.
    """
    pieces, is_exiting = [_KeyRange(start_after, None)], sys.is_finalizing
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


def _cut(pieces: list[_KeyRange], prefix: str, concurrency: int) -> None:
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
        pieces[number + 1 : number + 1] = [_KeyRange(key, end) for key, end in zip(keys, ends, strict=True) if keys]
        if keys:
            piece.until = keys[0]
            piece.has_more = False  # until its next page says so
            spare -= len(keys)


def _request(pieces: list[_KeyRange], ask: AskPage, concurrency: int) -> None:
    flying = sum(piece.request is not None for piece in pieces)
    held = sum(len(piece.pages) for piece in pieces)
    for number, piece in enumerate(pieces):
        if flying >= concurrency or (number and held > _PAGES_HELD):
            return
        if piece.request is None and not piece.is_done:
            piece.request = ask(piece.after)
            flying += 1


def _take(pieces: list[_KeyRange], wait: Wait) -> None:
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
    # Several answers may come at once, from several threads: the first one sets the result.
    with contextlib.suppress(InvalidStateError):
        arrived.set_result(None)


def _drain(piece: _KeyRange) -> Iterator[ListPage]:
    while piece.pages:
        yield piece.pages.popleft()
