"""Where a listing is cut: between its keys, in order, where the next pages should be, and not too often."""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_right
from collections.abc import Callable
from concurrent.futures import Future

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.client.key_space import (
    FAR_FACTOR,
    FAR_SECONDS,
    FREE_CUTS,
    PAGE_KEYS,
    PAGES_PER_CUT,
    Ruler,
    SparingCuts,
    cuts_allowed,
    is_far,
)
from osstorchconnector.client.paging import KeyRange, parallel_pages
from osstorchconnector.protocol.values import ListedObject, ListPage

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
NAMES = st.one_of(TEXT, st.text("0123456789/ab.", max_size=8), st.integers(0, 99999).map("{:05}.jpg".format))


@given(st.floats(0, 10), st.floats(0, 10))
def test_far_is_where_a_page_is_awaited_for_longer_than_it_takes_to_read(waited: float, read: float) -> None:
    assert is_far(waited, read) == (waited >= FAR_SECONDS and waited >= FAR_FACTOR * read)


def test_a_small_prefix_is_hardly_cut_and_a_large_one_once_in_ten_pages() -> None:
    assert [cuts_allowed(keys) for keys in (0, 999, 1000, 2000, 5000, 100_000)] == [0, 0, 1, 2, 4, 14]


@given(st.sets(NAMES, min_size=1, max_size=50), TEXT)
def test_numbers_rise_as_the_keys_that_made_the_ruler_do(tails: set[str], prefix: str) -> None:
    keys = sorted(prefix + tail for tail in tails)
    ruler = Ruler(prefix, keys)
    numbers = [ruler.number(key) for key in keys]
    assert numbers == sorted(numbers)
    assert 0 <= numbers[0] <= numbers[-1] < ruler.end


@given(st.sets(NAMES, min_size=1, max_size=50), TEXT, st.floats(0, 1), st.floats(0, 1))
def test_keys_rise_as_their_numbers_do(tails: set[str], prefix: str, one: float, other: float) -> None:
    ruler = Ruler(prefix, sorted(prefix + tail for tail in tails))
    low, high = (min(int(share * ruler.end), ruler.end - 1) for share in sorted((one, other)))
    assert prefix <= ruler.key(low) <= ruler.key(high)


@pytest.mark.parametrize("form", ["{:06}", "img_{:08}.jpg"])
def test_counted_keys_are_found_where_they_are(form: str) -> None:
    ruler = Ruler("p/", ["p/" + form.format(number) for number in range(1000)])
    behind = ruler.key(ruler.number("p/" + form.format(999)) + 10 * ruler.page_length)
    assert "p/" + form.format(10_900) < behind < "p/" + form.format(11_200)


class Bucket:
    """Answers all requests of a round at once, and counts both."""

    def __init__(self, keys: list[str]) -> None:
        self.keys, self.asked, self.rounds = sorted(keys), 0, 0
        self._pending: list[tuple[Future[ListPage], str]] = []

    def ask(self, after: str) -> Future[ListPage]:
        self.asked += 1
        self._pending.append((Future(), after))
        return self._pending[-1][0]

    def wait(self, arrived: Future[None]) -> None:
        self.rounds += 1
        pending, self._pending = self._pending, []
        for future, after in pending:
            future.set_result(self.page(after))
        arrived.result()

    def page(self, after: str) -> ListPage:
        start = bisect_right(self.keys, after) if after else 0
        found = self.keys[start : start + PAGE_KEYS]
        more = "token" if start + PAGE_KEYS < len(self.keys) else ""
        return ListPage([ListedObject(key, 1, "", "") for key in found], [], more)

    def listed(self, prefix: str, concurrency: int) -> list[str]:
        """List all, of which the first two pages are known."""
        known = self.keys[: 2 * PAGE_KEYS]
        self.asked = self.rounds = 2
        rest = KeyRange(known[-1], None)
        rest.page_keys, rest.request = known[-PAGE_KEYS:], self.ask(known[-1])
        pages = parallel_pages(
            self.ask,
            prefix,
            concurrency=concurrency,
            wait=self.wait,
            cuts=SparingCuts(len(known)),
            whole=rest,
        )
        return known + [listed.key for page in pages for listed in page.objects]


def hashed(number: int) -> str:
    return hashlib.md5(str(number).encode()).hexdigest()


def dated(number: int) -> str:
    dice = random.Random(number)
    return f"2024/{dice.randrange(1, 13):02}/{dice.randrange(1, 29):02}/{dice.randrange(10**9):09}.gz"


def classed(number: int) -> str:
    dice = random.Random(number // 1300)
    return f"n{dice.randrange(1_440_764, 15_075_141):08}/{random.Random(number).randrange(10**6)}_{number}.JPEG"


FORMS: dict[str, Callable[[int], str]] = {
    "counted": "{:06}".format,
    "numbers of any length": "{}.bin".format,
    "hashes": hashed,
    "dates": dated,
    "classes": classed,
    "shards": lambda number: f"shard-{number // 5000:05}/{hashed(number)}",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("count", "factor"), [(2001, 0.75), (4000, 0.75), (20_000, 1.5), (60_000, 1.75)])
def test_many_rounds_are_saved_for_few_requests_more(form: str, count: int, factor: float) -> None:
    bucket = Bucket([f"p/{FORMS[form](number)}" for number in range(count)])
    assert bucket.listed("p/", 16) == bucket.keys
    pages = -(-count // PAGE_KEYS)
    assert bucket.asked <= pages + FREE_CUTS + pages // PAGES_PER_CUT + 1
    assert bucket.rounds * factor <= pages


@given(st.integers(2001, 12_000), st.sampled_from(list(FORMS)), st.integers(1, 20), st.integers(0, 99), st.booleans())
def test_each_key_comes_once_in_order_with_few_requests_more(
    count: int, form: str, concurrency: int, salt: int, is_mixed: bool
) -> None:
    other = FORMS[list(FORMS)[salt % len(FORMS)]]
    keys = {f"p/{other(number) if is_mixed and number % 3 == 0 else FORMS[form](number)}" for number in range(count)}
    bucket = Bucket(list(keys))
    assert bucket.listed("p/", concurrency) == bucket.keys
    pages = -(-len(keys) // PAGE_KEYS)
    assert bucket.asked <= pages + FREE_CUTS + pages // PAGES_PER_CUT + 1
