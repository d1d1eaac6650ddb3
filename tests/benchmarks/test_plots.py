"""What the charts show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from benchmark_results import result, taken

from benchmarks.plots import bars, charts, curves, limit_of, lower_of_twins
from benchmarks.values import Curve, Goal, Outcome, Result


def labelled(label: str, rate: float, peer: float, **changes: Any) -> Result:
    return replace(result(taken(rate), taken(peer)), label=label, **changes)


def limited(label: str, rate: float, *limits: tuple[str, float], goals: Any = ()) -> Result:
    outcomes = [Outcome(name=name, samples=taken(limit), is_limit=True) for name, limit in limits]
    return replace(
        result(taken(rate), [], *goals), label=label, outcomes=[*result(taken(rate), []).outcomes, *outcomes]
    )


def test_a_bar_is_our_rate_over_the_connectors_and_the_largest_comes_first() -> None:
    (chart,) = bars([labelled("small", 30, 20), labelled("large", 30, 10)])
    assert chart["name"] == "near-peer"
    assert chart["bars"] == [
        {"label": "large", "ratio": pytest.approx(3), "value": "3x"},
        {"label": "small", "ratio": pytest.approx(1.5), "value": "1.5x"},
    ]


def test_works_without_a_label_and_points_of_curves_have_no_bar() -> None:
    assert (
        bars(
            [
                labelled("", 30, 10),
                labelled("x", 30, 10, curve=Curve("size", "Objects of any size", "bytes", "objects/s")),
            ]
        )
        == []
    )


def test_who_was_not_measured_has_no_bar() -> None:
    assert bars([replace(result(taken(1), []), label="x")]) == []


def test_of_a_work_on_two_servers_the_lower_ratio_is_shown() -> None:
    ahead, behind = labelled("objects", 30, 10), labelled("objects, from nginx", 30, 20, name="small-nginx")
    (chart,) = bars([ahead, behind])
    assert [bar["label"] for bar in chart["bars"]] == ["objects, from nginx"]
    assert lower_of_twins([ahead]) == [ahead]
    assert lower_of_twins([ahead, replace(behind, outcomes=behind.outcomes[:1])]) == [ahead]


def test_what_is_far_away_has_charts_of_its_own() -> None:
    charts = bars([labelled("near", 30, 20), labelled("far", 30, 10, milliseconds=35.0)])
    assert [(chart["name"], chart["bars"][0]["label"]) for chart in charts] == [
        ("far-peer", "far"),
        ("near-peer", "near"),
    ]


def test_limits_have_a_chart_of_their_own() -> None:
    (chart,) = bars([limited("small", 30, ("wrk", 40))])
    assert chart["name"] == "near-limit"
    bar = {"label": "small: wrk, which discards the bytes", "ratio": pytest.approx(0.75), "value": "75%"}
    assert chart["bars"] == [bar]


def test_the_limit_is_the_one_that_a_goal_names() -> None:
    both = (("nothing", 90.0), ("copy", 40.0))
    assert limit_of(limited("a", 30, *both)).name == "nothing"  # type: ignore[union-attr]
    goals = [Goal(against="copy", reach=1, aim=2)]
    assert limit_of(limited("a", 30, *both, goals=goals)).name == "copy"  # type: ignore[union-attr]
    assert limit_of(result(taken(1), taken(2))) is None


def test_curves_have_a_line_for_each_with_a_point_for_each_work() -> None:
    curve = Curve("size", "Objects of any size", "bytes", "objects/s")
    points = [replace(result(taken(10, 30), taken(5)), curve=curve, x=x) for x in (1.0, 2.0)]
    (found,) = curves(points)
    assert (found["name"], found["x"], found["y"]) == ("size", "bytes", "objects/s")
    assert found["lines"]["this library"] == [pytest.approx([x, 20, 10, 30]) for x in (1, 2)]
    assert bars(points) == []


def test_a_suffix_makes_another_line_of_the_same_curve() -> None:
    near, far = (Curve("workers", "Workers", "workers", "objects/s", suffix) for suffix in ("", ", 12 ms"))
    (found,) = curves([replace(result(taken(10), []), curve=curve, x=1.0) for curve in (near, far)])
    assert list(found["lines"]) == ["this library", "this library, 12 ms"]


def test_the_digest_of_a_chart_changes_with_its_values_and_texts() -> None:
    results = [labelled("small", 30, 20)]
    (first,) = charts(results, "a machine")
    assert charts(results, "a machine") == [first]
    others = charts([labelled("small", 30, 21)], "a machine") + charts(results, "another")
    assert first["digest"] not in {chart["digest"] for chart in others}
