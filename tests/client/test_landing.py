"""Landing: ranges come into their places in parallel, within the bound, and who follows is told when there is room."""

from __future__ import annotations

from typing import Any

import pytest
from files.fake_client import URI, FakeClient, Gate

from osstorchconnector.client.flight import Flight, Landing
from osstorchconnector.protocol.values import ByteSpan, Download

DATA = bytes(range(200))
PIECES = [ByteSpan(start, start + 20) for start in range(0, 200, 20)]


class Target:
    """Memory for the object, and a record of what has landed in it."""

    def __init__(self, client: FakeClient, concurrency: int) -> None:
        client.store(URI, DATA)
        self.memory = bytearray(200)
        self.landed: list[ByteSpan] = []
        self.room: list[tuple[int, int]] = []
        self.landing = Landing(Flight(client, 1), self.get, self.note, concurrency=concurrency)

    async def get(self, operations: Any, span: ByteSpan, memory: memoryview) -> Download:
        download: Download = await operations.get(URI, span, into=memory)
        return download

    def note(self, download: Download, memory: memoryview) -> None:
        assert bytes(memory) == DATA[download.span.start : download.span.stop]
        self.landed.append(download.span)

    def begin(self) -> None:
        view = memoryview(self.memory)
        self.landing.begin((span, view[span.start : span.stop]) for span in PIECES)

    def nearly(self, free: int) -> None:
        self.room.append((free, len(self.landed)))


@pytest.mark.parametrize("concurrency", [1, 2, 3, 20])
def test_everything_lands_in_its_place(client: FakeClient, concurrency: int) -> None:
    target = Target(client, concurrency)
    target.begin()
    target.landing.finish(target.nearly)
    assert target.memory == DATA
    assert sorted(target.landed) == PIECES
    assert client.most_under_way["get"] <= concurrency


def test_requests_are_under_way_as_soon_as_it_has_begun(client: FakeClient) -> None:
    gate = Gate()
    client.before = lambda call: gate.passed()
    target = Target(client, 3)
    target.begin()
    client.settle()
    assert client.most_under_way["get"] == 3
    gate.open()
    target.landing.finish(target.nearly)
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
    target.landing.finish(target.nearly)
    assert target.room == [room]


def test_nothing_to_land_is_done_at_once(client: FakeClient) -> None:
    target = Target(client, 4)
    target.landing.begin([])
    target.landing.finish(target.nearly)
    assert target.room == [(4, 0)]
    assert client.operations() == []


def test_an_abandoned_landing_asks_for_nothing_more(client: FakeClient) -> None:
    gate = Gate()
    client.before = lambda call: gate.passed()
    target = Target(client, 2)
    target.begin()
    client.settle()
    target.landing.abandon()
    gate.open()
    assert len(client.operations()) == 2
    assert not any(target.memory)
