"""What the faults of an exchange do: to the request, to OSS's work, or instead of the answer. There is no network."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from emulator.driver import CLOSE, DATA, RESET, Driver, fail, get, hangups, pauses, signed_head

from osstorchconnector.emulator.faults import Rule
from osstorchconnector.emulator.service import Service
from osstorchconnector.emulator.wire import FOREVER, Hangup, Pause
from osstorchconnector.protocol.checksum import crc64
from osstorchconnector.protocol.heads import parse_request_head


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("500", 500, "InternalError"),
        ("503", 503, "ServiceUnavailable"),
        ("slow_down", 503, "ServiceUnavailable"),
        ("429", 429, "QpsLimitExceeded"),
        ("404", 404, "NoSuchKey"),
        ("403", 403, "AccessDenied"),
        ("expired_token", 403, "SecurityTokenExpired"),
        ("skewed", 403, "RequestTimeTooSkewed"),
        ("400", 400, "RequestTimeout"),
        ("412", 412, "PreconditionFailed"),
        ("InvalidDigest", 400, "InvalidDigest"),
    ],
)
def test_an_error_takes_the_place_of_the_answer(filled: Driver, fault: str, status: int, code: str) -> None:
    fail(filled, fault)
    answer = get(filled)
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["x-oss-request-id"] in answer.texts("RequestId")


def test_an_error_can_be_made_to_measure(filled: Driver) -> None:
    fail(filled, "error", status=507, code="DiskFull", message="no room", headers={"x-oss-a": "b"})
    answer = get(filled)
    assert (answer.status, answer.code, answer.texts("Message")) == (507, "DiskFull", ["no room"])
    assert answer.headers["x-oss-a"] == "b"


def test_an_answer_can_be_anything(filled: Driver) -> None:
    fail(filled, "answer", status=299, headers={"X-A": "b"}, data=b"surprise")
    answer = get(filled)
    assert (answer.status, answer.headers["x-a"], answer.body) == (299, "b", b"surprise")


def test_an_answer_is_the_same_every_time(filled: Driver) -> None:
    fail(filled, "answer", data=b"surprise")
    filled.frontend.faults.add(Rule(fault="chunked", times=1))
    assert get(filled).headers["transfer-encoding"] == "chunked"
    assert get(filled).headers["content-length"] == "8"


def test_a_proxy_speaks_html(filled: Driver) -> None:
    fail(filled, "html")
    answer = get(filled)
    assert (answer.status, answer.headers["content-type"]) == (502, "text/html")
    assert not {"server", "x-oss-request-id"} & set(answer.headers)
    fail(filled, "html", "PutObject", status=200, after_work=True)
    assert filled("PUT", "photos", "new").status == 200
    assert filled("HEAD", "photos", "new").status == 200


def test_a_redirect_names_another_place(filled: Driver) -> None:
    fail(filled, "redirect", location="http://elsewhere.test/")
    answer = get(filled)
    assert (answer.status, answer.headers["location"]) == (307, "http://elsewhere.test/")


@pytest.mark.parametrize(("fault", "hangup"), [("reset", RESET), ("close", CLOSE)])
def test_the_connection_breaks_before_the_work_is_done(filled: Driver, fault: str, hangup: Hangup) -> None:
    fail(filled, fault, "DeleteObject")
    assert filled("DELETE", "photos", "k").steps == (hangup,)
    filled.frontend.faults.clear()
    assert get(filled).status == 200


@pytest.mark.parametrize(
    ("fault", "options", "hangup"),
    [("lost_answer", {}, RESET), ("reset", {"after_work": True}, RESET), ("close", {"after_work": True}, CLOSE)],
)
def test_the_connection_breaks_after_the_work_is_done(
    filled: Driver, fault: str, options: dict[str, object], hangup: Hangup
) -> None:
    fail(filled, fault, "DeleteObject", **options)
    assert filled("DELETE", "photos", "k").steps == (hangup,)
    filled.frontend.faults.clear()
    assert get(filled).status == 404


@pytest.mark.parametrize("fault", ["500", "answer"])
def test_an_error_can_lie_about_work_that_was_done(filled: Driver, fault: str) -> None:
    fail(filled, fault, "DeleteObject", after_work=True)
    filled("DELETE", "photos", "k")
    filled.frontend.faults.clear()
    assert get(filled).status == 404


def test_a_fault_leaves_nothing_of_an_upload_on_the_disk(filled: Driver, service: Service) -> None:
    fail(filled, "500", "PutObject")
    filled("PUT", "photos", "other", body=DATA)
    assert len(list((service.storage.root / "blobs").glob("*/*"))) == 1


def test_a_range_can_be_ignored(filled: Driver) -> None:
    fail(filled, "ignore_range")
    answer = get(filled, ("range", "bytes=0-9"))
    assert (answer.status, answer.body) == (200, DATA)


def test_an_object_can_be_replaced_behind_the_readers_back(filled: Driver) -> None:
    fail(filled, "replace")
    first = get(filled, ("range", "bytes=0-9"))
    filled.frontend.faults.clear()
    second = get(filled)
    assert first.body == DATA[:10]
    assert second.body == b"\x01" + DATA[1:]
    assert second.headers["etag"] != first.headers["etag"]
    assert second.headers["x-oss-hash-crc64ecma"] == str(crc64(b"\x01" + DATA[1:]))
    fail(filled, "replace", data=b"shorter")
    get(filled)
    filled.frontend.faults.clear()
    assert get(filled).body == b"shorter"


def test_an_object_that_is_not_there_can_be_put_there(filled: Driver) -> None:
    fail(filled, "replace", "DeleteObject")
    filled("DELETE", "photos", "k")
    filled.frontend.faults.clear()
    assert get(filled).body == b"replaced"


def test_an_object_can_be_deleted_while_it_is_being_sent(filled: Driver) -> None:
    fail(filled, "delete")
    assert get(filled).body == DATA
    assert get(filled).status == 404


@pytest.mark.parametrize(
    ("fault", "options", "stop"),
    [
        ("reset_upload", {"at": 1000}, RESET),
        ("stall_upload", {"at": 1000}, Pause(FOREVER)),
        ("stall_upload", {"seconds": 2.0}, Pause(2.0)),
    ],
)
def test_an_upload_can_be_interrupted(filled: Driver, fault: str, options: dict[str, object], stop: object) -> None:
    fail(filled, fault, "PutObject", **options)
    assert filled("PUT", "photos", "new", body=DATA).steps == (stop,)
    assert filled("GET", "photos", "new").status == 404


def test_an_interruption_comes_when_so_much_has_arrived_and_no_earlier(filled: Driver) -> None:
    fail(filled, "reset_upload", "PutObject", at=len(DATA) + 1)
    assert filled("PUT", "photos", "new", body=DATA).status == 200


def pauses_of_an_upload(send: Driver, pieces: int) -> Sequence[object]:
    head = signed_head(send, "PUT", "/photos/k", ("host", "127.0.0.1"), ("content-length", str(len(DATA))))
    parsed = parse_request_head(head, len(head))
    assert parsed is not None
    work = send.frontend.begin(parsed[0])
    size = len(DATA) // pieces
    wanted = [work.receive(memoryview(DATA)[number * size : (number + 1) * size]) for number in range(pieces)]
    assert len(list(work.answer())) == 1
    work.ended(0)
    return wanted


def test_a_stall_of_an_upload_comes_once_and_a_drip_after_every_piece(filled: Driver) -> None:
    fail(filled, "stall_upload", "PutObject", at=50_000, seconds=1.0)
    assert pauses_of_an_upload(filled, 4) == [None, Pause(1.0), None, None]
    fail(filled, "drip_upload", "PutObject", seconds=2.0)
    assert pauses_of_an_upload(filled, 4) == [Pause(2.0)] * 4


@pytest.mark.parametrize("at", [0, 777, len(DATA) - 1])
def test_a_byte_of_an_upload_can_arrive_wrong(filled: Driver, at: int) -> None:
    fail(filled, "flip_upload", "PutObject", at=at)
    answer = filled("PUT", "photos", "new", body=DATA)
    stored = filled("GET", "photos", "new").body
    assert [n for n in range(len(DATA)) if stored[n] != DATA[n]] == [at]
    assert answer.headers["x-oss-hash-crc64ecma"] == str(crc64(stored))
    assert filled("GET", "photos", "k").body == DATA


def test_several_faults_strike_together(filled: Driver) -> None:
    for fault in ("latency", "wrong_crc", "truncate"):
        filled.frontend.faults.add(Rule(fault=fault))
    answer = get(filled)
    assert pauses(answer) == [0.1]
    assert hangups(answer) == [CLOSE]
    assert filled.frontend.recorder.snapshot().log[-1].fault == "latency+wrong_crc+truncate"
