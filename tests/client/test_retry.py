"""What is sent again, when, and what is mended before."""

from __future__ import annotations

import math
import re
from itertools import cycle
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.client import retry
from osstorchconnector.client.retry import (
    FailedTry,
    RetryDecision,
    RetryPolicy,
    backoff_seconds,
    decide,
    is_charged,
    is_passing,
    is_throttling,
)
from osstorchconnector.client.transport.base import FailureKind
from osstorchconnector.testing import ScriptedFailure

POLICY = RetryPolicy(max_attempts=5, base_delay_seconds=0.2, max_delay_seconds=10.0)
NOW = 1_741_964_966.0


def service(status: int, code: str = "", **more: Any) -> FailedTry:
    return FailedTry(kind="service", status=status, code=code, **more)


def after(failure: FailedTry, **changes: Any) -> RetryDecision:
    """Return the decision after a first try, early in a long operation, with the dice at one half."""
    given: dict[str, Any] = {
        "attempt": 1,
        "elapsed_seconds": 0.1,
        "deadline_seconds": 120.0,
        "now": NOW,
        "random": 0.5,
    }
    return decide(POLICY, failure, **(given | changes))


# Section "Errors" of the protocol's description, line by line.
NEVER = [
    (304, "NotModified"),
    (412, "PreconditionFailed"),
    *((400, code) for code in ("InvalidArgument", "InvalidObjectName", "InvalidBucketName", "MalformedXML")),
    *((400, code) for code in ("InvalidPart", "InvalidPartOrder", "EntityTooSmall", "EntityTooLarge")),
    *((400, code) for code in ("MissingArgument", "FilePartNotExist", "FilePartStale", "FilePartInterity")),
    *((403, code) for code in ("AccessDenied", "InvalidObjectState", "")),
    *((404, code) for code in ("NoSuchKey", "NoSuchBucket", "NoSuchUpload", "SymlinkTargetNotExist", "")),
    (405, "MethodNotAllowed"),
    (411, "MissingContentLength"),
    *((409, code) for code in ("FileAlreadyExists", "PositionNotEqualToLength", "ObjectNotAppendable")),
    *((409, code) for code in ("FileImmutable", "BucketNotEmpty", "OperationAborted")),
    (416, "InvalidRange"),
    (301, "PermanentRedirect"),
    (501, "NotImplemented"),
    (505, "HttpVersionNotSupported"),
]
BACK_OFF = [
    (400, "RequestTimeout"),
    (400, "BadRequest"),
    (400, ""),
    (401, ""),
    (408, ""),
    (429, "QpsLimitExceeded"),
    (500, "InternalError"),
    (502, ""),
    (504, ""),
    *((503, code) for code in ("ServiceUnavailable", "DownloadTrafficRateLimitExceeded", "SlowDown", "")),
    *((503, code) for code in ("UploadTrafficRateLimitExceeded", "TotalQpsLimitExceeded", "PartitionQpsLimitted")),
    *((503, code) for code in ("MetaOperationQpsLimitExceeded", "ActiveRequestLimitExceeded", "CpuLimitExceeded")),
]
EXPIRED = [
    (403, "SecurityTokenExpired"),
    (403, "InvalidSecurityToken"),
    (403, "AccessKeyIdAndSecurityTokenNotMatch"),
]


@pytest.mark.parametrize(("status", "code"), NEVER)
def test_what_no_repeat_can_help_is_given_up_at_once(status: int, code: str) -> None:
    decision = after(service(status, code))
    assert (decision.retry, decision.reason) == (False, "")
    assert not decision.refresh_credentials


@pytest.mark.parametrize(("status", "code"), BACK_OFF)
def test_what_passes_is_sent_again_after_a_while(status: int, code: str) -> None:
    assert after(service(status, code)) == RetryDecision(True, delay_seconds=0.1)


@pytest.mark.parametrize("kind", ["connect", "connect_timeout", "reset", "timeout", "protocol", "integrity"])
def test_what_broke_on_the_way_is_sent_again_after_a_while(kind: Any) -> None:
    assert after(FailedTry(kind=kind)) == RetryDecision(True, delay_seconds=0.1)


def test_what_must_be_set_right_by_hand_is_given_up_at_once() -> None:
    assert not after(FailedTry(kind="setup")).retry
    assert not is_passing(FailedTry(kind="setup"))


@pytest.mark.parametrize(("status", "code"), EXPIRED)
def test_credentials_that_expired_are_fetched_anew_once(status: int, code: str) -> None:
    first = after(service(status, code))
    assert first == RetryDecision(True, remedy="refresh_credentials")
    assert first.refresh_credentials
    assert not first.needs_newer_credentials
    assert not after(service(status, code), attempt=2, used={first.remedy}).retry


