"""A connection by hand, without a socket: whatever happens on it, and however its bytes are split."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from osstorchconnector.client.memory import Memory, Pieces
from osstorchconnector.client.transport import states
from osstorchconnector.client.transport.base import Transitions, WireRequest
from osstorchconnector.client.transport.connection import Connection
from osstorchconnector.client.transport.outliers import FirstBytes
from osstorchconnector.client.transport.states import (
    ANSWERED,
    AWAITING_HEAD,
    IDLE,
    LOST,
    READING_BODY,
    READING_CHUNKS,
    ConnectionState,
    Incoming,
)
from osstorchconnector.protocol.endpoint import Origin
from osstorchconnector.protocol.heads import ResponseHead

GUARD = b"\xa5" * 64
EVENTS = {name: value for name, value in vars(states).items() if isinstance(value, Transitions)}


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.is_aborted = False
        self.unsent_bytes = 0
        self.written = bytearray()
        self.calls = 0

    def write(self, data: Any) -> None:
        self.calls += 1
        self.written += data

    def writelines(self, list_of_data: Any) -> None:
        self.calls += 1
        self.written += b"".join(list_of_data)

    def abort(self) -> None:
        self.is_aborted = True

    def get_write_buffer_size(self) -> int:
        return self.unsent_bytes


class GuardedSink:
    """Gives memory, in one block or in several, that lies between guards."""

    moved_bytes = 0

    def __init__(self, *, fills_in_place: bool, cuts: list[int]) -> None:
        self.fills_in_place = fills_in_place
        self.cuts = cuts
        self.memory = bytearray(GUARD + GUARD)
        self.calls = 0

    @property
    def body(self) -> bytes:
        return bytes(self.memory[len(GUARD) : -len(GUARD)])

    def buffer_for(self, head: ResponseHead) -> Memory:
        self.calls += 1
        size = head.content_length or 0
        self.memory = bytearray(GUARD + bytes(size) + GUARD)
        view = memoryview(self.memory)[len(GUARD) : len(GUARD) + size]
        stops = sorted({min(cut, size) for cut in self.cuts} | {0, size})
        return Pieces(view[start:stop] for start, stop in itertools.pairwise(stops)) if self.cuts and size else view

    def progressed(self, received_bytes: int) -> None:
        assert 0 < received_bytes <= len(self.body)

    def accept_whole(self, head: ResponseHead, body: memoryview) -> None:
        self.calls += 1
        self.memory = bytearray(GUARD + bytes(body) + GUARD)


def encoded(body: bytes, framing: str, *, keep_alive: bool = True) -> bytes:
    """Return an answer; `framing` is "length", "chunks" or "connection"."""
    lines = ["HTTP/1.1 200 OK", f"Connection: {'keep-alive' if keep_alive else 'close'}"]
    if framing == "chunks":
        lines.append("Transfer-Encoding: chunked")
        half = len(body) // 2
        body = b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in (body[:half], body[half:]) if one) + b"0\r\n\r\n"
    elif framing == "length":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def feed(connection: Connection, data: bytes) -> None:
    """Do what asyncio does when `data` has arrived."""
    while data:
        view = connection.get_buffer(-1)
        assert len(view)
        step = min(len(view), len(data))
        view[:step] = data[:step]
        connection.buffer_updated(step)
        data = data[step:]


def connected(loop: asyncio.AbstractEventLoop) -> tuple[Connection, FakeTransport]:
    connection, transport = Connection(loop, set(), Incoming(), FirstBytes(loop.time)), FakeTransport()
    connection.connection_made(transport)
    return connection, transport


def request(*body: bytes) -> WireRequest:
    return WireRequest(Origin("http", "x", 80), "PUT" if body else "GET", "/", [("Host", "x")], body)


@settings(max_examples=60, deadline=None)
@given(
    body=st.binary(max_size=200),
    framing=st.sampled_from(["length", "chunks"]),
    cuts=st.lists(st.integers(0, 1000), max_size=6),
    in_place=st.booleans(),
    sizes=st.lists(st.integers(1, 100), max_size=4),
)
def test_an_answer_is_understood_however_it_is_split(
    body: bytes, framing: str, cuts: list[int], in_place: bool, sizes: list[int]
) -> None:
    data = encoded(body, framing)

    async def run() -> tuple[ResponseHead, bool]:
        connection, _ = connected(asyncio.get_running_loop())
        answer = connection.begin(request(), sink, 10.0, 0.0)
        for start, stop in itertools.pairwise([0, *sorted(cut % len(data) for cut in cuts), len(data)]):
            feed(connection, data[start:stop])
        assert answer.done()
        return await answer, connection.end()

    sink = GuardedSink(fills_in_place=in_place, cuts=sizes)
    head, is_usable = asyncio.run(run())
    assert (head.status, sink.body, is_usable) == (200, body, True)


def test_what_follows_an_answer_is_not_taken_for_another_answer() -> None:
    async def run() -> tuple[ResponseHead, bool]:
        connection, transport = connected(asyncio.get_running_loop())
        answer = connection.begin(request(), sink, 10.0, 0.0)
        feed(connection, encoded(b"mine", "length"))
        feed(connection, encoded(b"for somebody else", "length"))
        assert transport.is_aborted
        return await answer, connection.end()

    sink = GuardedSink(fills_in_place=False, cuts=[])
    head, is_usable = asyncio.run(run())
    assert (head.content_length, sink.body, sink.calls, is_usable) == (4, b"mine", 1, False)


@pytest.mark.parametrize(
    ("sizes", "calls"),
    [
        ([3 << 20], 3),
        ([1000, 100_000] * 50, 5),
        ([20_000] + [1] * 600 + [0, 0], 3),
        ([1 << 20, 1, (2 << 20) - 1], 3),
        ([0, 17_000, 0], 1),
    ],
)
def test_a_body_is_written_in_slices_and_short_pieces_of_it_together(sizes: list[int], calls: int) -> None:
    async def send() -> None:
        loop = asyncio.get_running_loop()
        connection, transport = connected(loop)
        wire = request(*(bytes([number % 256]) * size for number, size in enumerate(sizes)))
        answer = connection.begin(wire, GuardedSink(fills_in_place=False, cuts=[]), loop.time() + 60, loop.time())
        head, transport.calls = len(transport.written), 0
        await connection.send_body()
        assert transport.written[head:] == b"".join(wire.body)
        assert transport.calls == calls
        answer.cancel()
        connection.end()

    asyncio.run(send())


@pytest.mark.parametrize(("name", "state"), list(itertools.product(EVENTS, ConnectionState)))
def test_an_event_leads_where_the_table_says_or_raises(name: str, state: ConnectionState) -> None:
    event = EVENTS[name]
    if state in event:
        assert event[state] is not state
    else:
        with pytest.raises(RuntimeError, match=f"not in {state.name}"):
            event[state]


def test_the_table_in_the_docstring_is_the_one_in_the_code() -> None:
    rows, state = set(), ""
    for line in (states.__doc__ or "").split("---\n", 1)[1].split("every state")[0].splitlines():
        if words := line.split():
            state = words[0] if words[0] in ConnectionState.__members__ else state
            rows.add((state, words[-1]))
    assert rows == {(before.name, after.name) for event in EVENTS.values() for before, after in event.items()}


class Exchanges(RuleBasedStateMachine):
    """Anything may happen on a connection, at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.now = 0.0
        self.connect()

    def connect(self) -> None:
        self.connection, self.transport = connected(self.loop)
        self.answer: asyncio.Future[ResponseHead] | None = None
        self.sink = GuardedSink(fills_in_place=False, cuts=[])
        self.body = self.left = b""
        self.is_honest = True  # the peer has sent nothing but the answer
        self.is_troubled = False
        self.was_lost = False

    def teardown(self) -> None:
        self.connection.end()
        self.loop.close()

    @precondition(lambda self: self.connection.state is IDLE)
    @rule(
        body=st.binary(max_size=300),
        framing=st.sampled_from(["length", "chunks", "connection"]),
        keep_alive=st.booleans(),
        in_place=st.booleans(),
        cuts=st.lists(st.integers(1, 200), max_size=3),
        sent=st.lists(st.binary(max_size=20), max_size=2),
    )
    def begin(
        self, body: bytes, framing: str, keep_alive: bool, in_place: bool, cuts: list[int], sent: list[bytes]
    ) -> None:
        self.sink = GuardedSink(fills_in_place=in_place, cuts=cuts)
        self.body, self.left = body, encoded(body, framing, keep_alive=keep_alive)
        self.may_go_on, self.is_sized, self.sent, self.is_troubled = keep_alive, framing != "connection", sent, False
        self.transport.unsent_bytes = 0
        self.answer = self.connection.begin(request(*sent), self.sink, self.now + 30, self.now)

    @precondition(lambda self: self.left and self.answer is not None)
    @rule(size=st.integers(1, 100))
    def receive_some(self, size: int) -> None:
        data, self.left = self.left[:size], self.left[size:]
        feed(self.connection, data)

    @precondition(lambda self: self.left and self.answer is not None)
    @rule()
    def receive_the_rest(self) -> None:
        data, self.left = self.left, b""
        feed(self.connection, data)

    @rule(data=st.binary(min_size=1, max_size=40) | st.just(encoded(b"another", "length")))
    def receive_something_else(self, data: bytes) -> None:
        self.is_honest, self.is_troubled = False, True
        feed(self.connection, data)

    @rule(how=st.sampled_from(["late", "quiet", "abort", "lost", "reset", "cancel"]))
    def break_off(self, how: str) -> None:
        self.is_troubled = True
        if how in ("lost", "reset"):
            self.transport.is_aborted = self.was_lost = True
            self.connection.connection_lost(ConnectionResetError("by the peer") if how == "reset" else None)
        elif how == "abort":
            self.connection.abort()
        elif how == "cancel":
            if self.answer is not None:
                self.answer.cancel()
        else:
            self.pass_time(0.1)
            self.pass_time(40.0 if how == "late" else 6.0)

    @rule(seconds=st.sampled_from([0.1, 1.0]), unsent_bytes=st.integers(0, 3))
    def pass_time(self, seconds: float, unsent_bytes: int = 0) -> None:
        self.now += seconds
        self.transport.unsent_bytes = unsent_bytes
        self.connection.pause_writing()
        self.connection.resume_writing()
        self.connection.check(self.now, 50.0 if seconds < 5 else 5.0)

    @precondition(lambda self: self.answer is not None)
    @rule()
    def end(self) -> None:
        assert self.answer is not None
        answer, state = self.answer, self.connection.state
        is_usable = self.connection.end()
        assert answer.done()
        assert is_usable is (state is ANSWERED) is (self.connection.state is IDLE)
        if not answer.cancelled() and answer.exception() is None:
            assert self.sink.body == self.body or not self.is_honest
            assert is_usable <= self.may_go_on or not self.is_honest
        else:
            assert not is_usable
        self.answer, self.left = None, b""

    @precondition(lambda self: self.connection.state is LOST and self.answer is None)
    @rule()
    def connect_again(self) -> None:
        self.connect()

    @invariant()
    def an_answer_is_there_when_all_of_it_has_come(self) -> None:
        if self.answer is None or self.is_troubled or not self.is_sized:
            return
        assert self.answer.done() is not bool(self.left)
        if self.answer.done() and not self.sent:
            assert self.answer.result().status == 200

    @invariant()
    def nothing_is_written_outside_the_memory(self) -> None:
        assert bytes(self.sink.memory[: len(GUARD)]) == bytes(self.sink.memory[-len(GUARD) :]) == GUARD
        assert self.sink.calls <= 1

    @invariant()
    def a_lost_connection_stays_lost_and_its_future_is_settled(self) -> None:
        if self.transport.is_aborted and not self.was_lost:  # asyncio tells soon after an abort
            self.was_lost = True
            self.connection.connection_lost(None)
        state = self.connection.state
        if self.was_lost:
            assert state is LOST
            assert self.answer is None or self.answer.done()
            with pytest.raises(RuntimeError):
                self.connection.begin(request(), self.sink, 0.0, 0.0)
        elif self.answer is None:
            assert state in (IDLE, LOST)
        elif not self.answer.done():
            assert state in (AWAITING_HEAD, READING_BODY, READING_CHUNKS)


Exchanges.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestExchanges = Exchanges.TestCase
