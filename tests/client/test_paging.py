"""Pages asked for one ahead: before a page is read, never two of them unasked, and taken back when it was wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine

import pytest
from client.test_list_pages import entry, page
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.client.paging import Ahead, PageAttempt, PageStream
from osstorchconnector.errors import OssProtocolError
from osstorchconnector.protocol.answers import PageOrder
from osstorchconnector.protocol.heads import ResponseHead
from osstorchconnector.protocol.values import ListPage, Request
from osstorchconnector.protocol.xml import parse_list_page, peek_token

HEAD = ResponseHead(200, {}, 0, chunked=False, keep_alive=True)


class Book:
    """A listing of pages `1` to `count`; it notes what is asked for and what is read."""

    def __init__(self, count: int, *, fails_at: str = "") -> None:
        self.count, self.fails_at = count, fails_at
        self.events: list[str] = []

    async def ask(self, token: str, ahead: Ahead) -> ListPage:
        token = token or "1"
        self.events.append(f"ask {token}")
        for _ in range(5):  # on the wire
            await asyncio.sleep(0)
        following = str(int(token) + 1) if int(token) < self.count else ""
        if following:
            ahead.go_on(following)
            await asyncio.sleep(0)
        if token == self.fails_at:
            ahead.stop()
            raise OssProtocolError("torn")
        self.events.append(f"read {token}")
        return ListPage([], [token], following)


def run(work: Callable[[], Coroutine[object, object, None]]) -> None:
    asyncio.run(work())


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def test_the_next_page_is_asked_for_before_one_is_read() -> None:
    async def work() -> None:
        book = Book(3)
        stream = PageStream(book.ask)
        assert [(await stream.next()).prefixes for _ in range(3)] == [["1"], ["2"], ["3"]]
        assert book.events == ["ask 1", "ask 2", "read 1", "ask 3", "read 2", "read 3"]

    run(work)


def test_few_pages_are_there_unasked_and_more_for_who_has_read_some() -> None:
    async def work() -> None:
        book = Book(99)
        stream = PageStream(book.ask)
        await stream.next()
        await settled()
        assert book.events == ["ask 1", "ask 2", "read 1", "ask 3", "read 2", "read 3"]
        await stream.next()
        await settled()
        assert book.events[6:] == ["ask 4", "ask 5", "read 4", "read 5"]
        for _ in range(5):
            await stream.next()
            await settled()
        assert book.events[-1] == "read 11"
        stream.close()

    run(work)


def test_a_page_that_nobody_came_for_may_fail_in_silence() -> None:
    async def work() -> None:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        stream = PageStream(Book(3, fails_at="2").ask)
        await stream.next()
        await settled()
        stream.close()
        del stream
        await settled()
        assert complaints == []

    run(work)


def test_the_error_of_a_page_reaches_who_asks_for_it() -> None:
    async def work() -> None:
        stream = PageStream(Book(3, fails_at="2").ask)
        await stream.next()
        with pytest.raises(OssProtocolError, match="torn"):
            await stream.next()

    run(work)


def test_a_page_that_is_taken_back_is_asked_for_again() -> None:
    async def work() -> None:
        events: list[str] = []
        torn = {"3": 1}

        async def ask(token: str, ahead: Ahead) -> ListPage:
            token = token or "1"
            try:
                while True:
                    events.append(f"ask {token}")
                    for _ in range(3):
                        await asyncio.sleep(0)
                    ahead.go_on(str(int(token) + 1))
                    await asyncio.sleep(0)
                    if not torn.pop(token, 0):
                        return ListPage([], [token], str(int(token) + 1))
                    ahead.stop()
            except asyncio.CancelledError:
                events.append(f"drop {token}")
                raise

        stream = PageStream(ask)
        assert [(await stream.next()).prefixes[0] for _ in range(6)] == list("123456")
        assert events.count("ask 3") == 2
        assert events.count("drop 4") <= 1
        assert events.count("ask 5") == 1
        stream.close()

    run(work)


class Heard:
    """An `Ahead` that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def go_on(self, token: str) -> None:
        self.told.append(token)

    def stop(self) -> None:
        self.told.append("stop")


TRUNCATED = "<IsTruncated>true</IsTruncated><NextContinuationToken>{}</NextContinuationToken>"


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (page([entry("a")]), []),
        (page([entry("a")], truncated=TRUNCATED.format("T")), ["T"]),
        (page([entry("a"), entry("a")], truncated=TRUNCATED.format("T")), ["T", "stop"]),
        (page([entry("a")], truncated=TRUNCATED.format("T"))[:-1], ["T", "stop"]),
        (page([], truncated=f"<!--{TRUNCATED.format('T')}--><IsTruncated>false</IsTruncated>"), ["T", "stop"]),
    ],
    ids=["last", "more to come", "out of order", "torn", "only seemingly more"],
)
def test_what_was_asked_for_on_a_wrong_page_s_word_is_taken_back(document: bytes, told: list[str]) -> None:
    heard = Heard()

    async def work() -> None:
        attempt = PageAttempt(Request("ListObjectsV2", "GET"), PageOrder(), heard)
        attempt.accept_whole(HEAD._replace(content_length=len(document)), memoryview(document))
        await attempt.look_early()
        try:
            attempt.finish(HEAD)
        except OssProtocolError:
            assert heard.told[-1] == "stop"

    run(work)
    assert heard.told == told


tokens = st.text(st.sampled_from("ABCxyz019+/=_.-&<% "), min_size=1, max_size=8)


@given(tokens, st.lists(st.sampled_from(["a", "b%2Fc", "&amp;"]), max_size=3), st.booleans())
def test_a_glance_tells_the_token_or_nothing(token: str, names: list[str], is_last: bool) -> None:
    truncated = "<IsTruncated>false</IsTruncated>" if is_last else TRUNCATED.format(token)
    document = page([entry(name) for name in names], truncated=truncated)
    try:
        expected = parse_list_page(document).next_token
    except OssProtocolError:
        return
    assert peek_token(document) in ("", expected)


def test_a_glance_sees_the_tokens_that_oss_gives() -> None:
    for spelling, token in (("CgJiYw--", "CgJiYw--"), ("Cg%2BJ%3D", "Cg+J=")):
        assert peek_token(page([entry("a")], truncated=TRUNCATED.format(spelling))) == token
