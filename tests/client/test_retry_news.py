"""Which retries are told of: the first of an operation, then what goes on for long, at growing intervals."""

from __future__ import annotations

import logging

from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.client.traffic import INFO_INTERVAL_SECONDS, LONG_SECONDS, QUIET_NEWS_SECONDS, RetryNews


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def told(clock: Clock, news: RetryNews, **what: float) -> tuple[int, int]:
    found = news.of(attempt=int(what.get("attempt", 1)), seconds_so_far=what.get("seconds_so_far", 0.0))
    return (found.level, found.untold) if found else (0, 0)


def test_the_first_retry_of_an_operation_is_information_and_the_second_is_none() -> None:
    news = RetryNews(clock := Clock())
    assert told(clock, news) == (logging.INFO, 0)
    assert told(clock, news, attempt=2, seconds_so_far=1.0) == (0, 0)


def test_of_many_operations_one_a_second_is_told_of_and_the_others_are_counted() -> None:
    news = RetryNews(clock := Clock())
    levels = [told(clock, news) for _ in range(100)]
    assert levels == [(logging.INFO, 0)] + [(0, 0)] * 99
    clock.now += INFO_INTERVAL_SECONDS
    assert told(clock, news) == (logging.INFO, 99)


def test_what_goes_on_for_long_is_a_warning_at_growing_intervals() -> None:
    news, warned = RetryNews(clock := Clock()), []
    for second in range(200):
        clock.now = 1000.0 + second
        level, _ = told(clock, news, attempt=1 + second, seconds_so_far=float(second))
        if level == logging.WARNING:
            warned.append(second)
    assert warned == [5, 10, 20, 40, 80, 160]


def test_an_answer_that_stayed_away_for_long_is_a_warning_at_the_first_retry() -> None:
    news = RetryNews(clock := Clock())
    assert told(clock, news, seconds_so_far=30.0) == (logging.WARNING, 0)


def test_after_a_calm_time_intervals_are_short_again() -> None:
    news = RetryNews(clock := Clock())
    for second in (0, 5, 15, 35):
        clock.now = 1000.0 + second
        assert told(clock, news, attempt=2, seconds_so_far=LONG_SECONDS)[0] == logging.WARNING
    clock.now += QUIET_NEWS_SECONDS + 1
    assert told(clock, news, attempt=2, seconds_so_far=LONG_SECONDS)[0] == logging.WARNING
    clock.now += LONG_SECONDS
    assert told(clock, news, attempt=2, seconds_so_far=LONG_SECONDS)[0] == logging.WARNING


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 5), st.floats(0, 100)), max_size=50))
def test_every_retry_is_told_of_or_counted(story: list[tuple[float, int, float]]) -> None:
    news, counted = RetryNews(clock := Clock()), 0
    for seconds, attempt, so_far in story:
        clock.now += seconds
        found = news.of(attempt=attempt, seconds_so_far=so_far)
        counted += 1 + found.untold if found else 0
    clock.now += 1000.0
    last = news.of(attempt=1, seconds_so_far=0.0)
    assert last is not None
    assert counted + last.untold == len(story)
