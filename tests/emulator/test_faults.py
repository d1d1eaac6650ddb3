"""When faults strike: rules against a series of calls, with a clock of our own."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from emulator.driver import DATA, Driver, fail

from osstorchconnector.emulator.exchange import Call
from osstorchconnector.emulator.faults import CATALOGUE, FaultBook, Rule, make_effect, names_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def get(key: str = "k", *query: tuple[str, str], operation: str = "GetObject", bucket: str = "photos") -> Call:
    return Call(operation, "GET", bucket, key, list(query))


def struck(rule: Rule, calls: Iterable[Call]) -> list[str]:
    book = FaultBook()
    book.add(rule)
    return [names_of(book.draw(call)) for call in calls]


def test_a_rule_strikes_every_request_until_it_is_cleared() -> None:
    book = FaultBook()
    book.add(Rule(fault="500"))
    assert [names_of(book.draw(get())) for _ in range(3)] == ["500"] * 3
    book.clear()
    assert book.draw(get()) == ()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule(fault="500", operation="GetObject"), [1, 1, 0, 1, 1]),
        (Rule(fault="500", key="a"), [1, 0, 1, 0, 1]),
        (Rule(fault="500", prefix="b"), [0, 1, 0, 1, 0]),
        (Rule(fault="500", bucket="other"), [0, 0, 0, 0, 1]),
        (Rule(fault="500", query={"partNumber": "3"}), [0, 0, 0, 1, 0]),
        (Rule(fault="500", operation="GetObject", key="a", bucket="photos"), [1, 0, 0, 0, 0]),
    ],
)
def test_a_rule_is_for_the_requests_it_names(rule: Rule, expected: list[int]) -> None:
    calls = [
        get("a"),
        get("b"),
        get("a", operation="HeadObject"),
        get("bc", ("partNumber", "3")),
        get("a", bucket="other"),
    ]
    assert [bool(fault) for fault in struck(rule, calls)] == [bool(value) for value in expected]


def test_the_first_are_spared_and_then_so_many_are_struck() -> None:
    rule = Rule(fault="500", after=2, times=3)
    assert struck(rule, [get() for _ in range(8)]) == ["", "", "500", "500", "500", "", "", ""]


def test_counts_can_be_kept_for_each_object() -> None:
    rule = Rule(fault="500", after=1, times=1, per_key=True)
    assert struck(rule, [get(key) for key in "aababbab"]) == ["", "500", "", "", "500", "", "", ""]


def test_a_probability_strikes_that_often_and_the_same_ones_with_the_same_seed() -> None:
    calls = [get() for _ in range(2000)]
    first = struck(Rule(fault="500", probability=0.1, seed=7), calls)
    assert 140 < first.count("500") < 260
    assert struck(Rule(fault="500", probability=0.1, seed=7), calls) == first
    assert struck(Rule(fault="500", probability=0.1, seed=8), calls) != first


def test_rules_with_the_same_seed_strike_independently() -> None:
    book = FaultBook()
    for fault in ("500", "reset"):
        book.add(Rule(fault=fault, probability=0.5))
    names = {names_of(book.draw(get())) for _ in range(100)}
    assert names == {"", "500", "reset", "500+reset"}


def test_a_script_gives_each_request_its_own_fault() -> None:
    rule = Rule(operation="GetObject", script=["500", None, {"fault": "truncate", "at": 5}], after=1)
    calls = [get(), get(), get("x", operation="PutObject"), get(), get(), get()]
    assert struck(rule, calls) == ["", "500", "", "", "truncate", ""]


def test_a_rate_is_allowed_and_what_is_above_it_is_struck() -> None:
    clock = Clock()
    book = FaultBook(clock)
    book.add(Rule(fault="503", above_rate=10))
    assert [names_of(book.draw(get())) for _ in range(12)] == [""] * 10 + ["503"] * 2
    clock.now = 0.25
    assert [names_of(book.draw(get())) for _ in range(4)] == ["", "", "503", "503"]
    clock.now = 100
    assert [names_of(book.draw(get())) for _ in range(11)].count("") == 10


def test_all_rules_that_match_strike_together() -> None:
    book = FaultBook()
    book.add(Rule(fault="latency"))
    book.add(Rule(fault="500", times=1))
    assert [names_of(book.draw(get())) for _ in range(2)] == ["latency+500", "latency"]


def test_a_rule_without_a_fault_that_exists_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="no fault 'nonsense'"):
        FaultBook().add(Rule(fault="nonsense"))
    with pytest.raises(ValueError, match="no fault 'nonsense'"):
        FaultBook().add(Rule(script=["500", "nonsense"]))


@pytest.mark.parametrize("operation", ["GetObjects", "getobject", "GET", " GetObject"])
def test_an_operation_that_there_is_not_is_refused(operation: str) -> None:
    with pytest.raises(ValueError, match=f"no operation '{operation}'; there are .*GetObject, "):
        FaultBook().add(Rule(operation=operation))


@pytest.mark.parametrize("operation", ["", "GetObject", "ListObjectsV2", "CopyObject", "UploadPartCopy", "ListBuckets"])
def test_an_operation_that_there_is_is_taken(operation: str) -> None:
    FaultBook().add(Rule(fault="500", operation=operation))


def test_an_option_that_a_fault_needs_is_named() -> None:
    with pytest.raises(ValueError, match="fault 'redirect' needs the option 'location'"):
        FaultBook().add(Rule(fault="redirect"))


NEEDED: dict[str, dict[str, object]] = {
    "redirect": {"location": "https://x"},
    "headers": {"headers": {"x-oss-a": "b"}},
    "status": {"status": 202},
}


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_fault_can_be_made_without_options_and_applied(filled: Driver, name: str) -> None:
    fail(filled, name, "", **NEEDED.get(name, {}))
    filled("GET", "photos", "k")
    filled("PUT", "photos", "new", body=DATA)
    filled("GET", "photos", query=[("list-type", "2")])
    filled("DELETE", "photos", "missing")
    log = filled.frontend.recorder.snapshot().log
    assert [entry.fault for entry in log if entry.key != "k" or entry.operation != "PutObject"] == [name] * 4


@pytest.mark.parametrize("name", NEEDED)
def test_a_fault_that_can_have_no_default_is_refused_at_once_without_its_option(name: str) -> None:
    (option,) = NEEDED[name]
    with pytest.raises(ValueError, match=f"fault '{name}' needs the option '{option}'"):
        make_effect(name, {})


def test_a_fault_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"no fault 'rest'; there are 400, 403.*reset_body.* and OSS codes"):
        make_effect("rest", {})
    with pytest.raises(ValueError, match=r"fault 'stall' has no option \['second'\]; it has \['at', 'seconds'\]"):
        make_effect("stall", {"second": 1})
