"""Requests under way: they end one by one, can be stopped, and are waited for until none uses its memory."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest
from files.fake_client import TRANSFER, URI, FakeClient, Gate

from osstorchconnector.client.engine import LoopThread
from osstorchconnector.client.flight import ParallelRead, RunningTasks, useful_threads
from osstorchconnector.client.limits import TransferLimit
from osstorchconnector.errors import OssTimeoutError
from osstorchconnector.files.reader import OssReader
from osstorchconnector.protocol.values import ByteSpan, Download

Tasks = RunningTasks[str, Any]


@pytest.fixture
def client() -> Iterator[FakeClient]:
    fake = FakeClient()
    yield fake
    fake.close()


class Held:
    """Work that ends when told, and takes its time to be cancelled."""

    def __init__(self) -> None:
        self.begun, self.cancelled, self.may_end = threading.Event(), threading.Event(), Gate()
        self.has_let_go = False

    async def work(self, operations: Any) -> str:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()
            await self.may_end.passed()
            self.has_let_go = True
        return "never"


def test_work_gives_its_result(client: FakeClient) -> None:
    async def work(operations: Any) -> int:
        return 5

    assert Tasks(client, 1).start(work).result() == 5


def test_drain_waits_until_stopped_work_has_let_go(client: FakeClient) -> None:
    tasks, held = Tasks(client, 1), Held()
    future = tasks.start(held.work)
    held.begun.wait()
    tasks.stop()
    assert not tasks.drain(0.0)
    assert not held.has_let_go
    held.may_end.open()
    assert tasks.drain()
    assert held.has_let_go
    with pytest.raises(CancelledError):
        future.result()


def test_abandoning_says_so_when_the_memory_may_still_be_written_to(client: FakeClient) -> None:
    tasks, held = Tasks(client, 1), Held()
    tasks.begin("span", held.work)
    held.begun.wait()
    with pytest.raises(OssTimeoutError, match="may still write into the memory"):
        tasks.abandon(0.0)
    assert held.cancelled.wait(30)
    assert not held.has_let_go
    held.may_end.open()
    assert tasks.drain()
    assert held.has_let_go
    assert len(tasks) == 0


def test_abandoning_returns_when_every_task_has_ended(client: FakeClient) -> None:
    tasks, held = Tasks(client, 1), Held()
    tasks.begin("span", held.work)
    held.begun.wait()
    held.may_end.open()
    tasks.abandon()
    assert held.has_let_go


def test_each_task_is_returned_once_with_its_subject(client: FakeClient) -> None:
    gates = {name: Gate() for name in "abc"}
    tasks = Tasks(client, 1)

    def work(name: str) -> Any:
        async def upper(operations: Any) -> str:
            await gates[name].passed()
            return name.upper()

        return upper

    for name in "abc":
        tasks.begin(name, work(name))
    ended = []
    for name in "cab":  # in the order in which they end
        assert not tasks.has_ended_task
        gates[name].open()
        ended.append(tasks.wait_for_one())
    assert ended == [("c", "C"), ("a", "A"), ("b", "B")]
    assert len(tasks) == 0


def test_a_task_that_ended_can_be_seen_without_waiting(client: FakeClient) -> None:
    tasks = Tasks(client, 1)

    async def work(operations: Any) -> int:
        return 5

    tasks.begin("five", work)
    assert len(tasks) == 1
    while not tasks.has_ended_task:  # without it the limit of the test ends this
        client.settle()
    assert tasks.wait_for_one() == ("five", 5)


def test_the_error_of_a_task_is_raised_and_keeps_no_memory(client: FakeClient) -> None:
    class Subject:
        """May be referred to weakly, as a view may not."""

    async def fail(operations: Any) -> None:
        raise KeyError("lost")

    tasks, subject = RunningTasks[Subject, None](client, 1), Subject()
    watched = weakref.ref(subject)
    tasks.begin(subject, fail)
    del subject
    with pytest.raises(KeyError, match="lost") as caught:
        tasks.wait_for_one()
    assert len(tasks) == 0
    assert watched() is None  # though the error is kept, and its traceback
    assert caught.value.args == ("lost",)


def test_a_stopped_task_is_returned_as_cancelled(client: FakeClient) -> None:
    tasks, held = Tasks(client, 1), Held()
    tasks.begin("span", held.work)
    held.begun.wait()
    tasks.stop()
    held.may_end.open()
    with pytest.raises(CancelledError):
        tasks.wait_for_one()


def test_work_of_a_loop_that_has_ended_is_not_waited_for() -> None:
    thread = LoopThread("test-loop")
    held = Held()

    class Submitting:
        def submit(self, work: Any, *, workers: int) -> Any:
            return thread.submit(work(None))

    tasks = Tasks(Submitting(), 1)  # type: ignore[arg-type]
    tasks.start(held.work)
    held.begun.wait()
    thread.stop()  # which cancels it, for a while: it does not end
    tasks.stop()
    assert tasks.drain(30)
    assert not held.has_let_go


def test_nothing_begins_after_stop(client: FakeClient) -> None:
    tasks, held = Tasks(client, 1), Held()
    tasks.stop()
    with pytest.raises(CancelledError):
        tasks.start(held.work).result()
    assert not held.begun.is_set()
    assert tasks.drain(0.0)


def test_what_is_to_be_done_then_is_done_when_the_last_has_ended(client: FakeClient) -> None:
    tasks, held = Tasks(client, 1), [Held(), Held()]
    for one in held:
        tasks.start(one.work)
        one.begun.wait()
    done: list[bool] = []
    tasks.stop(then=lambda: done.append(all(one.has_let_go for one in held)))
    held[0].may_end.open()
    client.settle()
    assert done == []
    held[1].may_end.open()
    tasks.drain()
    client.settle()
    assert done == [True]


def test_what_is_to_be_done_then_is_done_at_once_when_nothing_is_under_way(client: FakeClient) -> None:
    done: list[int] = []
    Tasks(client, 1).stop(then=lambda: done.append(1))
    assert done == [1]


def test_an_interrupt_waits_until_the_memory_is_free(client: FakeClient) -> None:
    tasks, held = Tasks(client, 1), Held()
    tasks.start(held.work)
    held.begun.wait()
    tasks.stop()
    main = threading.main_thread().ident or 0

    async def interrupt_then_end(operations: Any) -> None:
        signal.pthread_kill(main, signal.SIGINT)
        await asyncio.sleep(0)
        held.may_end.open()

    def drain() -> None:
        client.submit(interrupt_then_end)
        tasks.drain()

    with pytest.raises(KeyboardInterrupt):
        drain()
    assert held.has_let_go


def test_a_failed_read_returns_when_every_request_has_let_go(client: FakeClient) -> None:
    held = Held()

    def before(call: Any) -> Any:
        if call.span.stop == len(memory):
            raise KeyError
        return held.work(None) if call.span.start else None

    client.store(URI, b"x" * 20_000_000)
    memory = bytearray(20_000_000)
    reader = OssReader(client, URI, transfer=TRANSFER)
    client.before = before
    let_go: list[bool] = []

    def read() -> None:
        with contextlib.suppress(KeyError):
            reader.readinto(memory)
        let_go.append(held.has_let_go)

    reading = threading.Thread(target=read)
    reading.start()
    held.cancelled.wait()
    reading.join(0.05)
    assert reading.is_alive()
    held.may_end.open()
    reading.join()
    assert let_go == [True]
    client.before = lambda call: None
    reader.close()


def test_an_interrupted_read_leaves_nobody_writing_to_its_memory(client: FakeClient) -> None:
    client.store(URI, b"x" * 20_000_000)
    gate = Gate()
    main = threading.main_thread().ident or 0

    def interrupt(call: Any) -> Any:
        if call.span.stop == len(memory):  # the last one, which is sent when the others are under way
            signal.pthread_kill(main, signal.SIGINT)
        return gate.passed() if call.span.start else None

    client.before = interrupt
    memory = bytearray(20_000_000)
    reader = OssReader(client, URI, transfer=TRANSFER)
    with pytest.raises(KeyboardInterrupt):
        reader.readinto(memory)
    gate.open()
    client.settle()
    assert not any(memory[64 * 1024 :])
    client.before = lambda call: None
    assert reader.readinto(memory) == 20_000_000
    assert not memory.strip(b"x")
    reader.close()


@pytest.mark.parametrize(
    ("configured", "cores", "threads"), [(4, 1, 1), (4, 2, 1), (4, 4, 2), (4, 64, 4), (1, 64, 1), (256, 16, 8)]
)
def test_as_many_threads_as_configured_share_transfers_where_there_are_cores_for_them(
    configured: int, cores: int, threads: int
) -> None:
    assert useful_threads(configured, cores) == threads


# spans of one object


DATA = bytes(range(200))
SPANS = [ByteSpan(start, start + 20) for start in range(0, 200, 20)]


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
