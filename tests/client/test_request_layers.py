"""Layers around a request: each does one thing and passes everything else on."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripts import NO_LOGS

from osstorchconnector.client.client import OssClient
from osstorchconnector.client.clocks import loop_clock
from osstorchconnector.client.layers import AuditedTransport, HedgedReads, Lateness, PacedTransport
from osstorchconnector.client.traffic import Gate
from osstorchconnector.client.transport.base import BodySink, ExchangeFailed, Transport, WireRequest
from osstorchconnector.errors import OssNotFoundError, OssProtocolError
from osstorchconnector.logs import AuditEntry
from osstorchconnector.protocol.endpoint import Origin
from osstorchconnector.protocol.heads import ResponseHead
from osstorchconnector.protocol.values import ByteSpan, Download, ObjectStat
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import OssUri

URI = OssUri("bucket", "key")
SINK: Any = object()
STAT = ObjectStat(4, "A", None, None)


WIRE = WireRequest(Origin("http", "h", 80), "PUT", "/key", [], (b"12", b"3"), "PutObject", "bucket", "key", 2)


class Wire:
    """Stands for a transport: answers, or fails, as the script says, and notes what it was called with."""

    def __init__(self, *script: int | BaseException) -> None:
        self._script = list(script)
        self.calls: list[tuple[WireRequest, object, float, bool]] = []
        self.is_closed = False

    async def exchange(
        self, wire: WireRequest, sink: BodySink, deadline: float, *, on_new_connection: bool = False
    ) -> ResponseHead:
        self.calls.append((wire, sink, deadline, on_new_connection))
        answer = self._script.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return ResponseHead(answer, {"x-oss-request-id": "5C3D"}, 7, False, True)

    async def aclose(self) -> None:
        self.is_closed = True


class Audit:
    """Stands for the audit log."""

    def __init__(self) -> None:
        self.entries: list[AuditEntry] = []

    def record(self, entry: AuditEntry) -> None:
        self.entries.append(entry)


def pass_through(transport: Transport) -> ResponseHead | BaseException:
    """Send one request through a layer, and close it; what it raises is returned."""

    async def send() -> ResponseHead | BaseException:
        try:
            return await transport.exchange(WIRE, SINK, 12.0, on_new_connection=True)
        except BaseException as error:
            return error
        finally:
            await transport.aclose()

    return asyncio.run(send())


def test_an_audited_request_is_passed_on_unchanged_and_makes_one_line() -> None:
    wire, audit, times = Wire(200), Audit(), iter([100.0, 100.5])
    answer = pass_through(AuditedTransport(wire, audit, lambda: next(times)))
    assert isinstance(answer, ResponseHead)
    assert answer.status == 200
    assert wire.calls == [(WIRE, SINK, 12.0, True)]
    assert wire.is_closed
    assert audit.entries == [AuditEntry(100.0, "PutObject", "bucket", "key", 2, 0.5, 3, 200, "5C3D", 7)]


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (ExchangeFailed("timeout", "late"), "timeout"),
        (OssProtocolError("nonsense"), "OssProtocolError"),
        (asyncio.CancelledError(), "cancelled"),
    ],
)
def test_a_request_that_broke_makes_a_line_that_says_how(error: BaseException, word: str) -> None:
    audit, times = Audit(), iter([100.0, 100.5])
    assert pass_through(AuditedTransport(Wire(error), audit, lambda: next(times))) is error
    assert audit.entries == [AuditEntry(100.0, "PutObject", "bucket", "key", 2, 0.5, 3, error=word)]


@pytest.mark.parametrize(("status", "is_open", "answered"), [(200, True, 1), (404, True, 0), (503, False, 0)])
def test_the_gate_is_told_how_the_server_answers(status: int, is_open: bool, answered: int) -> None:
    wire, gate = Wire(status), Gate()
    pass_through(PacedTransport(wire, gate))
    assert (gate.is_open, gate.answered) == (is_open, answered)
    assert wire.calls == [(WIRE, SINK, 12.0, True)]
    assert wire.is_closed


class SlowGate(Gate):
    """A gate whose turns come at the third look; it notes what is said of the waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.refused(self.steps)
        self.waits, self.held = [0.001, 0.001, 0.0], list[float]()

    def seconds_until(self, turn: int) -> float:
        return self.waits.pop(0)

    def note_held(self, seconds: float) -> None:
        self.held.append(seconds)


def test_the_gate_learns_how_long_a_request_has_been_held_back() -> None:
    async def send() -> None:
        paced = PacedTransport(wire, gate)
        await paced.exchange(WIRE, SINK, loop_clock().look() + 100)

    wire, gate = Wire(200), SlowGate()
    asyncio.run(send())
    assert len(wire.calls) == 1
    assert len(gate.held) == 2
    assert gate.held == sorted(gate.held)


def test_a_request_that_waits_for_its_turn_when_the_client_is_closed_is_not_sent() -> None:
    async def close_while_waiting() -> None:
        gate = Gate(lambda: 100.0)  # no turn ever comes
        gate.refused(gate.steps)
        assert gate.seconds_until(gate.turn()) > 0
        paced = PacedTransport(wire, gate)
        waiting = asyncio.ensure_future(paced.exchange(WIRE, SINK, loop_clock().look() + 100))
        await asyncio.sleep(0)
        await paced.aclose()
        with pytest.raises(ExchangeFailed, match="closed meanwhile"):
            await waiting

    wire = Wire()
    asyncio.run(close_while_waiting())
    assert wire.calls == []


