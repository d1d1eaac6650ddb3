"""Whoever waits for a server learns it once, and once that it goes on."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.client.clocks import LoopClock
from osstorchconnector.client.error_texts import Story
from osstorchconnector.client.news import (
    INFO_INTERVAL_SECONDS,
    LONG_SECONDS,
    QUIET_NEWS_SECONDS,
    HeldNews,
    Listener,
    RetryNews,
    Silence,
)
from osstorchconnector.client.retry import RetryDecision
from osstorchconnector.client.traffic import Gate
from osstorchconnector.protocol import requests

REQUEST = requests.get_object("bucket", "key", None, "")
STORY = Story("GetObject", "oss://bucket/key", "OSS answered 503 ServiceUnavailable", "[1 attempt]", "wait")


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "osstorchconnector")
    return caplog


class NewsClock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def told(clock: NewsClock, news: RetryNews, **what: float) -> tuple[int, int]:
    found = news.of(attempt=int(what.get("attempt", 1)), seconds_so_far=what.get("seconds_so_far", 0.0))
    return (found.level, found.untold) if found else (0, 0)


def test_the_first_retry_of_an_operation_is_information_and_the_second_is_none() -> None:
    news = RetryNews(clock := NewsClock())
    assert told(clock, news) == (logging.INFO, 0)
    assert told(clock, news, attempt=2, seconds_so_far=1.0) == (0, 0)


def test_of_many_operations_one_a_second_is_told_of_and_the_others_are_counted() -> None:
    news = RetryNews(clock := NewsClock())
    levels = [told(clock, news) for _ in range(100)]
    assert levels == [(logging.INFO, 0)] + [(0, 0)] * 99
    clock.now += INFO_INTERVAL_SECONDS
    assert told(clock, news) == (logging.INFO, 99)


def test_what_goes_on_for_long_is_a_warning_at_growing_intervals() -> None:
    news, warned = RetryNews(clock := NewsClock()), []
    for second in range(200):
        clock.now = 1000.0 + second
        level, _ = told(clock, news, attempt=1 + second, seconds_so_far=float(second))
        if level == logging.WARNING:
            warned.append(second)
    assert warned == [5, 10, 20, 40, 80, 160]


def test_an_answer_that_stayed_away_for_long_is_a_warning_at_the_first_retry() -> None:
    news = RetryNews(clock := NewsClock())
    assert told(clock, news, seconds_so_far=30.0) == (logging.WARNING, 0)


def test_after_a_calm_time_intervals_are_short_again() -> None:
    news = RetryNews(clock := NewsClock())
    for second in (0, 5, 15, 35):
        clock.now = 1000.0 + second
        assert told(clock, news, attempt=2, seconds_so_far=LONG_SECONDS)[0] == logging.WARNING
    clock.now += QUIET_NEWS_SECONDS + 1
    assert told(clock, news, attempt=2, seconds_so_far=LONG_SECONDS)[0] == logging.WARNING
    clock.now += LONG_SECONDS
    assert told(clock, news, attempt=2, seconds_so_far=LONG_SECONDS)[0] == logging.WARNING


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 5), st.floats(0, 100)), max_size=50))
def test_every_retry_is_told_of_or_counted(story: list[tuple[float, int, float]]) -> None:
    news, counted = RetryNews(clock := NewsClock()), 0
    for seconds, attempt, so_far in story:
        clock.now += seconds
        found = news.of(attempt=attempt, seconds_so_far=so_far)
        counted += 1 + found.untold if found else 0
    clock.now += 1000.0
    last = news.of(attempt=1, seconds_so_far=0.0)
    assert last is not None
    assert counted + last.untold == len(story)


def test_a_wait_is_told_and_that_it_goes_on(lines: pytest.LogCaptureFixture) -> None:
    news = RetryNews(NewsClock())
    decision = RetryDecision(True, delay_seconds=2.0)
    news.tell(STORY, decision, 1, 1.0, 120.0)
    news.goes_on(REQUEST, 2, 3.0)
    assert not lines.messages, "nobody was told of a wait"
    news.tell(STORY, decision, 5, 6.0, 120.0)
    news.goes_on(REQUEST, 6, 8.0)
    news.goes_on(REQUEST, 2, 1.0)
    told_wait, told_end = lines.messages
    assert told_wait == f"{STORY}; sent again in 2 s as attempt 6, for 114 s at most"
    assert told_end == "it goes on: GetObject oss://bucket/key was answered at attempt 6, after 8 s"


def test_who_is_held_back_for_long_is_told_so_and_when_it_is_over(lines: pytest.LogCaptureFixture) -> None:
    gate = Gate(clock := NewsClock(), news=HeldNews("https://oss"))
    gate.refused(gate.steps)
    gate.note_held(LONG_SECONDS - 1)
    assert not lines.messages
    for seconds in (LONG_SECONDS, LONG_SECONDS + 10):
        gate.note_held(seconds)
    clock.now += 3600.0
    gate.turn()
    gate.note_held(LONG_SECONDS)
    assert gate.is_open
    assert lines.messages == [
        "https://oss asks for fewer requests: they are held back for 5 s and more, and sent at 20 a second",
        "it goes on: requests to https://oss are no longer held back",
    ]


def test_a_server_that_says_nothing_is_named_once_until_it_answers(lines: pytest.LogCaptureFixture) -> None:
    silence = Silence()
    for quiet in ([1.0], [7.0, 3.0], [], [6.0, 9.0], [8.5, 11.5], [0.1, 14.0], [0.2]):
        silence.look(quiet, "10.0.0.1", 30.0)
    assert lines.messages == [
        "no answer from 10.0.0.1 for 6 s to 2 requests; one that stays silent for 30 s is repeated",
        "it goes on: 10.0.0.1 answers again, after 8 s",
    ]


def test_requests_that_are_given_up_are_not_said_to_go_on(lines: pytest.LogCaptureFixture) -> None:
    silence = Silence()
    for quiet in ([6.0], [math.inf], [0.1], [0.2]):
        silence.look(quiet, "10.0.0.1", 30.0)
    assert len(lines.messages) == 1


class Ticks:
    """A clock that ticks when it is told to."""

    def __init__(self) -> None:
        self.now, self.watchers = 1000.0, list[Callable[[float], bool]]()

    def look(self) -> float:
        return self.now

    def watch(self, watcher: Callable[[float], bool]) -> None:
        self.watchers.append(watcher)

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.watchers = [watcher for watcher in self.watchers if watcher(self.now)]


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def listener(ticks: Ticks) -> Listener:
    return Listener(cast(LoopClock, ticks), 30.0)


def test_a_request_of_which_bytes_come_is_not_silent(
    lines: pytest.LogCaptureFixture, ticks: Ticks, listener: Listener
) -> None:
    received = 0
    with listener.listening("oss", lambda: received):
        for _ in range(20):
            received += 1
            ticks.tick(4.0)
    ticks.tick(4.0)
    assert (lines.messages, ticks.watchers) == ([], [])


def test_requests_without_a_byte_are_told_of_until_one_ends_well(
    lines: pytest.LogCaptureFixture, ticks: Ticks, listener: Listener
) -> None:
    with listener.listening("oss", lambda: 0):
        ticks.tick(3.0)
        with listener.listening("oss", lambda: 0):
            for _ in range(4):
                ticks.tick(3.0)
    assert len(ticks.watchers) == 1
    ticks.tick(3.0)
    assert lines.messages == [
        "no answer from oss for 6 s to 2 requests; one that stays silent for 30 s is repeated",
        "it goes on: oss answers again, after 12 s",
    ]
    assert ticks.watchers == []


def test_a_request_that_failed_does_not_go_on(
    lines: pytest.LogCaptureFixture, ticks: Ticks, listener: Listener
) -> None:
    def fail() -> None:
        with listener.listening("oss", lambda: 0):
            ticks.tick(6.0)
            raise TimeoutError

    with pytest.raises(TimeoutError):
        fail()
    ticks.tick(1.0)
    assert len(lines.messages) == 1
