"""The parallel pipeline, over coroutines that the tests step by hand: no server, no clock."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import deque
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osstorchconnector.client.engine import engine
from osstorchconnector.client.lanes import Lane, WorkQueue
from osstorchconnector.client.pipeline import SPREAD_BYTES, Pipeline


def run(work, items, *, concurrency=4, workers=2, **options):
    lanes = [(thread, work) for thread in engine.threads(workers)]
    options.setdefault("window", 2 * concurrency)
    return Pipeline(lanes, items, concurrency=concurrency, **options)


async def double(item):
    await asyncio.sleep(0)
    return 2 * item


class Gate:
    """Work that waits until the test lets an item through; counts what is in flight."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[int, tuple[asyncio.AbstractEventLoop, asyncio.Event]] = {}
        self.begun = threading.Semaphore(0)
        self.cancelled = threading.Semaphore(0)
        self.most_in_flight = 0

    async def work(self, item):
        event = asyncio.Event()
        with self._lock:
            self._waiting[item] = (asyncio.get_running_loop(), event)
            self.most_in_flight = max(self.most_in_flight, len(self._waiting))
        self.begun.release()
        try:
            await event.wait()
        except asyncio.CancelledError:
            self.cancelled.release()
            raise
        with self._lock:
            del self._waiting[item]
        return item

    def open(self, item: int) -> None:
        with self._lock:
            loop, event = self._waiting[item]
        loop.call_soon_threadsafe(event.set)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 60),
    concurrency=st.integers(1, 9),
    workers=st.integers(1, 3),
    in_order=st.booleans(),
    max_bytes=st.none() | st.integers(1, 50),
)
def test_every_item_comes_out_once_and_in_order_if_asked(count, concurrency, workers, in_order, max_bytes):
    results = run(
        double,
        range(count),
        concurrency=concurrency,
        workers=workers,
        in_order=in_order,
        max_bytes=max_bytes,
        weight=lambda item: item % 20,
    )
    expected = [2 * item for item in range(count)]
    assert (list(results) if in_order else sorted(results)) == expected


def test_no_more_than_concurrency_is_in_flight_and_no_more_than_the_window_is_taken():
    gate = Gate()
    taken = []

    def source() -> Iterator[int]:
        for item in range(100):
            taken.append(item)
            yield item

    results = run(gate.work, source(), concurrency=3, workers=2, window=5)
    waiter = threading.Thread(target=next, args=(results,))
    waiter.start()
    for _ in range(3):
        assert gate.begun.acquire(timeout=100)
    assert taken == [0, 1, 2, 3, 4]
    assert gate.most_in_flight == 3
    gate.open(0)
    waiter.join(100)
    assert not waiter.is_alive()
    results.close()


def test_a_result_that_is_late_does_not_overtake_and_without_order_is_overtaken():
    for in_order, expected in ((True, [0, 1, 2]), (False, [2, 1, 0])):
        gate = Gate()
        results = run(gate.work, range(3), concurrency=3, in_order=in_order)
        given_out: list[int] = []
        arrived = threading.Semaphore(0)

        def consume(results=results, given_out=given_out, arrived=arrived) -> None:
            for item in results:
                given_out.append(item)
                arrived.release()

        consumer = threading.Thread(target=consume)
        consumer.start()
        for _ in range(3):
            assert gate.begun.acquire(timeout=100)
        for item in (2, 1, 0):
            gate.open(item)
            if not in_order:
                assert arrived.acquire(timeout=100)
        consumer.join(100)
        assert given_out == expected


def test_bytes_bound_what_is_taken_but_one_item_always_passes():
    gate = Gate()
    taken = []

    def source() -> Iterator[int]:
        for item in (1, 2, 3):
            taken.append(item)
            yield item

    results = run(gate.work, source(), concurrency=3, weight=lambda item: 10, max_bytes=15)
    consumer = threading.Thread(target=next, args=(results,))
    consumer.start()
    assert gate.begun.acquire(timeout=100)
    assert taken == [1, 2], "the second is known, but held back"
    assert gate.most_in_flight == 1
    gate.open(1)
    consumer.join(100)
    results.close()


def test_an_error_is_raised_at_its_place_and_iteration_goes_on():
    async def work(item):
        if item == 1:
            raise LookupError("one")
        return item

    results = run(work, range(3))
    assert next(results) == 0
    with pytest.raises(LookupError, match="one"):
        next(results)
    assert list(results) == [2]


def test_an_error_of_the_source_comes_after_what_was_taken_before_it():
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("the source broke")

    results = run(double, source())
    assert [next(results), next(results)] == [2, 4]
    with pytest.raises(LookupError, match="the source broke"):
        next(results)
    assert list(results) == []