def test_a_clock_that_is_wrong_is_corrected_once() -> None:
    failure = service(403, "RequestTimeTooSkewed", server_date=NOW + 3600)
    first = after(failure)
    assert first == RetryDecision(True, remedy="correct_clock", clock_offset_seconds=3600.0)
    assert not after(failure, attempt=2, used={first.remedy}).retry


def test_a_clock_can_not_be_corrected_without_the_servers() -> None:
    assert not after(service(403, "RequestTimeTooSkewed")).retry


def test_bytes_that_were_damaged_on_the_way_up_are_sent_once_more() -> None:
    first = after(service(400, "InvalidDigest"))
    assert first == RetryDecision(True, remedy="resend")
    assert not after(service(400, "InvalidDigest"), attempt=2, used={"resend"}).retry


def test_remedies_do_not_use_each_other_up() -> None:
    used = {"reconnect", "refresh_credentials"}
    skewed = service(403, "RequestTimeTooSkewed", server_date=NOW)
    assert after(skewed, attempt=3, used=used).remedy == "correct_clock"
    assert after(service(503), attempt=3, used=used).retry
    # A caller may note the empty remedy of a plain repeat.
    assert after(service(503), attempt=3, used={""}).retry
    assert not after(service(404), attempt=3, used={""}).retry


@pytest.mark.parametrize("kind", ["reset", "timeout"])
def test_a_connection_that_died_while_it_was_idle_costs_no_attempt_and_no_time(kind: Any) -> None:
    stale = FailedTry(kind=kind, reused_connection=True)
    first = after(stale, attempt=5)
    assert first == RetryDecision(True, remedy="reconnect", counts=False)
    # The next connection is a new one: what breaks now counts.
    assert after(stale, attempt=1, used={"reconnect"}) == RetryDecision(True, delay_seconds=0.1)
    assert not after(stale, attempt=5, used={"reconnect"}).retry


@pytest.mark.parametrize("kind", ["reset", "timeout", "connect", "protocol", "integrity"])
def test_what_failed_while_the_process_did_not_run_is_no_failure(kind: Any) -> None:
    failure = FailedTry(kind=kind, was_stopped=True)
    assert after(failure, attempt=5, used={"reconnect"}) == RetryDecision(True, remedy="reconnect", counts=False)
    assert not is_charged(failure)
    assert not after(failure, elapsed_seconds=120.0).retry, "the time in which it ran is used up all the same"


def test_a_stop_changes_nothing_about_what_no_repeat_can_help() -> None:
    assert not after(service(404, was_stopped=True)).retry
    assert not after(FailedTry(kind="setup", was_stopped=True)).retry


def test_credentials_that_expired_during_a_stop_are_fetched_anew_and_the_clock_is_not_set_by_an_old_answer() -> None:
    expired = after(service(403, "SecurityTokenExpired", was_stopped=True), attempt=5)
    assert (expired.remedy, expired.counts) == ("refresh_credentials", False)
    skewed = after(service(403, "RequestTimeTooSkewed", server_date=NOW - 3600, was_stopped=True), attempt=5)
    assert skewed == RetryDecision(True, remedy="reconnect", counts=False)


def test_attempts_are_limited() -> None:
    assert after(service(500), attempt=4).retry
    last = after(service(500), attempt=5)
    assert (last.retry, last.reason) == (False, "")
    assert not after(service(403, "SecurityTokenExpired"), attempt=5).retry


def test_the_time_allowed_is_kept() -> None:
    assert after(service(500), elapsed_seconds=119.89).retry
    for late in (119.9, 119.95, 120.0, 500.0):
        decision = after(service(500), elapsed_seconds=late)
        assert not decision.retry
        assert "the time allowed, 120 s" in decision.reason
    assert not after(FailedTry(kind="reset", reused_connection=True), elapsed_seconds=120.0).retry
    assert not after(service(403, "SecurityTokenExpired"), elapsed_seconds=120.0).retry


def test_what_can_not_be_helped_is_no_question_of_time() -> None:
    for late in (119.95, 500.0):
        assert after(service(404), elapsed_seconds=late).reason == ""


@pytest.mark.parametrize(
    ("attempt", "ceiling"), [(1, 0.2), (2, 0.4), (3, 0.8), (6, 6.4), (7, 10.0), (8, 10.0), (100_000, 10.0)]
)
def test_the_wait_doubles_up_to_a_limit(attempt: int, ceiling: float) -> None:
    for random in (0.0, 0.25, 1.0):
        waited = backoff_seconds(POLICY, service(500), attempt=attempt, random=random)
        assert waited == pytest.approx(ceiling * random)


