"""A listing page by page: each page is asked for as soon as the one before it has told where it goes on."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from ..errors import OssProtocolError
from ..protocol import xml
from ..protocol.heads import ResponseHead
from ..protocol.page_order import PageOrder, check_within
from ..protocol.values import ListPage, Request
from .attempts import DocumentAttempt


class Ahead(Protocol):
    """Who asks for the page after this one."""

    def go_on(self, token: str) -> None:
        """The answer is here, and seems to say that the listing goes on there."""

    def stop(self) -> None:
        """It does not: what was asked for is not wanted."""


class PageAttempt(DocumentAttempt[ListPage]):
    """A page of a listing: of what was asked for, and going on where the last one ended."""

    def __init__(self, request: Request, order: PageOrder, ahead: Ahead | None) -> None:
        super().__init__(request, self._read)
        self.settles = ahead is not None
        self._order, self._ahead, self._token = order, ahead, ""
        asked = dict(request.query)
        self._prefix, self._delimiter = asked.get("prefix", ""), asked.get("delimiter", "")

    async def settle(self) -> None:
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

    Few pages are on their way, or here, that nobody has asked for: one at first, up to four for who has read some.
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
        """Let go of what nobody wants any more."""
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
    # Nobody may come for it any more, and asyncio complains of errors that nobody has seen.
    if not task.cancelled():
        task.exception()