def test_closing_cancels_what_is_in_flight_and_closes_the_source():
    gate = Gate()
    closed = []

    def source() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append(True)

    results = run(gate.work, source(), concurrency=2, workers=1)
    consumer = threading.Thread(target=next, args=(results,))
    consumer.start()
    for _ in range(2):
        assert gate.begun.acquire(timeout=100)
    gate.open(0)
    consumer.join(100)
    results.close()
    assert gate.cancelled.acquire(timeout=100)
    assert closed == [True]
    assert list(results) == []


def test_dropping_the_iterator_cancels_what_is_in_flight():
    gate = Gate()
    results = run(gate.work, range(100), concurrency=2, workers=1)
    consumer = threading.Thread(target=next, args=(results,))
    consumer.start()
    for _ in range(2):
        assert gate.begun.acquire(timeout=100)
    gate.open(0)
    consumer.join(100)
    del results, consumer
    gc.collect()
    assert gate.cancelled.acquire(timeout=100)


def test_work_that_swallows_its_cancellation_is_the_last_of_its_worker():
    begun = threading.Semaphore(0)
    workers: set[asyncio.Task[object]] = set()

    async def work(item):
        workers.add(asyncio.current_task())
        try:
            if item:
                begun.release()
                await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
        return item

    async def end():
        return await asyncio.wait(workers, timeout=100)

    results = run(work, range(100), concurrency=4, workers=1)
    assert next(results) == 0
    for _ in range(4):
        assert begun.acquire(timeout=100)
    results.close()
    _, pending = engine.threads(1)[0].run(end())
    assert not pending


def test_workers_that_sleep_when_their_pipeline_becomes_garbage_end_quietly(caplog):
    results = run(double, range(3), concurrency=3, workers=1)
    assert [next(results) for _ in range(3)] == [0, 2, 4]
    (thread,) = engine.threads(1)
    thread.run(asyncio.sleep(0))
    cycle = [results]
    cycle.append(cycle)
    del results, cycle
    gc.collect()
    thread.run(asyncio.sleep(0))
    assert caplog.text == ""


class Meeting:
    """Work that goes on from an item on, `meets_at`, only when two threads have taken part from there."""

    def __init__(self, meets_at: int) -> None:
        self._meets_at = meets_at
        self._lock, self._have_met = threading.Lock(), threading.Event()
        self.threads: dict[int, str] = {}
        self.in_flight = self.most_in_flight = 0

    async def work(self, item: int) -> int:
        with self._lock:
            self.threads[item] = threading.current_thread().name
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
        await asyncio.sleep(0)
        if len(self.used_from(self._meets_at)) > 1:
            self._have_met.set()
        if item >= self._meets_at:
            await asyncio.get_running_loop().run_in_executor(None, self._have_met.wait)
        with self._lock:
            self.in_flight -= 1
        return item

    def used_from(self, first: int) -> set[str]:
        with self._lock:
            return {name for item, name in self.threads.items() if item >= first}


def test_small_results_are_left_to_one_thread():
    meeting = Meeting(meets_at=1000)
    with_sizes = run(meeting.work, range(200), size=lambda result: SPREAD_BYTES - 1)
    assert list(with_sizes) == list(range(200))
    assert len(meeting.used_from(0)) == 1


def test_large_results_are_shared_among_threads_and_never_more_in_flight_for_it():
    meeting = Meeting(meets_at=60)
    assert list(run(meeting.work, range(200), size=lambda result: 2 * SPREAD_BYTES)) == list(range(200))
    assert meeting.most_in_flight <= 4


def test_when_results_become_small_again_one_thread_does_the_work():
    meeting = Meeting(meets_at=60)
    results = run(meeting.work, range(400), size=lambda result: 2 * SPREAD_BYTES if result < 100 else 0)
    assert [next(results) for _ in range(300)] == list(range(300))
    assert list(results) == list(range(300, 400))
    assert len(meeting.used_from(350)) == 1
    assert meeting.most_in_flight <= 4


def test_an_item_that_comes_while_a_worker_falls_asleep_is_not_left_lying():
    """The consumer's step, to add an item and look for sleepers, falls between the worker's look and its sleep."""
    done = threading.Event()

    class Items(deque):
        def popleft(self):
            try:
                return super().popleft()
            except IndexError:
                if late:
                    self.append(late.pop())
                    lane.wake()
                raise

    async def work(item):
        if item == "late":
            done.set()

    late = [(1, "late")]
    work_queue = WorkQueue(in_order=True)
    work_queue.items = Items([(0, "early")])
    lane = Lane(engine.threads(1)[0], work_queue, work, 1)
    lane.wake()
    try:
        assert done.wait(100)
    finally:
        lane.thread.call(lane.stop)
