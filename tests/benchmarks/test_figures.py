"""What samples say."""

from __future__ import annotations

import pytest
from benchmark_results import result, taken

from benchmarks.figures import is_server_bound, ratio, spread, standing
from benchmarks.values import CXX, MIB, Goal, Outcome, Sample


def test_a_spread_is_the_median_between_least_and_most() -> None:
    found = spread(taken(30, 10, 20))
    assert (found.median, found.least, found.most) == pytest.approx((20, 10, 30))


def test_figures_are_for_one_of_the_unit() -> None:
    sample = Sample(amount=4, seconds=2, cpu_seconds=1, peak_bytes=8)
    assert (sample.rate, sample.seconds_each, sample.cpu, sample.peak) == (2, 0.5, 0.25, 8)


def test_a_ratio_compares_round_by_round() -> None:
    ours, theirs = Outcome(name="a", samples=taken(30, 3, 300)), Outcome(name="b", samples=taken(10, 1, 150))
    assert ratio(ours, theirs) == pytest.approx(3)


def test_one_sample_stands_for_all_rounds() -> None:
    ours, known = Outcome(name="a", samples=taken(30, 60, 90)), Outcome(name="b", samples=taken(120))
    assert ratio(ours, known) == pytest.approx(0.5)


def test_nothing_is_compared_with_those_who_failed() -> None:
    assert ratio(Outcome(name="a", samples=taken(1)), Outcome(name="b", missing="not installed")) is None


def test_nothing_is_divided_by_zero() -> None:
    known = Outcome(name="b", samples=taken(1, cpu_seconds=0))
    assert ratio(Outcome(name="a", samples=taken(1)), known, "cpu") is None


@pytest.mark.parametrize(("ours", "verdict"), [(41, "aim"), (30, "reach"), (20, "short")])
def test_a_goal_is_judged_by_the_ratio(ours: float, verdict: str) -> None:
    goal = Goal(against=CXX, reach=2.5, aim=4)
    assert standing(result(taken(ours), taken(10)), goal).verdict == verdict


@pytest.mark.parametrize(("mib", "verdict"), [(20, "aim"), (50, "reach"), (70, "short")])
def test_a_ceiling_is_judged_by_itself(mib: int, verdict: str) -> None:
    goal = Goal(against="", figure="peak", reach=64 * MIB, aim=32 * MIB, is_ceiling=True)
    assert standing(result(taken(1, peak_bytes=mib * MIB), taken(1)), goal).verdict == verdict


def test_a_goal_may_be_about_what_only_this_work_measures() -> None:
    samples = [Sample(1, 1, 1, 0, {"growth": growth}) for growth in (0.2, 0.02, 0.03)]
    goal = Goal(against="", extra="growth", reach=0.05, aim=0.01, is_ceiling=True)
    assert standing(result(samples, taken(1)), goal).value == 0.03


def test_what_only_this_work_measures_may_be_held_against_another() -> None:
    ours, theirs = ([Sample(1, 1, 1, 0, {"gets": gets}) for gets in rounds] for rounds in ((30, 33), (20, 22)))
    goal = Goal(against=CXX, extra="gets", reach=2, aim=1.2, is_ceiling=True)
    assert standing(result(ours, theirs), goal).value == 1.5


def test_a_goal_against_nobody_is_open() -> None:
    found = standing(result(taken(1), taken(1)), Goal(against="wrk", reach=1, aim=2))
    assert (found.value, found.verdict) == (None, "unknown")


@pytest.mark.parametrize(("limit", "is_bound"), [(12, True), (14, False)])
def test_a_client_that_throws_bytes_away_shows_whether_the_server_is_the_limit(limit: float, is_bound: bool) -> None:
    assert is_server_bound(result(taken(10), taken(limit), name="wrk"), "wrk") is is_bound
