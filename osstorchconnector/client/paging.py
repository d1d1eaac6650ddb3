"""Listings, in two ways that both give the pages in the order of their keys.

`PageStream` lists page after page. It asks for the next page as soon as the answer with the one before has come, before
that is parsed: OSS writes one while we read the other.

`parallel_pages` splits the range of keys and lists the ranges side by side. `key_space` says where to cut it. How many
at a time may be a `Limiter`'s business, which `PageRounds` tells how they come.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any, Protocol

from ..errors import OssProtocolError
from ..index.shared_file import Wait
from ..protocol import xml
from ..protocol.answers import PageOrder, check_within
from ..protocol.heads import ResponseHead
from ..protocol.values import ListPage, Request
from .attempts import DocumentAttempt
from .concurrency import IDLE_SHARE
from .key_space import Cuts
from .limiter import Limiter


class Ahead(Protocol):
    """Asks for the page after this one, before this one is parsed."""

    def go_on(self, token: str) -> None:
        """The answer has come, and seems to say that the listing goes on at `token`."""

    def stop(self) -> None:
        """It does not: cancel that request."""


class PageTimes:
    """How long the pages of a listing are awaited, at least, and how long it takes to read one."""

    def __init__(self) -> None:
        self.waited_seconds, self.read_seconds = float("inf"), 0.0

    def note(self, asked: float, came: float, read: float) -> None:
        """A page was asked for, came, and was read at these times."""
        self.waited_seconds, self.read_seconds = min(self.waited_seconds, came - asked), read - came


class PageAttempt(DocumentAttempt[ListPage]):
    """A page of a listing: of what was asked for, and going on where the last one ended."""

    def __init__(self, request: Request, order: PageOrder, ahead: Ahead | None, times: PageTimes | None = None) -> None:
        super().__init__(request)
        self._times, self._asked_at = times, time.perf_counter()
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

    def _parse(self, head: ResponseHead, body: bytearray) -> ListPage:
        came = time.perf_counter()
        try:
            page = xml.parse_list_page(body, self._prefix, self._delimiter)
            check_within(page, self._prefix, self._delimiter)
            self._order.accept(page)
        except OssProtocolError:
            self._take_back()
            raise
        if page.next_token != self._token:
            self._take_back()
        if self._times is not None:
            self._times.note(self._asked_at, came, time.perf_counter())
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
        self._is_wanted, self._most_unasked, self._is_held = False, 1, False

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

    async def hold(self) -> int:
        """Ask for no more pages; return how many `next` can still return, since they were asked for."""
        self._is_held = True
        return len(self._pages)

    def close(self) -> None:
        """Cancel the requests for pages that were not read."""
        # The request of a task holds this stream. If the stream held the task, both would be a cycle, and keep pages.
        self._token, self._latest = "", None
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
        if self._token and not self._is_held and len(self._pages) - self._is_wanted < self._most_unasked:
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

_PAGES_HELD = 1000  # what is listed ahead of the order, at most (and a page of each piece)


class KeyRange:
    """The keys behind `after`, up to `until` (`None`: to the end)."""

    __slots__ = ("after", "answers", "has_more", "is_done", "listed_keys", "page_keys", "pages", "request", "until")

    def __init__(self, after: str, until: str | None) -> None:
        self.after, self.until = after, until
        self.answers = self.listed_keys = 0
        self.page_keys: Sequence[str] = ()  # those of the last page
        self.pages: deque[ListPage] = deque()
        self.request: Future[ListPage] | None = None
        self.has_more = self.is_done = False

    def take(self, page: ListPage) -> None:
        """Take in the next page: what of it lies within this piece."""
        self.answers += 1
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
            self.page_keys = self.pages[-1].keys
            self.listed_keys += len(self.page_keys)


class PageRounds:
    """Follows a limiter while pages are listed side by side; all of it on the thread that reads them.

    A round in which too few ranges could be listed, or the reader took its time, changes nothing.
    """

    def __init__(self, limiter: Limiter, clock: Callable[[], float] = time.monotonic) -> None:
        self._limiter, self._clock = limiter, clock
        self._asked = clock()
        self._idle_places = 0
        self._reading_seconds = 0.0
        limiter.begin_round()

    @property
    def limit(self) -> int:
        """How many requests may be in flight now."""
        return self._limiter.limit

    def ask(self, in_flight: int) -> None:
        """So many requests are in flight, and the reader begins to wait; before, it read pages."""
        now = self._clock()
        self._reading_seconds += now - self._asked
        self._asked, self._idle_places = now, max(self.limit - in_flight, 0)

    def take(self, answers: int) -> None:
        """So many have come."""
        meter, now = self._limiter.meter, self._clock()
        meter.idle_seconds += self._idle_places * (now - self._asked)
        meter.finished += answers
        self._asked = now
        if meter.finished >= meter.quota:
            is_wanted = self._reading_seconds < IDLE_SHARE * (now - meter.begun)
            if self._limiter.end_round(is_wanted=is_wanted):
                self._limiter.begin_round()
            if not meter.finished:
                self._reading_seconds = 0.0


def parallel_pages(
    ask: AskPage,
    prefix: str,
    *,
    start_after: str = "",
    concurrency: int | PageRounds,
    wait: Wait = Future.result,
    cuts: Cuts,
    whole: KeyRange | None = None,
) -> Generator[ListPage, None, None]:
    """Yield the pages of a listing in its order, up to `concurrency` requests in flight, or as many as a limiter says.

    `ask` requests a page of the keys with `prefix` behind the key it is given. The last page is an empty one, and only
    it has no `next_token`. `cuts` decides where to cut. `whole` is what is to be listed, if that has begun before.
    """
    pieces, is_exiting = [whole or KeyRange(start_after, None)], sys.is_finalizing
    try:
        while pieces:
            limit = concurrency.limit if isinstance(concurrency, PageRounds) else concurrency
            for number, keys in reversed(cuts.places(pieces, prefix, limit)):
                _split(pieces, number, keys)
            in_flight = _request(pieces, ask, limit)
            if isinstance(concurrency, PageRounds):
                concurrency.ask(in_flight)
                concurrency.take(_take(pieces, wait))
            else:
                _take(pieces, wait)
            while pieces and (pieces[0].pages or pieces[0].is_done):
                yield from _drain(pieces[0])
                if not pieces[0].is_done:
                    break
                cuts.forget(pieces.pop(0))
        yield ListPage([], [], "")
    finally:
        for piece in pieces:
            if piece.request is not None and not is_exiting():  # at the end the globals of modules may be gone
                piece.request.cancel()


def _split(pieces: list[KeyRange], number: int, keys: list[str]) -> None:
    """Cut a piece at these keys, which rise and lie within it."""
    if keys:
        piece, ends = pieces[number], [*keys[1:], pieces[number].until]
        pieces[number + 1 : number + 1] = [KeyRange(key, end) for key, end in zip(keys, ends, strict=True)]
        piece.until = keys[0]
        piece.has_more = False  # until its next page says so


def _request(pieces: list[KeyRange], ask: AskPage, concurrency: int) -> int:
    """Ask for pages; return how many requests are in flight then."""
    flying = sum(piece.request is not None for piece in pieces)
    held = sum(len(piece.pages) for piece in pieces)
    for number, piece in enumerate(pieces):
        if flying >= concurrency or (number and held > _PAGES_HELD):
            break
        if piece.request is None and not piece.is_done:
            piece.request = ask(piece.after)
            flying += 1
    return flying


def _take(pieces: list[KeyRange], wait: Wait) -> int:
    """Wait until at least one request is answered; take in all answers that are there, and return how many."""
    asked = [piece for piece in pieces if piece.request is not None]
    if not asked:
        return 0
    answers = 0
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
            answers += 1
    return answers


def _tell(arrived: Future[None]) -> None:
    # Several answers may come at once, from several threads: the first one sets the result.
    with contextlib.suppress(InvalidStateError):
        arrived.set_result(None)


def _drain(piece: KeyRange) -> Iterator[ListPage]:
    while piece.pages:
        yield piece.pages.popleft()
