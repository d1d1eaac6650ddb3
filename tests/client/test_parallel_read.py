"""Spans of one object are read in parallel, each into its memory, and others follow as soon as there is room."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from files.fake_client import URI, FakeClient, Gate

from osstorchconnector.client.flight import ParallelRead
from osstorchconnector.client.limits import TransferLimit
from osstorchconnector.errors import OssNotFoundError
from osstorchconnector.protocol.values import ByteSpan, Download

DATA = bytes(range(200))
SPANS = [ByteSpan(start, start + 20) for start in range(0, 200, 20)]


@pytest.fixture
def client() -> Iterator[FakeClient]:
    fake = FakeClient()
    yield fake
    fake.close()


class Target:
    """Memory for the object, and a record of what has come into it."""

    def __init__(self, client: FakeClient, concurrency: int) -> None:
        client.store(URI, DATA)
        self.memory = bytearray(200)
        self.landed: list[ByteSpan] = []
        self.room: list[tuple[int, int]] = []
        in_flight = TransferLimit(least=concurrency, most=concurrency)
        self.read = ParallelRead(client, self.get, self.note, in_flight=in_flight, workers=1)  # type: ignore[arg-type]

    async def get(self, operations: Any, span: ByteSpan, memory: memoryview) -> Download:
        download: Download = await operations.get(URI, span, into=memory)
        return download

    def note(self, download: Download, memory: memoryview) -> None:
        assert bytes(memory) == DATA[download.span.start : download.span.stop]
        self.landed.append(download.span)

    def begin(self) -> None:
        view = memoryview(self.memory)
        self.read.begin((span, view[span.start : span.stop]) for span in SPANS)

    def nearly(self, free: int) -> None:
        self.room.append((free, len(self.landed)))


@pytest.mark.parametrize("concurrency", [1, 2, 3, 20])
def test_every_span_comes_into_its_memory(client: FakeClient, concurrency: int) -> None:
    target = Target(client, concurrency)
    target.begin()
    target.read.finish(target.nearly)
    assert target.memory == DATA
    assert sorted(target.landed) == SPANS
    assert client.most_under_way["get"] <= concurrency


def test_more_is_asked_for_while_the_caller_is_busy(client: FakeClient) -> None:
    target, steps = Target(client, 3), []

    def work() -> Iterator[None]:
        while len(target.landed) < len(SPANS):  # the limit of the test ends it if nothing comes
            steps.append(len(target.landed))
            yield

    target.begin()
    target.read.meanwhile(work())
    assert target.memory == DATA
    assert steps[0] == 0
    target.read.finish(target.nearly)
    assert sorted(target.landed) == SPANS
    assert client.most_under_way["get"] <= 3


@pytest.mark.parametrize("failing", ["step", "request"])
def test_an_error_while_the_caller_is_busy_is_raised(client: FakeClient, failing: str) -> None:
    target = Target(client, 3)
    if failing == "request":
        client.objects.clear()

    def work() -> Iterator[None]:
        while failing == "request":
            yield
        raise ValueError("of a step")
        yield

    target.begin()
    with pytest.raises(OssNotFoundError if failing == "request" else ValueError):
        target.read.meanwhile(work())
    target.read.abandon()


def test_requests_are_under_way_as_soon_as_it_has_begun(client: FakeClient) -> None:
    gate = Gate()
    client.before = lambda call: gate.passed()
    target = Target(client, 3)
    target.begin()
    client.settle()
    assert client.most_under_way["get"] == 3
    gate.open()
    target.read.finish(target.nearly)
    assert client.most_under_way["get"] == 3


@pytest.mark.parametrize(
    ("concurrency", "room"),
    [(1, (1, 10)), (2, (1, 9)), (4, (2, 8)), (5, (3, 8)), (20, (10, 0))],
)
def test_who_follows_is_told_once_when_half_is_free(
    client: FakeClient, concurrency: int, room: tuple[int, int]
) -> None:
    target = Target(client, concurrency)
    target.begin()
    target.read.finish(target.nearly)
    assert target.room == [room]


def test_a_read_of_nothing_is_done_at_once(client: FakeClient) -> None:
    target = Target(client, 4)
    target.read.begin([])
    target.read.finish(target.nearly)
    assert target.room == [(4, 0)]
    assert client.operations() == []


def test_an_abandoned_read_asks_for_nothing_more(client: FakeClient) -> None:
    gate = Gate()
    client.before = lambda call: gate.passed()
    target = Target(client, 2)
    target.begin()
    client.settle()
    target.read.abandon()
    gate.open()
    assert len(client.operations()) == 2
    assert not any(target.memory)
