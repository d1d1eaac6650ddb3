"""Calls that hang are given up, and what they bring later counts."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError

import pytest

from osstorchconnector.patience import (
    MOST_HANGING,
    RENEWED_SECONDS,
    Asking,
    NoAnswerError,
    NoThreadError,
    Stillness,
    start_thread,
)

LONG, SHORT = 30.0, 0.01


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow:
    """A call that returns its number once `go` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.calls = 0

    def __call__(self) -> int:
        self.calls += 1
        number = self.calls
        self.go.wait(LONG)
        return number


@pytest.fixture
def slow() -> Iterator[Slow]:
    call = Slow()
    yield call
    call.go.set()


def test_an_answer_in_time_and_an_error_come_through() -> None:
    asking = Asking[int]()
    assert [asking.ask(lambda: 7, LONG), asking.ask(lambda: 8, LONG)] == [7, 8]
    with pytest.raises(KeyError, match="what the call raised"):
        asking.ask(lambda: {}["what the call raised"], LONG)


def test_a_call_that_hangs_is_given_up_and_not_made_again_beside_it(slow: Slow) -> None:
    asking = Asking[int](Clock())
    for _ in range(3):
        with pytest.raises(NoAnswerError, match="no answer within 0.01 s"):
            asking.ask(slow, SHORT)
    assert slow.calls == 1
    slow.go.set()
    assert asking.ask(slow, LONG) == 1
    assert asking.ask(slow, LONG) == 2


def test_after_a_minute_it_is_made_again_but_not_for_ever(slow: Slow) -> None:
    asking = Asking[int](clock := Clock())
    for _ in range(2 * MOST_HANGING):
        with pytest.raises(NoAnswerError):
            asking.ask(slow, SHORT)
        clock.now += RENEWED_SECONDS
    assert slow.calls == MOST_HANGING


def test_a_call_that_raises_a_timeout_itself_is_told_from_one_that_hangs() -> None:
    def late() -> int:
        raise TimeoutError("the call's own")

    with pytest.raises(TimeoutError, match="the call's own"):
        Asking[int]().ask(late, LONG)


class LateFuture(Future[int]):
    """A call that ends just when it is not waited for any more."""

    def result(self, timeout: float | None = None) -> int:
        if not self.done():
            self.set_result(7)
            raise FutureTimeoutError
        return super().result(timeout)


def test_an_answer_that_comes_just_when_the_time_is_up_counts(slow: Slow) -> None:
    asking = Asking[int](Clock())
    asking._latest = LateFuture()
    assert asking.ask(slow, 0.0) == 7
    assert not slow.calls


@pytest.mark.parametrize(("text", "runs_here"), [("can't start new thread", False), ("at interpreter shutdown", True)])
def test_where_no_thread_can_be_started_there_is_an_error_or_the_end(
    monkeypatch: pytest.MonkeyPatch, text: str, runs_here: bool
) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done: list[int] = []
    work: Callable[[], object] = lambda: done.append(1)  # noqa: E731
    if runs_here:
        start_thread(work, "x")
    else:
        with pytest.raises(NoThreadError, match="ulimit -u"):
            start_thread(work, "x")
    assert done == [1] * runs_here


def test_what_stands_still_is_warned_of_at_growing_intervals_and_is_an_error_in_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stillness, warned = Stillness("the table has not grown", clock := Clock()), []
    while clock.now < 1800:
        stillness.check(1, 10, "somebody")
        if caplog.records:
            caplog.clear()
            warned.append(clock.now)
        clock.now += 10
    assert warned == [60, 120, 240, 480, 960]
    with pytest.raises(NoAnswerError, match="the table has not grown for 1800 s: somebody"):
        stillness.check(1, 10, "somebody")


def test_neither_a_change_nor_the_time_for_which_all_were_stopped_counts() -> None:
    stillness = Stillness("nothing", clock := Clock())
    for number in range(100):  # something changes now and then
        stillness.check(number // 5, 60, "somebody")
        clock.now += 60
    clock.now += 10_000  # stopped, and continued
    stillness.check(19, 60, "somebody")


def test_calls_that_differ_are_not_made_while_one_hangs_and_each_is_made_afterwards(slow: Slow) -> None:
    asking = Asking[int]()
    with pytest.raises(NoAnswerError, match="no answer within"):
        asking.do(slow, SHORT)
    for _ in range(3):
        with pytest.raises(NoAnswerError, match="still no answer"):
            asking.do(lambda: 7, LONG)
    slow.go.set()
    while True:
        with contextlib.suppress(NoAnswerError):
            assert [asking.do(lambda: 7, LONG), asking.do(lambda: 8, LONG)] == [7, 8]
            break