def test_a_server_that_names_a_wait_gets_it_within_the_limit() -> None:
    assert after(service(503, retry_after_seconds=3.0)).delay_seconds == 3.0
    assert after(service(503, retry_after_seconds=0.01)).delay_seconds == pytest.approx(0.1)
    assert after(service(503, retry_after_seconds=3600.0)).delay_seconds == 10.0


failures = st.builds(
    FailedTry,
    kind=st.sampled_from(
        ["setup", "connect", "connect_timeout", "reset", "timeout", "protocol", "integrity", "service"]
    ),
    status=st.sampled_from([0, 301, 304, 400, 401, 403, 404, 408, 409, 412, 416, 429, 500, 501, 503, 599]),
    code=st.sampled_from(
        ["", "InternalError", "RequestTimeTooSkewed", "InvalidDigest", "RequestTimeout", EXPIRED[0][1]]
    ),
    reused_connection=st.booleans(),
    server_date=st.none() | st.floats(0, 4e9),
    retry_after_seconds=st.floats(0, 1e6),
)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 20),
    base_delay_seconds=st.floats(0, 5),
    max_delay_seconds=st.floats(0, 60),
)


@given(policies, st.lists(failures, min_size=1, max_size=4), st.floats(0.1, 300), st.lists(st.floats(0, 1), min_size=1))
def test_every_operation_ends_within_its_attempts_and_its_time(
    policy: RetryPolicy, met: list[FailedTry], deadline: float, dice: list[float]
) -> None:
    elapsed, counted, used = 0.0, 0, set[str]()
    for failure, random in zip(cycle(met), cycle(dice), strict=False):
        counted += 1
        decision = decide(
            policy,
            failure,
            attempt=counted,
            elapsed_seconds=elapsed,
            deadline_seconds=deadline,
            now=NOW,
            random=random,
            used=used,
        )
        assert not (decision.reason and decision.retry)
        if not decision.retry:
            break
        assert 0 <= decision.delay_seconds <= policy.max_delay_seconds
        assert (decision.clock_offset_seconds is None) == (decision.remedy != "correct_clock")
        assert decision.remedy not in used or not decision.remedy
        used.add(decision.remedy)
        counted -= not decision.counts
        elapsed += decision.delay_seconds
        assert elapsed < deadline
        assert counted < policy.max_attempts


@pytest.mark.parametrize(
    "failure", [FailedTry(kind="protocol"), FailedTry(kind="integrity"), service(400, "")], ids=str
)
def test_what_is_wrong_by_chance_or_for_good_is_tried_five_times_whatever_else_failed(failure: FailedTry) -> None:
    policy = RetryPolicy(max_attempts=20)
    decisions = [
        decide(policy, failure, attempt=9 + n, doubtful=n, elapsed_seconds=0, deadline_seconds=120, now=NOW, random=0.5)
        for n in range(5)
    ]
    assert [decision.retry for decision in decisions] == [True] * 4 + [False]


@given(st.randoms(use_true_random=False))
def test_a_server_that_is_gone_for_20_seconds_is_waited_for(dice: Any) -> None:
    policy, waited = RetryPolicy(), 0.0
    for attempt in range(1, policy.max_attempts):
        failure = FailedTry(kind="connect")
        waited += backoff_seconds(policy, failure, attempt=attempt, random=dice.uniform(0.15, 1.0))
    assert waited > 20


@pytest.mark.parametrize(
    ("failure", "throttles", "charged"),
    [
        (service(503), True, True),
        (service(429), True, True),
        (service(500), False, True),
        (FailedTry(kind="connect"), False, False),
        (FailedTry(kind="connect_timeout"), False, False),
        (FailedTry(kind="reset"), False, True),
        (FailedTry(kind="reset", reused_connection=True), False, False),
    ],
)
def test_what_slows_requests_down_and_what_is_charged(failure: FailedTry, throttles: bool, charged: bool) -> None:
    assert (is_throttling(failure), is_charged(failure)) == (throttles, charged)


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_keys_that_are_refused_are_replaced_once_if_there_are_others(code: str) -> None:
    first = after(service(403, code))
    assert (first.retry, first.refresh_credentials, first.needs_newer_credentials) == (True, True, True)
    assert not after(service(403, code), attempt=2, used={first.remedy}).retry


