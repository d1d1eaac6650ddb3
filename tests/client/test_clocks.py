"""Deadlines count the time in which the process ran."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.client.clocks import (
    GRACE_SECONDS,
    PERIOD_SECONDS,
    LoopClock,
    RunningTime,
    loop_clock,
    seconds_since_boot,
    seconds_slept,
    wait_running,
)

LONGEST = PERIOD_SECONDS + GRACE_SECONDS


def test_the_clocks_go_on_while_others_stand_still() -> None:
    assert seconds_since_boot() <= seconds_since_boot()
    assert abs(seconds_slept() - seconds_slept()) < 60


def test_time_passes_as_it_is_looked_at() -> None:
    running = RunningTime(100.0, now=0.0)
    assert [running.look(now) for now in (0.5, 1.0, 1.0, 1.0 + LONGEST)] == [100.5, 101.0, 101.0, 101.0 + LONGEST]
    assert running.stops == 0


def test_a_gap_in_which_the_process_did_not_run_counts_as_one_look() -> None:
    running = RunningTime(0.0, now=0.0)
    running.look(1.0)
    assert running.look(3601.0) == 1.0 + PERIOD_SECONDS
    assert running.stops == 1
    assert running.look(3602.0) == 2.0 + PERIOD_SECONDS
    assert running.stops == 1


def test_while_nobody_had_to_look_no_time_is_lost() -> None:
    running = RunningTime(0.0, now=0.0)
    running.look_again(3600.0)
    assert (running.seconds, running.stops) == (3600.0, 0)


@given(st.lists(st.floats(0, 10_000), max_size=50))
def test_running_time_never_passes_faster_than_time_nor_backwards(gaps: list[float]) -> None:
    running, now, last = RunningTime(0.0, 0.0), 0.0, 0.0
    for gap in gaps:
        now += gap
        passed = running.look(now) - last
        last = running.seconds
        assert 0 <= passed <= gap + 1e-6
        assert passed <= LONGEST + 1e-6
    assert running.stops == sum(gap > LONGEST + 1e-6 for gap in gaps) or any(abs(g - LONGEST) < 1e-3 for g in gaps)


class Readings:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def in_loop(work: Callable[[LoopClock, Readings], Any]) -> Any:
    async def run() -> Any:
        readings = Readings()
        clock = LoopClock(asyncio.get_running_loop(), readings)
        clock.tick_within(0.001)
        return await work(clock, readings)

    return asyncio.run(run())


def test_a_stop_longer_than_the_deadline_leaves_the_waiting_another_chance() -> None:
    async def work(clock: LoopClock, readings: Readings) -> str:
        begun = clock.look()
        answer = asyncio.get_running_loop().create_future()

        async def wait() -> str:
            return await answer

        waiting = asyncio.ensure_future(clock.wait_for(wait(), lambda: begun + 5.0))
        for _ in range(3):
            await asyncio.sleep(0.002)
            readings.now += 3600.0  # each time far beyond the deadline
        await asyncio.sleep(0.01)
        assert not waiting.done()
        assert clock.running.stops == 3
        answer.set_result("in time")
        return await waiting

    assert in_loop(work) == "in time"


def test_time_in_which_the_process_ran_uses_the_deadline_up() -> None:
    async def work(clock: LoopClock, readings: Readings) -> bool:
        begun = clock.look()
        ended = []

        async def wait() -> None:
            try:
                await asyncio.sleep(600)
            finally:
                ended.append(True)

        waiting = asyncio.ensure_future(clock.wait_for(wait(), lambda: begun + 0.05))
        while not waiting.done():
            readings.now += 0.01
            await asyncio.sleep(0.001)
        with pytest.raises(asyncio.TimeoutError):
            await waiting
        return ended == [True]

    assert in_loop(work), "what was waited for has let go"


def test_a_deadline_may_move_while_it_is_waited_for() -> None:
    async def work(clock: LoopClock, readings: Readings) -> str:
        asked: list[float] = []
        begun = clock.look()

        def deadline() -> float:
            asked.append(clock.running.seconds)
            return begun + 0.01 * min(len(asked), 3)

        async def wait() -> str:
            while len(asked) < 3:
                readings.now += 0.0005  # slower than the loop's time, which wakes who waits
                await asyncio.sleep(0.001)
            return "in time"

        return await clock.wait_for(wait(), deadline)

    assert in_loop(work) == "in time"


@pytest.mark.parametrize("outcome", ["result", "error", "cancelled"])
def test_who_waits_gets_what_came(outcome: str) -> None:
    async def work(clock: LoopClock, readings: Readings) -> Any:
        ended = []

        async def wait() -> str:
            try:
                if outcome == "cancelled":
                    await asyncio.sleep(600)
                await asyncio.sleep(0)
                if outcome == "error":
                    raise KeyError("came")
                return "came"
            finally:
                ended.append(True)

        waiting = asyncio.ensure_future(clock.wait_for(wait(), lambda: clock.running.seconds + 600))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if outcome == "cancelled":
            waiting.cancel()
        try:
            assert await waiting == "came"
        except (KeyError, asyncio.CancelledError):
            assert outcome != "result"
        assert ended == [True]

    in_loop(work)


def test_who_gives_up_waiting_leaves_no_error_that_nobody_has_seen() -> None:
    async def work(clock: LoopClock, readings: Readings) -> list[Any]:
        complaints: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

        async def fail_when_cancelled() -> None:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                raise OSError("broke just then") from None

        waiting = asyncio.ensure_future(clock.wait_for(fail_when_cancelled(), lambda: clock.running.seconds + 600))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        del waiting
        gc.collect()
        return complaints

    assert in_loop(work) == []


def test_who_is_cancelled_while_waiting_leaves_no_cycle() -> None:
    async def main() -> weakref.ref[Any]:
        task = asyncio.create_task(loop_clock().wait_for(asyncio.sleep(3600), lambda: float("inf")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})  # without looking at its error
        return weakref.ref(task)

    gc.disable()
    try:
        assert asyncio.run(main())() is None
    finally:
        gc.enable()


def test_a_watcher_that_fails_stops_neither_the_clock_nor_other_watchers() -> None:
    async def work(clock: LoopClock, readings: Readings) -> None:
        complaints, ticks, has_ticked = list[Any](), list[float](), asyncio.Event()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

        def failing(now: float) -> bool:
            raise KeyError("a transport that is gone")

        def other(now: float) -> bool:
            ticks.append(now)
            if len(ticks) == 3:
                has_ticked.set()
            return len(ticks) < 3

        clock.watch(failing)
        clock.watch(other)
        await asyncio.wait_for(has_ticked.wait(), 30)
        assert len(complaints) in (3, 4)
        clock.unwatch(failing)

    in_loop(work)


def test_it_ticks_only_while_somebody_waits() -> None:
    async def work(clock: LoopClock, readings: Readings) -> None:
        assert not clock.is_ticking
        ticks: list[float] = []
        has_seen_enough = asyncio.Event()

        def watcher(now: float) -> bool:
            ticks.append(now)
            if len(ticks) == 3:
                has_seen_enough.set()
            return len(ticks) < 3

        clock.watch(watcher)
        with clock.used():
            await has_seen_enough.wait()
            await asyncio.sleep(0.01)
            assert len(ticks) == 3
            assert clock.is_ticking
        for _ in range(10):  # each at least as long as a tick
            await asyncio.sleep(0.001)
        assert not clock.is_ticking

    in_loop(work)


def test_a_loop_has_one_clock_and_takes_it_along_when_it_ends() -> None:
    async def run() -> tuple[Any, Any]:
        clock = loop_clock()
        clock.watch(lambda now: True)
        assert loop_clock() is clock
        return weakref.ref(clock), weakref.ref(asyncio.get_running_loop())

    clock, loop = asyncio.run(run())
    gc.collect()
    assert clock() is loop() is None


def test_a_wait_of_a_thread_goes_on_after_a_stop() -> None:
    waits: list[float] = []
    now = Readings()

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        now.now += 3600.0 if len(waits) == 2 else seconds
        return False

    assert not wait_running(wait, 3.5, now)
    assert waits == [1.0, 1.0, 1.0, 0.5, 0.0]


def test_a_wait_of_a_thread_ends_with_what_it_waits_for() -> None:
    answers: Iterator[bool] = iter([False, True])
    assert wait_running(lambda seconds: next(answers), 60.0)
    assert wait_running(lambda seconds: True, 0.0)
    assert not wait_running(lambda seconds: False, 0.0)
