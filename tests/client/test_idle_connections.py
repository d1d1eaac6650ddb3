"""Connections that died while they were idle: one request finds out, and none fails."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from client.scripted_server import ScriptedServer, Step, Visit, answer, close, hang, reset
from scripts import NO_LOGS

from osstorchconnector.client.client import OssClient
from osstorchconnector.client.traffic import shared
from osstorchconnector.client.transport.aio import AioTransport
from osstorchconnector.client.transport.base import (
    IDLE_SECONDS,
    PROBED_IDLE_SECONDS,
    ExchangeFailed,
    Timeouts,
    WireRequest,
)
from osstorchconnector.client.transport.direct import DirectTransport
from osstorchconnector.errors import OssTimeoutError
from osstorchconnector.protocol.checksum import crc64
from osstorchconnector.protocol.endpoint import Origin

URI = "oss://bucket/key"
DEATHS = pytest.mark.parametrize("death", [hang, reset, close], ids=["silent", "reset", "closed"])
Connect = Callable[..., OssClient]


@pytest.fixture(params=["direct", "aiohttp"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connect]:
    """Make a client that may send a request only once, unless it was not the request that failed."""
    (tmp_path / "credentials").write_text(json.dumps({"AccessKeyId": "AK", "AccessKeySecret": "SK"}))
    clients: list[OssClient] = []

    def open_client(server: ScriptedServer, **settings: object) -> OssClient:
        quick = {"maxAttempts": 1, "retryBudget": 0, "readTimeout": 1, "retryBaseDelay": 0.001}
        chosen = {**NO_LOGS, **quick, "transport": request.param, **settings}
        (tmp_path / "config.json").write_text(json.dumps(chosen))
        paths = {"cred_path": str(tmp_path / "credentials"), "config_path": str(tmp_path / "config.json")}
        clients.append(OssClient(server.endpoint, region="cn-test", **paths))
        return clients[-1]

    shared.forget()
    yield open_client
    for client in clients:
        client.close()


def together(count: int, body: bytes = b"warm") -> Step:
    """Answer when so many requests have come, each of which then needs a connection of its own."""
    barrier = threading.Barrier(count)

    def step(visit: Visit) -> None:
        barrier.wait(30)
        visit.send(answer(body))

    return step


def warm_up(client: OssClient, count: int) -> None:
    requests = [client.submit(lambda operations: operations.get(_uri())) for _ in range(count)]
    for request in requests:
        assert request.result(60).body == b"warm"


def _uri() -> Any:
    from osstorchconnector.uri import parse_object_uri

    return parse_object_uri(URI)


@DEATHS
@pytest.mark.parametrize("count", [1, 30])
def test_any_number_of_dead_connections_cost_one_request_and_no_attempt(
    connect: Connect, death: Step, count: int
) -> None:
    begin = together(count)
    with ScriptedServer(*[[begin, death]] * count, [answer(b"fresh")] * 2) as server:
        client = connect(server)
        warm_up(client, count)
        assert client.get(URI).body == b"fresh"
        assert client.get(URI).body == b"fresh"
        assert len(server.heads) == count + 1 + 2
        assert shared.budget(server.endpoint).debt == 0


@DEATHS
def test_what_is_uploaded_is_sent_again_whole(connect: Connect, death: Step) -> None:
    received: list[bytes] = []
    data = bytes(range(256)) * 100

    def take(visit: Visit) -> None:
        received.append(visit.read_body())
        visit.send(answer(x_oss_hash_crc64ecma=str(crc64(data))))

    with ScriptedServer([answer(b"warm"), death], [take]) as server:
        client = connect(server)
        warm_up(client, 1)
        client.put(URI, data)
    assert received == [data]


@DEATHS
def test_requests_that_meet_dead_connections_at_once_all_end_well(connect: Connect, death: Step) -> None:
    begin, fresh = together(8), together(8)
    with ScriptedServer(*[[begin, death]] * 8, *[[fresh]] * 8) as server:
        client = connect(server)
        warm_up(client, 8)
        warm_up(client, 8)
        assert len(server.heads) == 24


@DEATHS
def test_a_connection_may_die_again_later_in_the_same_operation(connect: Connect, death: Step) -> None:
    busy = answer(status="503 Service Unavailable")
    with ScriptedServer([answer(b"warm"), death], [busy, death], [busy, death], [answer(b"fresh")]) as server:
        client = connect(server, maxAttempts=3, retryBudget=2)
        warm_up(client, 1)
        assert client.get(URI).body == b"fresh"
    shared.forget()


def test_silence_on_a_new_connection_is_an_attempt(connect: Connect) -> None:
    with ScriptedServer([answer(b"warm"), hang], [hang], [answer(b"too late")]) as server:
        client = connect(server)
        warm_up(client, 1)
        with pytest.raises(OssTimeoutError, match="2 attempts"):
            client.get(URI)
        assert len(server.heads) == 3


def test_a_body_that_has_begun_is_no_dead_connection(connect: Connect) -> None:
    def stall(visit: Visit) -> None:
        visit.send(answer(b"01234", length=10))
        hang(visit)

    with ScriptedServer([answer(b"warm"), stall], [answer(b"too late")]) as server:
        client = connect(server)
        warm_up(client, 1)
        with pytest.raises(OssTimeoutError, match="1 attempt"):
            client.get(URI)


# --- the pools


class BodySink:
    fills_in_place = False
    moved_bytes = 0
    body = b""

    def buffer_for(self, head: Any) -> memoryview:
        self.memory = bytearray(head.content_length)
        return memoryview(self.memory)

    def progressed(self, received_bytes: int) -> None: ...

    def accept_whole(self, head: Any, body: memoryview) -> None:
        self.body = bytes(body)


class Asking:
    """Sends requests through a transport, from within its loop."""

    def __init__(self, server: ScriptedServer, transport: DirectTransport | AioTransport) -> None:
        self.transport = transport
        self._wire = WireRequest(Origin("http", "127.0.0.1", server.port), "GET", "/k", [("Host", "x")])

    async def get(self, **how: bool) -> bytes:
        sink = BodySink()
        deadline = asyncio.get_running_loop().time() + 60
        await self.transport.exchange(self._wire, sink, deadline, **how)  # type: ignore[arg-type]
        return sink.body or bytes(sink.memory)


PATIENT = Timeouts(connect_seconds=30, read_seconds=30)


@pytest.mark.parametrize(
    ("idle_seconds", "slept_seconds", "body"),
    [
        (IDLE_SECONDS - 1, 0, b"old"),
        (PROBED_IDLE_SECONDS - 1, 0, b"old"),
        (PROBED_IDLE_SECONDS + 1, 0, b"new"),
        (IDLE_SECONDS - 1, IDLE_SECONDS - 1, b"old"),
        (PROBED_IDLE_SECONDS - 1, IDLE_SECONDS + 1, b"new"),
    ],
)
def test_a_connection_that_was_idle_for_too_long_is_not_used(
    idle_seconds: float, slept_seconds: float, body: bytes
) -> None:
    async def run(server: ScriptedServer) -> bytes:
        now, slept = [0.0], [0.0]
        transport = DirectTransport(PATIENT, None, idle_clock=lambda: now[0], sleep_clock=lambda: slept[0])
        asking = Asking(server, transport)
        await asking.get()
        now[0] += idle_seconds
        slept[0] += slept_seconds
        found = await asking.get()
        await asking.transport.aclose()
        return found

    with ScriptedServer([answer(b"warm"), answer(b"old")], [answer(b"new")]) as server:
        assert asyncio.run(run(server)) == body


def test_connections_from_before_the_machine_slept_are_not_used() -> None:
    async def run(server: ScriptedServer) -> list[bytes]:
        slept = [100.0]
        asking = Asking(server, AioTransport(PATIENT, None, sleep_clock=lambda: slept[0]))
        found = [await asking.get(), await asking.get()]
        slept[0] += 3600
        found += [await asking.get(), await asking.get()]
        await asking.transport.aclose()
        return found

    with ScriptedServer([answer(b"1"), answer(b"2")], [answer(b"3"), answer(b"4")]) as server:
        assert asyncio.run(run(server)) == [b"1", b"2", b"3", b"4"]


@pytest.mark.parametrize("kind", [DirectTransport, AioTransport])
def test_a_new_connection_can_be_demanded(kind: type[DirectTransport]) -> None:
    async def run(server: ScriptedServer) -> bytes:
        asking = Asking(server, kind(PATIENT, None))
        await asking.get()
        found = await asking.get(on_new_connection=True)
        await asking.transport.aclose()
        return found

    with ScriptedServer([answer(b"1"), answer(b"old")], [answer(b"new")]) as server:
        assert asyncio.run(run(server)) == b"new"


def test_what_answered_after_the_dead_connection_was_last_used_is_kept() -> None:
    async def run(server: ScriptedServer) -> bytes:
        now = [0.0]
        asking = Asking(server, DirectTransport(PATIENT, None, idle_clock=lambda: now[0]))
        await asyncio.gather(*[asking.get() for _ in range(3)])
        now[0] = 1.0
        dying = asyncio.ensure_future(asking.get())
        await asyncio.to_thread(asked.wait, 30)
        await asking.get()  # on the second connection, which is well
        die.set()
        with pytest.raises(ExchangeFailed) as failed:
            await dying
        assert failed.value.reused
        found = await asking.get()
        await asking.transport.aclose()
        return found

    asked, die, turns = threading.Event(), threading.Event(), iter("dying well kept".split())
    begin = together(3)

    def second(visit: Visit) -> None:
        if next(turns) == "dying":
            asked.set()
            die.wait(30)
            reset(visit)
        else:
            visit.send(answer(b"well"))

    with ScriptedServer(*[[begin, second, answer(b"kept")]] * 3, [answer(b"new")]) as server:
        assert asyncio.run(run(server)) == b"kept"


@pytest.mark.parametrize("kind", [DirectTransport, AioTransport])
def test_silence_on_a_connection_used_before_leaves_half_of_the_time_for_another(kind: Any) -> None:
    async def run(server: ScriptedServer) -> ExchangeFailed:
        transport = kind(Timeouts(connect_seconds=1, read_seconds=60), None)
        asking = Asking(server, transport)
        await asking.get()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 6
        with pytest.raises(ExchangeFailed) as failed:
            await transport.exchange(asking._wire, BodySink(), deadline)  # type: ignore[arg-type]
        assert loop.time() < deadline, "half of it is left"
        await transport.aclose()
        return failed.value

    with ScriptedServer([answer(b"1"), hang]) as server:
        failure = asyncio.run(run(server))
    assert (failure.kind, failure.reused) == ("timeout", True)
