from __future__ import annotations

import pytest
from emulator.driver import Answer, Driver

from osstorchconnector.emulator.documents import document, element
from osstorchconnector.emulator.service import Policy, Service

RESTORE = [("restore", "")]
DAY_SECONDS = 24 * 60 * 60


def refused(answer: Answer, status: int, code: str) -> bool:
    return (answer.status, answer.code) == (status, code)


def days(number: object) -> bytes:
    return document("RestoreRequest", element("Days", str(number)))


@pytest.fixture
def cold(send: Driver, service: Service) -> Driver:
    """A service that takes a minute to restore, with an archived object."""
    service.policy = Policy(restore_seconds=60)
    send("PUT", "photos", "k", body=b"cold", headers=[("x-oss-storage-class", "Archive")])
    return send


def status_of(send: Driver) -> str:
    return send("HEAD", "photos", "k").headers.get("x-oss-restore", "")


@pytest.mark.parametrize("storage_class", ["Archive", "ColdArchive", "DeepColdArchive"])
def test_an_archived_object_is_restored_for_some_days(send: Driver, service: Service, storage_class: str) -> None:
    service.policy = Policy(restore_seconds=60)
    send("PUT", "photos", "k", body=b"cold", headers=[("x-oss-storage-class", storage_class)])
    assert refused(send("GET", "photos", "k"), 403, "InvalidObjectState")
    assert status_of(send) == ""
    assert send("POST", "photos", "k", RESTORE, body=days(2)).status == 202
    assert status_of(send) == 'ongoing-request="true"'
    assert refused(send("GET", "photos", "k"), 403, "InvalidObjectState")
    service.clock_offset_seconds = 62
    assert status_of(send).startswith('ongoing-request="false", expiry-date="')
    assert send("GET", "photos", "k").body == b"cold"
    service.clock_offset_seconds = 2 * DAY_SECONDS + 62
    assert status_of(send) == ""
    assert refused(send("GET", "photos", "k"), 403, "InvalidObjectState")


def test_a_restore_under_way_is_not_begun_again_and_one_that_is_done_is_prolonged(
    cold: Driver, service: Service
) -> None:
    cold("POST", "photos", "k", RESTORE)
    assert refused(cold("POST", "photos", "k", RESTORE), 409, "RestoreAlreadyInProgress")
    service.clock_offset_seconds = 62
    first = status_of(cold)
    assert cold("POST", "photos", "k", RESTORE, body=days(3)).status == 200
    assert status_of(cold) != first
    service.clock_offset_seconds = 2 * DAY_SECONDS
    assert cold("GET", "photos", "k").body == b"cold"


def test_a_restored_object_is_copied_and_listed_as_restored(cold: Driver, service: Service) -> None:
    copy = [("x-oss-copy-source", "/photos/k")]
    assert refused(cold("PUT", "photos", "copy", headers=copy), 403, "InvalidObjectState")
    cold("POST", "photos", "k", RESTORE)
    page = cold("GET", "photos", query=[("list-type", "2")])
    assert page.texts("Contents/RestoreInfo") == ['ongoing-request="true"']
    service.clock_offset_seconds = 62
    assert cold("PUT", "photos", "copy", headers=copy).status == 200
    assert cold("GET", "photos", "copy").body == b"cold"
    assert cold("HEAD", "photos", "copy").headers["x-oss-storage-class"] == "Standard"


def test_a_new_object_under_the_key_is_not_restored(cold: Driver, service: Service) -> None:
    cold("POST", "photos", "k", RESTORE)
    service.clock_offset_seconds = 62
    cold("PUT", "photos", "k", body=b"new", headers=[("x-oss-storage-class", "Archive")])
    assert refused(cold("GET", "photos", "k"), 403, "InvalidObjectState")


@pytest.mark.parametrize("storage_class", ["Standard", "IA"])
def test_what_is_not_archived_is_not_restored(send: Driver, storage_class: str) -> None:
    send("PUT", "photos", "k", headers=[("x-oss-storage-class", storage_class)])
    assert refused(send("POST", "photos", "k", RESTORE), 400, "OperationNotSupported")


@pytest.mark.parametrize(
    "body",
    [
        b"no xml",
        days(0),
        days(8),
        days("x"),
        document("RestoreRequest", element("OutputLocation", "")),
        document("RestoreRequest", element("Tier", "Bulk")),
    ],
)
def test_a_restore_that_asks_for_what_there_is_not_is_refused(cold: Driver, body: bytes) -> None:
    assert refused(cold("POST", "photos", "k", RESTORE, body=body), 400, "MalformedXML")
    assert status_of(cold) == ""


def test_a_restore_may_take_no_time(send: Driver, service: Service) -> None:
    service.policy = Policy(restore_seconds=0)
    send("PUT", "photos", "k", body=b"cold", headers=[("x-oss-storage-class", "ColdArchive")])
    parameters = element("JobParameters", element("Tier", "Expedited"))
    body = document("RestoreRequest", element("Days", "1"), parameters)
    assert send("POST", "photos", "k", RESTORE, body=body).status == 202
    assert send("GET", "photos", "k").body == b"cold"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("", "Standard"),
        (element("Tier", "Bulk"), "Bulk"),
        (element("JobParameters", element("Tier", "Expedited")), "Expedited"),
    ],
)
def test_a_restore_of_what_is_very_cold_tells_its_priority(send: Driver, wanted: str, told: str) -> None:
    send("PUT", "photos", "k", headers=[("x-oss-storage-class", "ColdArchive")])
    answer = send("POST", "photos", "k", RESTORE, body=document("RestoreRequest", element("Days", "1"), wanted))
    assert answer.headers["x-oss-object-restore-priority"] == told


def test_a_tier_that_there_is_not_is_refused(send: Driver) -> None:
    send("PUT", "photos", "k", headers=[("x-oss-storage-class", "ColdArchive")])
    body = document("RestoreRequest", element("JobParameters", element("Tier", "wrong-tier")))
    assert refused(send("POST", "photos", "k", RESTORE, body=body), 400, "InvalidArgument")
