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
from osstorchconnector.client.flight import RunningTasks, useful_threads
from osstorchconnector.errors import OssTimeoutError
from osstorchconnector.files.reader import OssReader

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
