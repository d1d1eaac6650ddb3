"""How many pages are listed side by side: as many as pay, in the same order, counted without a clock."""

from __future__ import annotations

from bisect import bisect_right
from concurrent.futures import Future
from typing import Any

import pytest

from osstorchconnector.client.key_space import EvenCuts, SparingCuts, cuts_allowed
from osstorchconnector.client.limiter import FIRST_LIMITS, MOST_PAGES, forget, limiter
from osstorchconnector.client.paging import KeyRange, PageRounds, parallel_pages
from osstorchconnector.client.sharing import SharedState
from osstorchconnector.protocol.values import ListedObject, ListPage

SERVER, KEYS = "http://pages.test:80", [f"{number:07}" for number in range(300_000)]
PAGE_KEYS = 1000
FIRST = FIRST_LIMITS["pages"]


@pytest.fixture(autouse=True)
def nothing_learned() -> None:
    forget()


class FarBucket:
    """Answers all that was asked for after `latency` seconds, but at most `together` requests in that time."""

    def __init__(self, *, together: int = 10_000, latency: float = 0.1) -> None:
        self.together, self.latency, self.now = together, latency, 0.0
        self.asked: list[tuple[Future[ListPage], str]] = []
        self.requests = self.most = 0

    def ask(self, after: str) -> Future[ListPage]:
        self.requests += 1
        self.asked.append((Future(), after))
        self.most = max(self.most, len(self.asked))
        return self.asked[-1][0]

    def wait(self, arrived: Future[Any]) -> None:
        self.now += self.latency
        answered, self.asked = self.asked[: self.together], self.asked[self.together :]
        for future, after in answered:
            start = bisect_right(KEYS, after)
            keys, more = KEYS[start : start + PAGE_KEYS], "token" if start + PAGE_KEYS < len(KEYS) else ""
            future.set_result(ListPage([ListedObject(key, 1, "", "") for key in keys], [], more))
        assert arrived.done()

    def listed(self, *, is_sparing: bool = False, seconds_a_page: float = 0.0) -> list[str]:
        limit = limiter(SERVER, "pages", "auto", SharedState(), clock=lambda: self.now, busy_clock=lambda: 0.0)
        rounds = PageRounds(limit, lambda: self.now)
        known = KEYS[: 2 * PAGE_KEYS] if is_sparing else []
        whole = KeyRange(known[-1] if known else "", None)
        whole.page_keys = known[-PAGE_KEYS:]
        cuts = SparingCuts(len(known)) if is_sparing else EvenCuts()
        pages = parallel_pages(self.ask, "", concurrency=rounds, wait=self.wait, cuts=cuts, whole=whole)
        found = list(known)
        for page in pages:
            found += page.keys
            self.now += seconds_a_page
        limit.close()
        return found


@pytest.mark.parametrize("is_sparing", [False, True])
def test_where_it_is_far_more_pages_are_listed_side_by_side_in_the_same_order(is_sparing: bool) -> None:
    bucket = FarBucket()
    assert bucket.listed(is_sparing=is_sparing) == KEYS
    assert FIRST < bucket.most <= MOST_PAGES
    if is_sparing:
        assert bucket.requests <= len(KEYS) // PAGE_KEYS + cuts_allowed(len(KEYS)) + 1


def test_where_more_only_wait_for_each_other_there_are_few() -> None:
    bucket = FarBucket(together=8)
    assert bucket.listed() == KEYS
    assert bucket.most <= 2 * FIRST


def test_a_slow_reader_does_not_make_them_more() -> None:
    bucket = FarBucket()
    assert bucket.listed(seconds_a_page=0.1) == KEYS
    assert bucket.most <= FIRST


def test_the_next_listing_begins_with_what_the_last_one_found() -> None:
    FarBucket().listed()
    assert limiter(SERVER, "pages", "auto", SharedState()).limit > FIRST
