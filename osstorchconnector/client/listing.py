"""The pages of a prefix: one after the other where OSS is near, side by side where it is far.

Whether it is far is seen from the first two pages. So a prefix of up to two pages takes as many requests as it has
pages; a larger one takes a tenth more, and five, at most. The order is the same on both ways.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Coroutine, Generator, Iterator
from concurrent.futures import Future
from typing import Any

from ..config import Concurrency
from ..index.shared_file import Wait
from ..protocol.answers import PageOrder
from ..protocol.values import ListPage
from ..uri import OssUri
from .client import OssClient
from .engine import engine
from .key_space import SparingCuts, is_far
from .operations import Operations
from .paging import Ahead, KeyRange, PageRounds, PageStream, PageTimes, parallel_pages

_JUDGED_PAGES = 2  # the first one may have waited for its connection


class PrefixPages:
    """The pages of one prefix behind `start_after`. Requests run on `workers` threads.

    `is_distance` decides from the time for which a page is awaited and the time to read it, in seconds.
    """

    def __init__(
        self,
        client: OssClient,
        prefix: OssUri,
        *,
        start_after: str = "",
        workers: int = 1,
        wait: Wait = Future.result,
        is_distance: Callable[[float, float], bool] = is_far,
    ) -> None:
        self._client, self._prefix, self._workers, self._wait = client, prefix, workers, wait
        self._is_distance, self._thread = is_distance, engine.threads(1)[0]
        self._times = PageTimes()
        self._stream: PageStream = wait(client.submit(functools.partial(_stream, prefix, start_after, self._times)))
        self._pages = self._listed_keys = 0
        self._page = ListPage([], [], "")  # the last one that has objects
        self._begun: Future[ListPage] | None = None

    def pages(self, concurrency: Concurrency) -> Generator[ListPage, None, None]:
        """Yield the pages in their order, up to `concurrency` requests in flight; only the last has no `next_token`."""
        try:
            yield from self._one_by_one()
            if self._page.next_token:
                rest = KeyRange(self._page.objects[-1].key, None)
                rest.page_keys, rest.request = self._page.keys, self._begun
                with _page_rounds(self._client, concurrency) as limit:
                    yield from parallel_pages(
                        self._ask,
                        self._prefix.key,
                        concurrency=limit,
                        wait=self._wait,
                        cuts=SparingCuts(self._listed_keys),
                        whole=rest,
                    )
        finally:
            self._thread.call(self._stream.close)

    def _one_by_one(self) -> Generator[ListPage, None, None]:
        """Yield page after page until the last, or until OSS turns out to be far; then the next may have begun."""
        is_held, unread = False, 0
        while True:
            page = self._wait(self._begun or self._next())
            self._page, self._begun = page if page.objects or not page.next_token else self._page, None
            self._pages, self._listed_keys = self._pages + 1, self._listed_keys + len(page.objects)
            if is_held:
                unread -= 1
            elif self._is_far():
                is_held, unread = True, self._wait(self._client.submit(lambda _: self._stream.hold()))
            if unread:
                self._begun = self._next()
            yield page
            if not page.next_token or (is_held and unread <= 1):
                return

    def _is_far(self) -> bool:
        """Say whether to list the rest side by side."""
        if self._pages < _JUDGED_PAGES or not self._page.next_token or not self._page.objects:
            return False
        return self._is_distance(self._times.waited_seconds, self._times.read_seconds)

    def _next(self) -> Future[ListPage]:
        return self._client.submit(lambda _: self._stream.next())

    def _ask(self, after: str) -> Future[ListPage]:
        def list_page(operations: Operations) -> Coroutine[Any, Any, ListPage]:
            return operations.list_page(self._prefix, start_after=after, order=PageOrder(after), times=self._times)

        return self._client.submit(list_page, workers=self._workers)


@contextlib.contextmanager
def _page_rounds(client: OssClient, concurrency: Concurrency) -> Iterator[int | PageRounds]:
    """Give what `parallel_pages` may have in flight, as configured."""
    if concurrency != "auto":
        yield concurrency
        return
    limiter = client.limiter("pages", concurrency)
    try:
        yield PageRounds(limiter)
    finally:
        limiter.close()


async def _stream(prefix: OssUri, start_after: str, times: PageTimes, operations: Operations) -> PageStream:
    order = PageOrder(start_after)

    def ask(token: str, ahead: Ahead) -> Coroutine[Any, Any, ListPage]:
        after = "" if token else start_after
        return operations.list_page(prefix, start_after=after, token=token, order=order, ahead=ahead, times=times)

    return PageStream(ask)
