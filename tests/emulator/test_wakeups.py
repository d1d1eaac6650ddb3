"""Wake-ups: in order, never early, with one alarm for all of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.emulator.wakeups import HAS_KERNEL_ALARM, Alarm, KernelAlarm, LoopAlarm, WakeUps

ALARMS = [LoopAlarm, *([KernelAlarm] if HAS_KERNEL_ALARM else [])]


class FakeAlarm:
    """An alarm that a test rings."""

    def __init__(self, ring: Callable[[], None]) -> None:
        self.ring = ring
        self.settings: list[float | None] = []

    def set(self, due: float | None) -> None:
        self.settings.append(due)

    def close(self) -> None:
        self.settings.append(None)


class Setup:
    """Wake-ups with a clock and an alarm of our own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.calls: list[tuple[float, float]] = []
        self.wake_ups = WakeUps(self._make_alarm, lambda: self.now)

    def _make_alarm(self, ring: Callable[[], None]) -> Alarm:
        self.alarm = FakeAlarm(ring)
        return self.alarm

    def add(self, due: float) -> None:
        self.wake_ups.at(due, partial(self.called, due))

    def called(self, due: float) -> None:
        self.calls.append((due, self.now))

    def ring_when_due(self, *, late: float = 0.0) -> None:
        """Go on to the time that the alarm is set for, and ring."""
        due = self.alarm.settings[-1]
        assert due is not None
        self.now = max(self.now, due + late)
        self.alarm.ring()


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0, 3))
def test_calls_are_made_in_order_and_never_early(dues: list[float], late: float) -> None:
    setup = Setup()
    for due in dues:
        setup.add(due)
    while len(setup.calls) < len(dues):
        setup.ring_when_due(late=late)
    assert [due for due, _now in setup.calls] == sorted(dues)
    assert all(due <= now <= due + late for due, now in setup.calls)
    assert setup.alarm.settings[-1] is None


def test_the_alarm_is_set_only_when_the_first_time_changes() -> None:
    setup = Setup()
    for due in (5.0, 7.0, 6.0, 3.0, 4.0):
        setup.add(due)
    assert setup.alarm.settings == [5.0, 3.0]
    setup.ring_when_due()
    assert setup.alarm.settings == [5.0, 3.0, 4.0]


def test_an_alarm_that_rings_early_is_set_again() -> None:
    setup = Setup()
    setup.add(5.0)
    setup.now = 4.9
    setup.alarm.ring()
    assert (setup.calls, setup.alarm.settings) == ([], [5.0, 5.0])


def test_what_is_cancelled_is_not_called() -> None:
    setup = Setup()
    cancelled = setup.wake_ups.at(1.0, partial(setup.called, 1.0))
    setup.add(2.0)
    cancelled.cancel()
    setup.ring_when_due()
    setup.ring_when_due()
    assert setup.calls == [(2.0, 2.0)]


def test_what_a_call_adds_waits_for_the_next_ring() -> None:
    setup = Setup()
    setup.wake_ups.at(1.0, partial(setup.add, 2.0))
    setup.ring_when_due()
    assert setup.alarm.settings == [1.0, 2.0]
    setup.ring_when_due()
    assert setup.calls == [(2.0, 2.0)]


def fail() -> None:
    raise LookupError


def test_a_call_that_fails_keeps_the_others() -> None:
    setup = Setup()
    setup.wake_ups.at(1.0, fail)
    setup.add(1.0)
    with pytest.raises(LookupError):
        setup.ring_when_due()
    setup.ring_when_due()
    assert setup.calls == [(1.0, 1.0)]


@pytest.fixture(params=[uvloop.new_event_loop, asyncio.new_event_loop])
def loop(request: pytest.FixtureRequest) -> Iterator[asyncio.AbstractEventLoop]:
    loop: asyncio.AbstractEventLoop = request.param()
    yield loop
    loop.close()


@pytest.mark.parametrize("alarm", ALARMS)
def test_real_alarms_ring_in_order_and_never_early(
    loop: asyncio.AbstractEventLoop, alarm: Callable[[asyncio.AbstractEventLoop, Callable[[], None]], Alarm]
) -> None:
    wake_ups = WakeUps(lambda ring: alarm(loop, ring))
    start, early, order = time.monotonic(), [], []

    def wake(number: int, due: float) -> None:
        order.append(number)
        if time.monotonic() < due:
            early.append(number)

    for number in (2, 0, 3, 1, 4):
        due = start + number * 0.0013
        wake_ups.at(due, partial(wake, number, due))
    wake_ups.at(start + 0.01, loop.stop)
    loop.run_forever()
    assert (order, early) == ([0, 1, 2, 3, 4], [])
    wake_ups.at(time.monotonic() + 1000, loop.stop)
    wake_ups.close()
