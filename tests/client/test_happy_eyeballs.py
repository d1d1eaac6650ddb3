"""Which address of a host is connected to: the first that answers, and from then on that one first."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from client.ports import black_hole, nobody
from client.scripted_server import ScriptedServer, answer, hang
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.client.transport.addresses import (
    FRESH_SECONDS,
    KEPT_SECONDS,
    LOST_SECONDS,
    MOST_HANGING,
    AddressBook,
    Addresses,
    AddressInfo,
)
from osstorchconnector.client.transport.aio import AioTransport
from osstorchconnector.client.transport.base import ExchangeFailed, Timeouts, WireRequest
from osstorchconnector.client.transport.direct import DirectTransport
from osstorchconnector.protocol.endpoint import Origin

TRANSPORTS = pytest.mark.parametrize("kind", [DirectTransport, AioTransport])
PATIENT = Timeouts(connect_seconds=30, read_seconds=30)
V4, V6 = int(socket.AF_INET), int(socket.AF_INET6)


def info(address: str, port: int = 80) -> AddressInfo:
    family = V6 if ":" in address else V4
    there: tuple[Any, ...] = (address, port, 0, 0) if family == V6 else (address, port)
    return family, int(socket.SOCK_STREAM), int(socket.IPPROTO_TCP), "", there


def order(book: AddressBook, infos: Sequence[AddressInfo], now: float = 0.0, host: str = "host") -> list[str]:
    return [found[4][0] for found in book.in_order(host, infos, now)]


SIX, OTHER_SIX, FOUR, OTHER_FOUR = "2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"
ALL = [info(SIX), info(OTHER_SIX), info(FOUR), info(OTHER_FOUR)]


def test_families_take_turns_beginning_with_the_resolvers_first() -> None:
    assert order(AddressBook(), ALL) == [SIX, FOUR, OTHER_SIX, OTHER_FOUR]
    assert order(AddressBook(), [info(FOUR), info(OTHER_FOUR), info(SIX)]) == [FOUR, SIX, OTHER_FOUR]


def test_a_family_that_lost_is_tried_last_and_after_ten_minutes_in_its_turn_again() -> None:
    book = AddressBook()
    book.won("host", book.in_order("host", ALL, 0.0), (FOUR, 80), 0.0)
    assert order(book, ALL) == [FOUR, OTHER_FOUR, OTHER_SIX, SIX]
    assert order(book, ALL, host="another") == [FOUR, OTHER_SIX, OTHER_FOUR, SIX], "of another host: the address only"
    assert order(book, ALL, now=LOST_SECONDS) == [SIX, FOUR, OTHER_SIX, OTHER_FOUR]


def test_an_address_that_lost_within_its_family_is_tried_last() -> None:
    book, infos = AddressBook(), [info(FOUR), info(OTHER_FOUR)]
    book.won("host", infos, (OTHER_FOUR, 80), 0.0)
    assert order(book, infos) == [OTHER_FOUR, FOUR]
    book.won("host", book.in_order("host", infos, 1.0), (FOUR, 80), 1.0)
    assert order(book, infos) == [FOUR, OTHER_FOUR], "it has answered since, and the other one has not"


def test_a_winner_that_was_not_in_the_race_says_nothing() -> None:
    book = AddressBook()
    book.won("host", ALL, ("198.51.100.7", 80), 0.0)
    book.won("host", ALL, (), 0.0)
    assert order(book, ALL) == [SIX, FOUR, OTHER_SIX, OTHER_FOUR]


def test_loops_may_learn_of_races_at_the_same_time() -> None:
    book, errors = AddressBook(), list[Exception]()

    def learn(first: int) -> None:
        try:
            for number in range(first, first + 2000):
                infos = [info(f"192.0.{number % 250}.{last}") for last in range(16)]
                book.won(f"host-{number}", infos, infos[-1][4], float(number))
                book.in_order("host", infos, float(number))
                book.lost(("192.0.2.1", number), float(number))
        except Exception as error:
            errors.append(error)

    threads, interval = [threading.Thread(target=learn, args=(7 * number,)) for number in range(4)], 1e-6
    before = sys.getswitchinterval()
    sys.setswitchinterval(interval)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert errors == []


addresses = st.lists(
    st.sampled_from([SIX, OTHER_SIX, FOUR, OTHER_FOUR, "192.0.2.3", "2001:db8::3"]), min_size=1, unique=True
)


@given(addresses, st.lists(st.integers(0, 5), max_size=8))
def test_every_address_is_tried_and_the_last_winner_first(texts: list[str], races: list[int]) -> None:
    book, infos, winner = AddressBook(), list(map(info, texts)), ""
    for number, choice in enumerate(races):
        tried = book.in_order("host", infos, float(number))
        winner = tried[choice % len(tried)][4][0]
        book.won("host", tried, (winner, 80), float(number))
    found = order(book, infos, now=float(len(races)))
    assert sorted(found) == sorted(texts)
    assert not winner or found[0] == winner


# --- the resolver


class Resolver:
    """Answers as the script says, and counts how often it was asked; a `None` never answers."""

    def __init__(self, *script: Sequence[AddressInfo] | Exception | None) -> None:
        self._script = list(script)
        self.asked = 0
        self.over = threading.Event()

    def __call__(self, host: str, port: int) -> Sequence[AddressInfo]:
        said = self._script[min(self.asked, len(self._script) - 1)]
        self.asked += 1
        if said is None:
            self.over.wait(30)
            return ALL
        if isinstance(said, Exception):
            raise said
        return said


TRY_AGAIN = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def test_an_address_is_no_name_to_ask_for() -> None:
    resolver = Resolver(ALL)
    found = asyncio.run(Addresses(AddressBook(), resolver).of("127.0.0.1", 8080, 30))
    assert [known[4] for known in found] == [("127.0.0.1", 8080)]
    assert not resolver.asked


def test_many_who_ask_for_a_name_at_once_ask_the_resolver_once_and_again_after_a_while() -> None:
    async def run() -> None:
        now = [0.0]
        asking = Addresses(AddressBook(), resolver, lambda: now[0])
        found = await asyncio.gather(*[asking.of("host", 80, 30) for _ in range(24)])
        assert Counter(known[0][4][0] for known in found) == {SIX: 12, OTHER_SIX: 12}
        now[0] = FRESH_SECONDS - 1
        await asking.of("host", 80, 30)
        assert resolver.asked == 1
        now[0] = FRESH_SECONDS
        await asking.of("host", 80, 30)
        assert resolver.asked == 2

    resolver = Resolver(ALL)
    asyncio.run(run())


def test_loops_share_what_the_resolver_said() -> None:
    book, resolver = AddressBook(), Resolver(ALL)
    for _ in range(2):
        asyncio.run(Addresses(book, resolver).of("host", 80, 30))
    assert resolver.asked == 1


def test_a_resolver_that_hangs_is_not_waited_for_and_the_next_one_asks_anew() -> None:
    async def run() -> None:
        asking = Addresses(AddressBook(), resolver)
        with pytest.raises(socket.gaierror, match="the resolver says nothing of host within 0.05 s") as raised:
            await asking.of("host", 80, 0.05)
        assert raised.value.errno == socket.EAI_AGAIN
        assert len(await asking.of("host", 80, 30)) == 1
        resolver.over.set()

    resolver = Resolver(None, [info(FOUR)])
    asyncio.run(run())


def test_a_resolver_that_goes_on_hanging_keeps_few_threads() -> None:
    async def run() -> int:
        asking = Addresses(AddressBook(), resolver)
        for _ in range(3 * MOST_HANGING):
            with pytest.raises(socket.gaierror):
                await asking.of("host", 80, 0.01)
        asked = resolver.asked
        resolver.over.set()
        while not await asyncio.sleep(0.001, asking.book.known("host", 80, 0.0, within_seconds=float("inf"))):
            pass
        assert len(await asking.of("host", 80, 30)) == len(ALL)
        return asked

    resolver = Resolver(*[None] * (3 * MOST_HANGING), ALL)
    assert asyncio.run(run()) == MOST_HANGING


def test_what_a_resolver_says_too_late_is_there_for_the_next() -> None:
    async def run() -> None:
        asking = Addresses(AddressBook(), resolver)
        with pytest.raises(socket.gaierror):
            await asking.of("host", 80, 0.05)
        resolver.over.set()
        while not await asyncio.sleep(0.001, asking.book.known("host", 80, 0.0, within_seconds=float("inf"))):
            pass
        assert len(await asking.of("host", 80, 30)) == len(ALL)
        assert resolver.asked == 1

    resolver = Resolver(None, TRY_AGAIN)
    asyncio.run(run())


@pytest.mark.parametrize("failure", [None, TRY_AGAIN], ids=["hangs", "fails for the moment"])
def test_the_last_answer_holds_while_the_resolver_has_none(failure: Exception | None) -> None:
    async def run() -> None:
        now = [0.0]
        asking = Addresses(AddressBook(), resolver, lambda: now[0])
        await asking.of("host", 80, 30)
        now[0] = KEPT_SECONDS - 1
        assert len(await asking.of("host", 80, 0.05)) == len(ALL)
        now[0] = KEPT_SECONDS
        with pytest.raises(socket.gaierror):
            await asking.of("host", 80, 0.05)
        resolver.over.set()

    resolver = Resolver(ALL, failure)
    asyncio.run(run())


def test_a_name_that_is_gone_is_an_error_whatever_it_stood_for() -> None:
    async def run() -> None:
        now = [0.0]
        asking = Addresses(AddressBook(), resolver, lambda: now[0])
        await asking.of("host", 80, 30)
        now[0] = FRESH_SECONDS
        with pytest.raises(socket.gaierror, match="not known"):
            await asking.of("host", 80, 30)

    resolver = Resolver(ALL, socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    asyncio.run(run())


# --- both transports


class BodySink:
    fills_in_place = False
    moved_bytes = 0

    def __init__(self) -> None:
        self.body = bytearray()

    def buffer_for(self, head: Any) -> memoryview:
        self.body = bytearray(head.content_length)
        return memoryview(self.body)

    def progressed(self, received_bytes: int) -> None: ...

    def accept_whole(self, head: Any, body: memoryview) -> None:
        self.body = bytearray(body)


class Asking:
    """Sends requests for the host `bucket.test`, each on a new connection."""

    def __init__(self, kind: Any, infos: Sequence[AddressInfo], timeouts: Timeouts = PATIENT) -> None:
        self.resolver = Resolver(infos)
        self.addresses = Addresses(AddressBook(), self.resolver)
        self.transport = kind(timeouts, None, addresses=self.addresses)
        self._wire = WireRequest(Origin("http", "bucket.test", 80), "GET", "/k", [("Host", "bucket.test")])

    async def get(self) -> bytes:
        sink, deadline = BodySink(), asyncio.get_running_loop().time() + 60
        await self.transport.exchange(self._wire, sink, deadline, on_new_connection=True)
        return bytes(sink.body)

    async def first_choice(self) -> tuple[Any, ...]:
        return (await self.addresses.of("bucket.test", 80, 30))[0][4]


@TRANSPORTS
@pytest.mark.parametrize("dead", [nobody, black_hole])
def test_the_next_address_is_tried_and_from_then_on_tried_first(kind: Any, dead: Any) -> None:
    async def run() -> None:
        asking = Asking(kind, [info("127.0.0.1", port), info("127.0.0.1", server.port)])
        assert await asking.get() == b"here"
        assert await asking.first_choice() == ("127.0.0.1", server.port)
        assert await asking.get() == b"here"
        assert asking.resolver.asked == 1
        await asking.transport.aclose()

    with dead() as port, ScriptedServer([answer(b"here")], [answer(b"here")]) as server:
        asyncio.run(run())


@TRANSPORTS
def test_a_server_that_does_not_answer_is_passed_over_the_next_time(kind: Any) -> None:
    async def run() -> None:
        infos = [info("127.0.0.1", mute.port), info("127.0.0.1", server.port)]
        asking = Asking(kind, infos, Timeouts(connect_seconds=30, read_seconds=1))
        with pytest.raises(ExchangeFailed) as failed:
            await asking.get()
        assert not failed.value.reused
        assert await asking.get() == b"here"
        await asking.transport.aclose()

    with ScriptedServer([hang]) as mute, ScriptedServer([answer(b"here")]) as server:
        asyncio.run(run())


@TRANSPORTS
def test_when_no_address_answers_the_resolver_is_asked_again(kind: Any) -> None:
    async def run() -> None:
        asking = Asking(kind, [info("127.0.0.1", port), info("127.0.0.1", other)])
        for asked in (1, 2):
            with pytest.raises(ExchangeFailed, match="no connection to bucket.test:80") as failed:
                await asking.get()
            assert failed.value.kind == "connect"
            assert asking.resolver.asked == asked
        await asking.transport.aclose()

    with nobody() as port, nobody() as other:
        asyncio.run(run())


@TRANSPORTS
def test_a_black_hole_is_given_up_after_the_time_to_connect(kind: Any) -> None:
    async def run() -> None:
        asking = Asking(kind, [info("127.0.0.1", port)], Timeouts(connect_seconds=0.3, read_seconds=30))
        with pytest.raises(ExchangeFailed, match=r"within 0\.3 s") as failed:
            await asking.get()
        assert (failed.value.kind, failed.value.reused) == ("connect_timeout", False)
        await asking.transport.aclose()

    with black_hole() as port:
        asyncio.run(run())


@TRANSPORTS
def test_a_resolver_that_hangs_is_a_failure_to_connect(kind: Any) -> None:
    async def run() -> None:
        asking = Asking(kind, [], Timeouts(connect_seconds=0.2, read_seconds=30))
        asking.resolver._script = [None]
        with pytest.raises(ExchangeFailed, match=r"the resolver says nothing of bucket\.test within 0\.2 s") as failed:
            await asking.get()
        assert (failed.value.kind, failed.value.reused) == ("connect", False)
        asking.resolver.over.set()
        await asking.transport.aclose()

    asyncio.run(run())