@given(st.lists(st.floats(0, 10), max_size=400))
def test_at_most_three_in_a_hundred_are_asked_for_twice(times: list[float]) -> None:
    lateness, hedged = Lateness(), 0
    for number, seconds in enumerate(times, start=1):
        patience = lateness.patience_seconds()
        if patience is not None and seconds > patience and lateness.may_hedge(is_very_late=seconds > 5):
            hedged += 1
        lateness.learn(seconds)
        assert hedged <= 0.03 * number


def test_a_third_of_the_second_requests_is_kept_for_what_is_very_late() -> None:
    lateness = Lateness()
    for _ in range(1000):
        lateness.patience_seconds()
    assert sum(lateness.may_hedge(is_very_late=False) for _ in range(100)) == 20
    assert sum(lateness.may_hedge(is_very_late=True) for _ in range(100)) == 10


def test_late_is_what_comes_later_than_98_of_the_last_hundred() -> None:
    lateness = Lateness()
    for seconds in [5.0] * 1000 + list(range(1000)):
        lateness.learn(seconds)
    assert lateness.patience_seconds() == 980


class Answers:
    """Stands for `Reads`: answers each read as the script says; "never" is an answer that does not come."""

    def __init__(self, *script: str) -> None:
        self._script = list(script)
        self.asked = 0

    async def get(self, uri: OssUri, span: ByteSpan | None = None, **more: Any) -> Download:
        answer, self.asked = self._script[self.asked], self.asked + 1
        if answer == "never":
            await asyncio.Event().wait()
        if answer == "missing":
            raise OssNotFoundError(f"read {self.asked}")
        more["on_first_byte"]()
        return Download(STAT, ByteSpan(0, len(answer)), answer.encode(), 0)


class Ticking:
    """A clock by which every answer takes a fifth of a second: so long is waited for one that is late."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 0.2
        return self.now


def read(
    answers: Answers, count: int, *, is_auto: bool = False, clock: Callable[[], float] | None = None
) -> list[Download]:
    async def all_of_them() -> list[Download]:
        reads = HedgedReads(answers.get, Lateness(only_long_tails=is_auto), clock or Ticking())
        return [await reads.get(URI, ByteSpan(0, 4)) for _ in range(count)]

    return asyncio.run(all_of_them())


def test_an_object_that_is_late_is_asked_for_again() -> None:
    answers = Answers(*["body"] * 60, "never", "body", "body")
    assert [download.body for download in read(answers, 62)] == [b"body"] * 62
    assert answers.asked == 63


def times_of(*answers: float) -> Callable[[], float]:
    """Return a clock that reads 0 at the beginning of each read and its time at the first byte."""
    readings = itertools.chain.from_iterable((0.0, seconds) for seconds in answers)
    return lambda: next(readings)


@given(st.floats(0.0001, 1), st.integers(0, 2**32))
def test_on_an_even_network_auto_sends_nothing_twice(least: float, seed: int) -> None:
    dice, lateness = random.Random(seed), Lateness(only_long_tails=True)
    for _ in range(1000):
        assert lateness.patience_seconds() is None
        lateness.learn(least * dice.uniform(1, 2.5))


def test_auto_sends_nothing_twice_as_long_as_little_is_known_or_all_are_near() -> None:
    for times in ([0.03] * 150 + [1.0] * 10, [0.0002] * 900 + [0.005] * 100):
        answers = Answers(*["body"] * len(times))
        read(answers, len(times), is_auto=True, clock=times_of(*times))
        assert answers.asked == len(times)


def test_auto_asks_again_where_some_answers_are_far_slower_than_most() -> None:
    times = [0.03] * 900 + [0.5] * 50
    answers = Answers(*["body"] * 950, "body", "body")
    read(answers, 950, is_auto=True, clock=times_of(*times))
    assert answers.asked == 950, "a budget that grew while all was quiet is not there to be spent at once"
    lateness = Lateness(only_long_tails=True)
    for seconds in times:
        lateness.learn(seconds)
    assert lateness.patience_seconds() == 0.5
    for _ in range(99):
        lateness.patience_seconds()
    assert [lateness.may_hedge(is_very_late=True) for _ in range(5)] == [True] * 3 + [False] * 2


def test_an_error_of_one_is_not_raised_while_the_other_may_end_well() -> None:
    class OneFails(Answers):
        async def get(self, uri: OssUri, span: ByteSpan | None = None, **more: Any) -> Download:
            if self.asked == 60:
                self.asked, self.second_came = 61, asyncio.Event()
                await self.second_came.wait()
                raise OssNotFoundError("the first")
            if self.asked == 61:
                self.second_came.set()
            return await super().get(uri, span, **more)

    assert len(read(OneFails(*["body"] * 62), 61)) == 61
    with pytest.raises(OssNotFoundError, match="the first"):
        read(OneFails(*["body"] * 61, "missing"), 61)


def test_a_client_may_be_told_to_ask_twice(oss_bucket: OssBucket, tmp_path: Path) -> None:
    oss_bucket.put("key", b"body")
    config = tmp_path / "config.json"
    config.write_text(json.dumps(NO_LOGS | {"hedgeReads": True, "readTimeout": 2}))
    client = OssClient(**oss_bucket.options, config_path=str(config))
    for _ in range(200):
        client.get(oss_bucket.uri + "key", ByteSpan(0, 4))
    oss_bucket.server.fail("GetObject", "stall_head", times=1)
    assert client.get(oss_bucket.uri + "key", ByteSpan(0, 4)).body == b"body"
    client.close()
    assert 202 <= oss_bucket.server.counters().requests["GetObject"] <= 207