@pytest.mark.parametrize("kind", ["connect", "connect_timeout"])
def test_where_nothing_ever_answered_it_is_given_up_within_3_seconds_with_a_hint(kind: Any) -> None:
    failure = FailedTry(kind=kind)
    assert after(failure, elapsed_seconds=2.5, is_reached=False).retry
    late = after(failure, elapsed_seconds=2.95, is_reached=False)
    later = after(failure, elapsed_seconds=3.0, is_reached=False)
    often = after(failure, attempt=5, is_reached=False)
    for decision in (late, later, often):
        assert not decision.retry
        assert "nothing has ever answered there: check endpoint=" in decision.reason
    assert after(failure, elapsed_seconds=50.0, is_reached=True).retry


@given(st.lists(st.floats(0, 1), min_size=20, max_size=20))
def test_where_nothing_ever_answered_it_is_tried_four_times_at_least_in_3_seconds_at_most(dice: list[float]) -> None:
    elapsed = attempts = 0.0
    for random in dice:
        attempts += 1
        decision = decide(
            RetryPolicy(),
            FailedTry(kind="connect"),
            attempt=int(attempts),
            elapsed_seconds=elapsed,
            deadline_seconds=120.0,
            now=NOW,
            random=random,
            is_reached=False,
        )
        if not decision.retry:
            break
        elapsed += decision.delay_seconds
    assert attempts >= 4
    assert elapsed < 3.0


def test_who_wants_a_number_of_attempts_gets_it_where_nothing_ever_answered() -> None:
    policy = RetryPolicy(max_attempts=20, unreached_seconds=math.inf)
    given: dict[str, Any] = {"deadline_seconds": 120.0, "now": NOW, "random": 0.5, "is_reached": False}
    failure = FailedTry(kind="connect")
    assert decide(policy, failure, attempt=19, elapsed_seconds=60.0, **given).retry
    assert not decide(policy, failure, attempt=20, elapsed_seconds=60.0, **given).retry
    assert not decide(policy, failure, attempt=2, elapsed_seconds=120.0, **given).retry


def test_a_server_that_accepts_and_then_breaks_is_one_that_is_reached() -> None:
    for kind in ("reset", "timeout", "protocol", "service"):
        failure = FailedTry(kind=kind, status=503 if kind == "service" else 0)  # type: ignore[arg-type]
        assert after(failure, elapsed_seconds=50.0, is_reached=False).retry


# What docs/reliability.md says of a remedy in the table "What is sent again".
REMEDY_TEXTS = {
    "refresh_credentials": "the credentials are read again, and the request is sent once more",
    "newer_credentials": "the credentials are read again; if they are others now, the request is sent once more",
    "correct_clock": "sent once more with the server's clock",
    "resend": "sent once more as it is",
}


def documented() -> list[tuple[str, str]]:
    """Return the rows of the table "What is sent again"."""
    text = (Path(__file__).parents[2] / "docs" / "reliability.md").read_text(encoding="utf-8")
    table = text.partition("## What is sent again\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| (.*) \| (.*) \|$", table, re.MULTILINE)[1:]


def test_the_page_on_reliability_names_each_remedy_and_its_codes() -> None:
    remedies = {
        code: remedy
        for answer, done in documented()
        for remedy, text in REMEDY_TEXTS.items()
        if done == text
        for code in re.findall(r"`([A-Z]\w+)`", answer)
    }
    assert remedies == retry._REMEDIES


def test_the_page_on_reliability_names_what_is_sent_again_after_a_delay() -> None:
    (first, _), *_ = documented()
    row = re.fullmatch(
        r"status ([\d, ]+), (\d+) and above \(but not (\d+) and (\d+)\); 400 with `(\w+)` or `(\w+)`", first
    )
    assert row is not None
    listed, least, *final = (row[1], int(row[2]), int(row[3]), int(row[4]))
    passing = {*map(int, listed.split(", ")), *range(least, 600)} - {*final}
    assert {status for status in range(300, 600) if status != 400 and is_passing(service(status))} == passing
    assert {row[5], row[6]} == retry._PASSING_CODES
    assert f"an operation fails at its {retry._MAX_DOUBTFUL_ANSWERS}th answer of this kind" in "".join(
        done for _, done in documented()
    )


def test_transports_and_scripts_fail_in_the_ways_that_there_are() -> None:
    on_the_way = {*get_args(FailureKind)}
    assert on_the_way == {*get_args(retry.Kind)} - {"integrity", "service"}  # those are about answers that came whole
    assert {*get_args(get_type_hints(ScriptedFailure)["kind"])} == on_the_way
    page = (Path(__file__).parents[2] / "docs" / "emulator.md").read_text(encoding="utf-8")
    (row,) = re.findall(r"^\| `ScriptedFailure\(.*$", page, re.MULTILINE)
    assert {*re.findall(r'`"(\w+)"`', row)} == on_the_way
