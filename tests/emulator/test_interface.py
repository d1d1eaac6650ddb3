"""What this server takes: no query name that it does not know makes a request a plain one."""

from __future__ import annotations

import string

import pytest
from emulator.driver import Answer, Driver
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from osstorchconnector.emulator import operations
from osstorchconnector.emulator.interface import MISSING, OPERATIONS, ROUTES
from osstorchconnector.emulator.storage import Bucket
from osstorchconnector.protocol.signing import SIGNED_PARAMETERS_V1

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")
PLACES = (("", ""), ("photos", ""), ("photos", "k"), ("empty-one", ""))
TAKEN = frozenset(name for routes in ROUTES.values() for route in routes for name in route.names)
LACKING = sorted(name for names in MISSING.values() for name in names.split())
WORDS = st.text(string.ascii_letters + string.digits + "-.", min_size=1, max_size=20)


@pytest.fixture
def filled(send: Driver) -> Driver:
    """A service with an object, an unfinished upload and an empty bucket."""
    send("PUT", "photos", "k", body=b"what was there", headers=[("x-oss-meta-a", "b")])
    send("POST", "photos", "pending", [("uploads", "")])
    send("PUT", "empty-one")
    return send


def everything(send: Driver) -> dict[str, list[object]]:
    """Return all that is stored."""

    def of(bucket: Bucket) -> list[object]:
        return [bucket.acl, dict(bucket.objects), dict(bucket.uploads)]

    return {name: of(bucket) for name, bucket in send.frontend.service.storage.buckets.items()}


def is_refused_by_name(answer: Answer, method: str, name: str) -> bool:
    return answer.status == 501 and (method == "HEAD" or answer.texts("ArgumentName") == [name])


def test_each_operation_is_there_and_has_a_way_to_it() -> None:
    assert set(operations.OPERATIONS) == OPERATIONS


def test_what_is_said_to_be_missing_is_not_taken_by_any_operation() -> None:
    assert not TAKEN & set(LACKING)
    assert len(LACKING) == len(set(LACKING))


def test_every_sub_resource_that_oss_signs_is_either_taken_or_said_to_be_missing() -> None:
    assert set(LACKING) | TAKEN >= SIGNED_PARAMETERS_V1


@pytest.mark.parametrize("name", LACKING)
def test_a_sub_resource_that_is_missing_is_refused_by_name_and_changes_nothing(filled: Driver, name: str) -> None:
    before = everything(filled)
    for method in METHODS:
        for bucket, key in PLACES:
            for value in ("", "1"):
                answer = filled(method, bucket, key, [(name, value)])
                assert is_refused_by_name(answer, method, name), (method, bucket, key, value)
    assert everything(filled) == before


@pytest.mark.parametrize(
    ("method", "bucket", "key", "name"),
    [
        ("DELETE", "photos", "k", "legalHold"),
        ("DELETE", "empty-one", "", "overwriteConfig"),
        ("GET", "", "", "regions"),
        ("PUT", "photos", "k", "partNumber"),
        ("DELETE", "empty-one", "", "acl"),
        ("DELETE", "photos", "k", "uploads"),
    ],
)
def test_a_sub_resource_of_another_operation_is_refused_too(
    filled: Driver, method: str, bucket: str, key: str, name: str
) -> None:
    before = everything(filled)
    assert is_refused_by_name(filled(method, bucket, key, [(name, "")]), method, name)
    assert everything(filled) == before


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(
    name=WORDS.filter(lambda name: name not in TAKEN), place=st.sampled_from(PLACES), method=st.sampled_from(METHODS)
)
def test_no_name_that_nobody_knows_makes_a_plain_operation(
    filled: Driver, name: str, place: tuple[str, str], method: str
) -> None:
    before = everything(filled)
    for query in ([(name, "")], [("prefix", "a"), (name, "")], [(name, ""), ("x-oss-request-payer", "requester")]):
        answer = filled(method, *place, query)
        assert answer.status == 501, query
    answer = filled(method, *place, [(name, "value")])
    is_read = method in ("GET", "HEAD") and place[1] != "" and not name.startswith("x-oss-") and name not in LACKING
    assert answer.status == (200 if is_read else 501)
    assert everything(filled) == before


@pytest.mark.parametrize("more", [[], [("acl", "")], [("legalHold", "1")], [("foo", "1")]])
@pytest.mark.parametrize(
    ("method", "bucket", "key"), [("PUT", "photos", "k"), ("DELETE", "photos", "k"), ("DELETE", "empty-one", "")]
)
def test_an_empty_name_makes_no_plain_operation(
    filled: Driver, method: str, bucket: str, key: str, more: list[tuple[str, str]]
) -> None:
    before = everything(filled)
    assert filled(method, bucket, key, [("", "1"), *more]).status == 501
    assert everything(filled) == before


def test_two_operations_at_once_are_none(filled: Driver) -> None:
    before = everything(filled)
    assert filled("POST", "photos", "k", [("append", ""), ("position", "0"), ("uploads", "")]).status == 501
    assert filled("DELETE", "photos", "k", [("uploadId", "1"), ("legalHold", "")]).status == 501
    assert everything(filled) == before


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_parameter_against_caches_is_passed_over_when_an_object_is_read(filled: Driver, method: str) -> None:
    assert filled(method, "photos", "k", [("v", "3"), ("_t", "1700000000")]).status == 200
