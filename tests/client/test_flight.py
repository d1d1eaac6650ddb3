"""Flight: what is under way can be stopped, and waited for until it has let go of the memory."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from concurrent.futures import CancelledError
from typing import Any

import pytest
from files.fake_client import TRANSFER, URI, FakeClient, Gate

from osstorchconnector.client.engine import LoopThread
from osstorchconnector.client.flight import Flight, Landing, useful_threads
from osstorchconnector.errors import OssTimeoutError
from osstorchconnector.files.reader import OssReader


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

    assert Flight(client, 1).start(work).result() == 5


def test_drain_waits_until_stopped_work_has_let_go(client: FakeClient) -> None:
    flight, held = Flight(client, 1), Held()
    future = flight.start(held.work)
    held.begun.wait()
    flight.stop()
    assert not flight.drain(0.0)
    assert not held.has_let_go
    held.may_end.open()
    assert flight.drain()
    assert held.has_let_go
    with pytest.raises(CancelledError):
        future.result()


def test_memory_that_is_still_written_to_is_not_given_back_in_silence(client: FakeClient) -> None:
    flight, held = Flight(client, 1), Held()
    flight.start(held.work)
    held.begun.wait()
    flight.stop()
    with pytest.raises(OssTimeoutError, match="may still write into the memory"):
        flight.release(0.0)
    landing = Landing(flight, lambda *given: held.work(None), lambda *landed: None, concurrency=1)
    held.may_end.open()
    landing.abandon()
    assert held.has_let_go


def test_work_of_a_loop_that_has_ended_is_not_waited_for() -> None:
    thread = LoopThread("test-loop")
    held = Held()

    class Submitting:
        def submit(self, work: Any, *, workers: int) -> Any:
            return thread.submit(work(None))

    flight = Flight(Submitting(), 1)  # type: ignore[arg-type]
    flight.start(held.work)
    held.begun.wait()
    thread.stop()  # which cancels it, for a while: it does not end
    flight.stop()
    assert flight.drain(30)
    assert not held.has_let_go


def test_nothing_begins_after_stop(client: FakeClient) -> None:
    flight, held = Flight(client, 1), Held()
    flight.stop()
    with pytest.raises(CancelledError):
        flight.start(held.work).result()
    assert not held.begun.is_set()
    assert flight.drain(0.0)


def test_what_is_to_be_done_then_is_done_when_the_last_has_ended(client: FakeClient) -> None:
    flight, held = Flight(client, 1), [Held(), Held()]
    for one in held:
        flight.start(one.work)
        one.begun.wait()
    done: list[bool] = []
    flight.stop(then=lambda: done.append(all(one.has_let_go for one in held)))
    held[0].may_end.open()
    client.settle()
    assert done == []
    held[1].may_end.open()
    flight.drain()
    client.settle()
    assert done == [True]


def test_what_is_to_be_done_then_is_done_at_once_when_nothing_is_under_way(client: FakeClient) -> None:
    done: list[int] = []
    Flight(client, 1).stop(then=lambda: done.append(1))
    assert done == [1]


def test_an_interrupt_waits_until_the_memory_is_free(client: FakeClient) -> None:
    flight, held = Flight(client, 1), Held()
    flight.start(held.work)
    held.begun.wait()
    flight.stop()
    main = threading.main_thread().ident or 0

    async def interrupt_then_end(operations: Any) -> None:
        signal.pthread_kill(main, signal.SIGINT)
        await asyncio.sleep(0)
        held.may_end.open()

    def drain() -> None:
        client.submit(interrupt_then_end)
        flight.drain()

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
