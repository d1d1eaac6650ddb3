"""Fetcher: ranges come within the bounds, and a load that fails leaves nobody writing to its memory."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from files.fake_client import URI, Call, FakeClient, Gate

from osstorchconnector.client.limits import TransferLimit
from osstorchconnector.dcp.fetching import FIRST_STAGED_BYTES, Fetch, FetchedFile, Fetcher, StagingBudget
from osstorchconnector.errors import OssIntegrityError, OssObjectChangedError
from osstorchconnector.protocol.checksum import crc32
from osstorchconnector.protocol.values import ByteSpan
from osstorchconnector.uri import OssUri

MOST_BYTES = 96 << 20
DATA = bytes(range(200))
SPANS = [ByteSpan(start, start + 20) for start in range(0, 200, 20)]


@pytest.fixture
def client() -> Iterator[FakeClient]:
    fake = FakeClient()
    fake.store(URI, DATA)
    yield fake
    fake.close()


class Target:
    """Memory for the ranges of one file, and a record of those that have come."""

    def __init__(self, spans: list[ByteSpan], staged_bytes: int = 0, uri: OssUri = URI) -> None:
        self.memory, self.came = bytearray(len(DATA)), list[Fetch]()
        self.file = FetchedFile(uri)
        for span in spans:
            view = memoryview(self.memory)[span.start : span.stop]
            self.file.waiting.append(
                Fetch(self.file, span, partial(memoryview, view), self.came.append, [span], staged_bytes)
            )


def fetcher_of(client: FakeClient, concurrency: int = 4, memory_bytes: int = MOST_BYTES) -> Fetcher:
    in_flight = TransferLimit(least=concurrency, most=concurrency)
    return Fetcher(client, in_flight=in_flight, workers=1, memory_bytes=memory_bytes)  # type: ignore[arg-type]


@pytest.mark.parametrize("concurrency", [1, 4, 20])
def test_every_range_comes_into_its_memory_with_its_checksums(client: FakeClient, concurrency: int) -> None:
    target, reached = Target(SPANS), list[int]()
    fetcher_of(client, concurrency).run([target.file], reached.append)
    assert target.memory == DATA
    assert sorted(fetch.span for fetch in target.came) == SPANS
    assert all(fetch.crcs == [crc32(DATA[fetch.span.start : fetch.span.stop])] for fetch in target.came)
    assert reached == list(range(20, 201, 20))
    assert client.most_under_way["get"] <= concurrency


def test_the_first_ranges_go_together_and_bring_the_etag_of_the_others(client: FakeClient) -> None:
    gates = {span: Gate() for span in SPANS[:4]}
    client.before = lambda call: gates[call.span].passed() if call.span in gates else None
    target = Target(SPANS)
    loading = threading.Thread(target=fetcher_of(client, 4).run, args=([target.file], lambda reached: None))
    loading.start()
    while len(client.spans()) < 4:  # without them the limit of the test ends this
        client.settle()
    for gate in gates.values():
        gate.open()
    loading.join()
    assert target.memory == DATA
    assert [bool(call.if_match) for call in client.calls] == [False] * 4 + [True] * 6


@pytest.mark.parametrize("replacement", [DATA[::-1], DATA[:90], b""], ids=["as long", "shorter", "empty"])
def test_ranges_of_two_versions_are_an_error_though_all_are_asked_for_at_once(
    client: FakeClient, replacement: bytes
) -> None:
    all_begun, others_ended = Gate(), Gate()
    ended: list[Call] = []

    async def before(call: Call) -> None:
        if len(client.calls) == len(SPANS):
            all_begun.open()
        await all_begun.passed()
        if call.span == SPANS[5]:
            await others_ended.passed()
            client.store(URI, replacement)

    def after(call: Call) -> None:
        ended.append(call)
        if len(ended) == len(SPANS) - 1:
            others_ended.open()

    client.before, client.after = before, after
    with pytest.raises(OssObjectChangedError, match="replaced while it was read"):
        fetcher_of(client, 20).run([Target(SPANS).file], lambda reached: None)


def test_the_bytes_that_complete_several_files_are_fetched_at_once(client: FakeClient) -> None:
    uris = [OssUri(URI.bucket, f"file {number}") for number in range(3)]
    targets = [Target([ByteSpan(5, 20), *SPANS[1:]], uri=uri) for uri in uris]
    for uri in uris:
        client.store(uri, DATA)
    rest, gate = ByteSpan(0, 5), Gate()
    client.before = lambda call: gate.passed() if call.span == rest else None
    loading = threading.Thread(
        target=fetcher_of(client, 4).run, args=([target.file for target in targets], lambda reached: None)
    )
    loading.start()
    while client.spans().count(rest) < 3:
        client.settle()
    gate.open()
    loading.join()
    assert all(target.file.missing_bytes == 0 for target in targets)


def test_a_range_is_planned_just_before_its_request_and_the_others_while_these_are_on_their_way(
    client: FakeClient,
) -> None:
    gate, planned, requests_before = Gate(), threading.Event(), list[int]()
    client.before = lambda call: None if call.if_match else gate.passed()
    target = Target(SPANS)
    fetches = list(target.file.waiting)

    def coming() -> Iterator[Fetch]:
        for fetch in fetches:
            requests_before.append(len(client.spans()))
            yield fetch
        planned.set()

    target.file.waiting.clear()
    target.file.coming = coming()
    loading = threading.Thread(target=fetcher_of(client, 4).run, args=([target.file], lambda reached: None))
    loading.start()
    planned.wait()
    gate.open()
    loading.join()
    assert requests_before == [0, 1, 2, 3] + [4] * 6
    assert target.memory == DATA


def test_ranges_that_need_memory_wait_while_there_is_too_much(client: FakeClient) -> None:
    target = Target(SPANS, staged_bytes=20)
    fetcher_of(client, 20, memory_bytes=60).run([target.file], lambda reached: None)
    assert target.memory == DATA
    assert client.most_under_way["get"] <= 3


def test_the_few_bytes_that_nobody_asked_for_are_fetched_to_check_the_whole(client: FakeClient) -> None:
    client.store(URI, DATA, crc=1)
    with pytest.raises(OssIntegrityError, match="CRC-64"):
        fetcher_of(client).run([Target([ByteSpan(5, 20), *SPANS[1:]]).file], lambda reached: None)
    assert client.spans()[-1] == (0, 5)


def test_a_load_that_fails_returns_when_every_request_has_let_go(client: FakeClient) -> None:
    cancelled, may_end = threading.Event(), Gate()
    let_go: list[int] = []

    async def hold() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
            await may_end.passed()
            let_go.append(1)

    def before(call: Call) -> Any:
        if call.span == SPANS[3]:
            raise KeyError
        return hold() if call.span in SPANS[1:3] else None

    client.before = before
    seen: list[int] = []

    def load() -> None:
        with pytest.raises(KeyError):
            fetcher_of(client).run([Target(SPANS).file], lambda reached: None)
        seen.append(len(let_go))

    loading = threading.Thread(target=load)
    loading.start()
    cancelled.wait()
    loading.join(0.05)
    assert loading.is_alive()
    may_end.open()
    loading.join()
    assert seen == [2]


def after(rounds: int, waited_seconds: float, worked_seconds: float, most_bytes: int = MOST_BYTES) -> int:
    budget = StagingBudget(most_bytes)
    for _ in range(rounds):
        budget.note(waited_seconds=waited_seconds, worked_seconds=worked_seconds)
    return budget.limit_bytes


def test_few_bytes_are_asked_for_while_they_come_as_fast_as_they_are_copied() -> None:
    assert after(1000, waited_seconds=0.002, worked_seconds=0.002) == FIRST_STAGED_BYTES


def test_more_are_asked_for_where_they_take_long_to_come() -> None:
    assert FIRST_STAGED_BYTES < after(8, waited_seconds=0.05, worked_seconds=0.002) < MOST_BYTES
    assert after(1000, waited_seconds=0.05, worked_seconds=0.002) == MOST_BYTES


def test_never_more_than_allowed() -> None:
    assert after(0, 0.05, 0.002, most_bytes=5_000_000) == 5_000_000
    assert after(1000, 0.05, 0.002, most_bytes=5_000_000) == 5_000_000


def test_one_late_answer_is_no_reason_to_ask_for_more() -> None:
    budget = StagingBudget(MOST_BYTES)
    budget.note(waited_seconds=0.02, worked_seconds=0.002)
    for _ in range(100):
        budget.note(waited_seconds=0.0, worked_seconds=0.002)
    assert budget.limit_bytes == FIRST_STAGED_BYTES
