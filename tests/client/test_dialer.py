"""How many connections are made, when, and to which addresses; and who gets them."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from client.ports import nobody
from client.scripted_server import ScriptedServer, Step, Visit, answer, hang
from client.test_happy_eyeballs import PATIENT, BodySink, Resolver, info

from osstorchconnector.client.transport.addresses import AddressBook, Addresses, AddressInfo
from osstorchconnector.client.transport.base import ExchangeFailed, Timeouts, WireRequest
from osstorchconnector.client.transport.dialer import MOST_DIALED_AT_ONCE, probe_when_idle
from osstorchconnector.client.transport.direct import DirectTransport
from osstorchconnector.client.transport.outliers import TIMED_EVERY, WINDOW
from osstorchconnector.protocol.endpoint import Origin

ORIGIN = Origin("http", "bucket.test", 80)


class Addressing(Addresses):
    """Knows the addresses of the servers; whoever asks waits while the door is shut."""

    def __init__(self, *servers: ScriptedServer) -> None:
        self.resolver = Resolver([info(server.host, server.port) for server in servers])
        super().__init__(AddressBook(), self.resolver)
        self.asked = 0
        self.door = asyncio.Event()
        self.door.set()

    async def of(self, host: str, port: int, seconds: float) -> list[AddressInfo]:
        self.asked += 1
        await self.door.wait()
        return await super().of(host, port, seconds)


class Asking:
    """A transport to some servers, and requests through it."""

    def __init__(self, *servers: ScriptedServer, timeouts: Timeouts = PATIENT, **clocks: Callable[[], float]) -> None:
        self.addresses = Addressing(*servers)
        self.transport = DirectTransport(timeouts, None, addresses=self.addresses, **clocks)
        self._wire = WireRequest(ORIGIN, "GET", "/k", [("Host", "bucket.test")], operation="GetObject")

    def begin(self, seconds: float = 60, **how: bool) -> asyncio.Task[bytes]:
        return asyncio.ensure_future(self._get(seconds, **how))

    async def get(self, count: int, **how: bool) -> list[bytes]:
        return list(await asyncio.gather(*[self.begin(**how) for _ in range(count)]))

    async def _get(self, seconds: float, **how: bool) -> bytes:
        sink, deadline = BodySink(), asyncio.get_running_loop().time() + seconds
        await self.transport.exchange(self._wire, sink, deadline, **how)
        return bytes(sink.body)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


def until(event: threading.Event, body: bytes = b"late") -> Step:
    def step(visit: Visit) -> None:
        event.wait(30)
        visit.send(answer(body))

    return step


async def seen(condition: Callable[[], bool]) -> None:
    while not await asyncio.sleep(0.001, condition()):
        pass


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def together(count: int) -> Step:
    """Answer when so many requests are there, each of which then has a connection of its own."""
    barrier = threading.Barrier(count)

    def step(visit: Visit) -> None:
        barrier.wait(30)
        visit.send(answer(b"here"))

    return step


# --- addresses


def test_connections_are_spread_over_all_addresses() -> None:
    begin = together(12)
    with ExitStack() as stack:
        servers = [
            stack.enter_context(ScriptedServer(*[[begin]] * 12, host=host))
            for host in ("127.0.0.1", "127.0.0.2", "127.0.0.3")
        ]

        async def work() -> None:
            asking = Asking(*servers)
            assert await asking.get(12) == [b"here"] * 12
            assert asking.addresses.resolver.asked == 1
            await asking.transport.aclose()

        run(work)
        assert [server.accepted for server in servers] == [4, 4, 4]


def test_an_address_that_leads_nowhere_is_left_out_and_the_others_share() -> None:
    with nobody() as port, ExitStack() as stack:
        servers = [stack.enter_context(ScriptedServer(*[[answer(b"here")]] * 9, host=f"127.0.0.{n}")) for n in (2, 3)]

        async def work() -> None:
            asking = Asking(*servers)
            asking.addresses.resolver._script = [[info("127.0.0.1", port), *asking.addresses.resolver._script[0]]]
            for _ in range(9):
                assert await asking.get(1, on_new_connection=True) == [b"here"]
            await asking.transport.aclose()

        run(work)
        assert sum(server.accepted for server in servers) == 9
        assert all(server.accepted >= 4 for server in servers)


# --- who gets a connection


def test_a_request_takes_a_connection_that_is_free_before_its_own_is_made() -> None:
    release = threading.Event()
    with ScriptedServer([until(release, b"1"), answer(b"2"), together(2)], [together(2)]) as server:

        async def work() -> None:
            asking = Asking(server)
            first = asking.begin()
            await seen(lambda: bool(server.heads))
            asking.addresses.door.clear()
            second = asking.begin()
            await turns()
            assert asking.addresses.asked == 2, "it does not wait for the first one only"
            release.set()
            assert [await first, await second] == [b"1", b"2"]
            assert server.accepted == 1
            asking.addresses.door.set()
            await seen(lambda: server.accepted == 2)
            await asyncio.sleep(0)
            await asking.transport.aclose()

        run(work)


def test_what_nobody_waits_for_any_more_serves_the_next_request() -> None:
    release, begin = threading.Event(), together(2)
    with ScriptedServer([until(release, b"1"), answer(b"2"), begin], [begin]) as server:

        async def work() -> None:
            asking = Asking(server)
            first = asking.begin()
            await seen(lambda: bool(server.heads))
            asking.addresses.door.clear()
            second = asking.begin()
            await turns()
            release.set()
            await asyncio.gather(first, second)
            third = [asking.begin(), asking.begin()]  # one has the idle connection, one the connection in the making
            await turns()
            assert asking.addresses.asked == 2
            asking.addresses.door.set()
            assert await asyncio.gather(*third) == [b"here"] * 2
            assert server.accepted == 2
            await asking.transport.aclose()

        run(work)


def test_a_request_that_needs_a_new_connection_takes_no_used_one() -> None:
    release = threading.Event()
    with ScriptedServer([until(release, b"1"), answer(b"used")], [answer(b"new")]) as server:

        async def work() -> None:
            asking = Asking(server)
            first = asking.begin()
            await seen(lambda: bool(server.heads))
            asking.addresses.door.clear()
            second = asking.begin(on_new_connection=True)
            await turns()
            release.set()
            assert await first == b"1"
            await turns()
            assert not second.done()
            asking.addresses.door.set()
            assert await second == b"new"
            await asking.transport.aclose()

        run(work)


def test_each_failure_is_one_request_s_and_the_others_go_on_waiting() -> None:
    with nobody() as port:

        async def work() -> None:
            asking = Asking()
            asking.addresses.resolver._script = [[info("127.0.0.1", port)]]
            asking.addresses.door.clear()
            requests = [asking.begin() for _ in range(5)]
            await turns()
            requests[0].cancel()
            await turns()
            asking.addresses.door.set()
            outcomes = await asyncio.gather(*requests, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] + [ExchangeFailed] * 4
            assert asking.addresses.asked == 5
            await asking.transport.aclose()

        run(work)


def test_a_request_whose_time_is_over_waits_no_longer_and_its_connection_is_kept() -> None:
    with ScriptedServer([answer(b"here")]) as server:

        async def work() -> None:
            asking = Asking(server)
            asking.addresses.door.clear()
            with pytest.raises(ExchangeFailed, match=r"no connection to bucket.test:80 within 0\.0\d* s") as failed:
                await asking.begin(seconds=0.05)
            assert failed.value.kind == "connect_timeout"
            asking.addresses.door.set()
            assert await asking.get(1) == [b"here"]
            assert asking.addresses.asked == 1
            await asking.transport.aclose()

        run(work)


@pytest.mark.parametrize("waited", range(16))
def test_a_request_that_is_given_up_loses_no_connection(waited: int) -> None:
    with ScriptedServer.in_turn(*[answer(b"here")] * 20) as server:

        async def work() -> None:
            asking = Asking(server)
            requests = [asking.begin() for _ in range(4)]
            await turns(waited)
            for request in requests[::2]:
                request.cancel()
            await asyncio.wait(requests)
            assert [request.result() for request in requests[1::2]] == [b"here"] * 2
            assert await asking.get(4) == [b"here"] * 4
            assert server.accepted <= 4 + 2  # those that were cancelled in mid-exchange are gone
            await asking.transport.aclose()

        run(work)


def test_a_transport_that_is_closed_fails_those_who_wait() -> None:
    async def work() -> None:
        asking = Asking()
        asking.addresses.door.clear()
        requests = [asking.begin() for _ in range(3)]
        await turns()
        await asking.transport.aclose()
        outcomes = await asyncio.gather(*requests, asking.begin(), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["the client was closed meanwhile"] * 4
        asking.transport.open_ahead(ORIGIN, 4)
        assert asking.addresses.asked == 3

    run(work)


def test_a_crowd_dials_a_few_at_a_time() -> None:
    async def work() -> None:
        asking = Asking()
        asking.addresses.door.clear()
        requests = [asking.begin() for _ in range(3 * MOST_DIALED_AT_ONCE)]
        await turns()
        assert asking.addresses.asked == MOST_DIALED_AT_ONCE
        asking.addresses.resolver._script = [OSError("no way")]
        asking.addresses.door.set()
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
        assert all(isinstance(outcome, ExchangeFailed) for outcome in outcomes)
        assert asking.addresses.asked == 3 * MOST_DIALED_AT_ONCE
        await asking.transport.aclose()

    run(work)


# --- ahead


def test_connections_opened_ahead_are_as_many_as_were_asked_for_and_are_used() -> None:
    begin = together(8)
    with ScriptedServer(*[[begin]] * 9) as server:

        async def work() -> None:
            asking = Asking(server)
            asking.addresses.door.clear()
            for _ in range(2):
                asking.transport.open_ahead(ORIGIN, 8)
                await turns()
            assert asking.addresses.asked == 1, "one goes ahead"
            asking.addresses.door.set()
            await seen(lambda: server.accepted == 8)
            asking.transport.open_ahead(ORIGIN, 8)
            assert await asking.get(8) == [b"here"] * 8
            asking.transport.open_ahead(ORIGIN, 8)
            assert asking.addresses.asked == server.accepted == 8
            await asking.transport.aclose()

        run(work)


def test_requests_that_come_early_wait_for_what_is_opened_ahead() -> None:
    begin = together(4)
    with ScriptedServer(*[[begin]] * 5) as server:

        async def work() -> None:
            asking = Asking(server)
            asking.transport.open_ahead(ORIGIN, 4)
            assert await asking.get(4) == [b"here"] * 4
            assert asking.addresses.asked == server.accepted == 4
            await asking.transport.aclose()

        run(work)


def test_a_connection_opened_ahead_that_died_meanwhile_says_so() -> None:
    with ScriptedServer([hang], [answer(b"here")]) as server:

        async def work() -> None:
            asking = Asking(server, timeouts=Timeouts(connect_seconds=30, read_seconds=0.5))
            asking.transport.open_ahead(ORIGIN, 1)
            await seen(lambda: server.accepted == 1)
            await asyncio.sleep(0.01)
            with pytest.raises(ExchangeFailed) as failed:
                await asking.get(1)
            assert failed.value.reused
            assert await asking.get(1, on_new_connection=True) == [b"here"]
            await asking.transport.aclose()

        run(work)


def test_where_nobody_is_nothing_is_said_of_what_was_opened_ahead() -> None:
    complaints: list[object] = []

    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        asking = Asking()
        asking.addresses.resolver._script = [[info("127.0.0.1", port)]]
        asking.transport.open_ahead(ORIGIN, 4)
        with pytest.raises(ExchangeFailed, match="no connection"):
            await asking.get(1)
        await asking.transport.aclose()

    with nobody() as port:
        run(work)
    assert complaints == []


# --- slow and dead ones


def test_a_connection_that_answers_far_more_slowly_than_the_others_is_replaced() -> None:
    now, rounds, begin = [0.0], WINDOW * TIMED_EVERY, together(6)
    slow = [threading.Event() for _ in range(rounds - 1)]
    fast: Sequence[Step] = [begin, *[answer(b"fast")] * (rounds + 6)]

    async def work() -> None:
        asking = Asking(server, answer_clock=lambda: now[0], idle_clock=lambda: 0.0)
        await asking.get(6)
        for event in slow:
            requests = [asking.begin() for _ in range(6)]
            while len(requests) > 1:
                await asyncio.wait(requests, return_when=asyncio.FIRST_COMPLETED)
                requests = [request for request in requests if not request.done()]
            now[0] += 1.0
            event.set()
            await asyncio.gather(*requests)
            assert server.accepted == 6
        await asking.get(6)
        await seen(lambda: server.accepted == 7)
        await asking.transport.aclose()

    with ScriptedServer([begin, *map(until, slow)], *[fast] * 5, fast[1:]) as server:
        run(work)


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="the system has no such settings")
def test_the_kernel_looks_after_idle_connections() -> None:
    with socket.socket() as made:
        assert probe_when_idle(made)
        assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        after = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        every = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
        assert after + every * made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 10
