"""What each fault does to an answer, step by step, without a network."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from emulator.driver import MOST_STEPS, Answer, Driver, hangups, pauses, signed_head

from osstorchconnector.emulator.effects import CATALOGUE, make_effect
from osstorchconnector.emulator.faults import Rule
from osstorchconnector.emulator.service import Service
from osstorchconnector.emulator.wire import FOREVER, Hangup, Pause
from osstorchconnector.protocol.checksum import crc64
from osstorchconnector.protocol.heads import parse_request_head

DATA = bytes(range(256)) * 500  # 128000 bytes: large enough to be sent as a file
RESET, CLOSE = Hangup(with_reset=True), Hangup(with_reset=False)


@pytest.fixture
def filled(send: Driver) -> Driver:
    send("PUT", "photos", "k", body=DATA)
    return send


def fail(send: Driver, fault: str, operation: str = "GetObject", **options: object) -> None:
    send.frontend.faults.clear()
    send.frontend.faults.add(Rule(fault=fault, operation=operation, options=options))


def get(send: Driver, *headers: tuple[str, str]) -> Answer:
    return send("GET", "photos", "k", headers=headers)


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


def test_a_status_can_be_another_than_what_was_done(filled: Driver) -> None:
    fail(filled, "status", status=203)
    assert (get(filled).status, get(filled).body) == (203, DATA)
    fail(filled, "status", status=204)
    assert (get(filled).status, get(filled).body) == (204, b"")


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


def test_a_crc_can_be_wrong(filled: Driver) -> None:
    fail(filled, "wrong_crc")
    answer = get(filled)
    assert (answer.body, answer.headers["x-oss-hash-crc64ecma"]) == (DATA, str(crc64(DATA) ^ 1))


def test_headers_can_be_set_and_dropped(filled: Driver) -> None:
    fail(filled, "headers", headers={"ETag": '"OTHER"', "x-oss-hash-crc64ecma": None})
    answer = get(filled)
    assert answer.headers["etag"] == '"OTHER"'
    assert "x-oss-hash-crc64ecma" not in answer.headers


def listed(send: Driver, *query: tuple[str, str]) -> Answer:
    return send("GET", "photos", query=[("list-type", "2"), ("max-keys", "1"), *query])


def test_a_document_can_break_off_or_be_another(filled: Driver) -> None:
    whole = listed(filled).body
    fail(filled, "malformed_xml", "ListObjectsV2")
    answer = listed(filled)
    assert answer.body == whole[: len(whole) // 2]
    assert answer.headers["content-length"] == str(len(answer.body))
    fail(filled, "malformed_xml", "ListObjectsV2", data=b"<bomb/>")
    assert listed(filled).body == b"<bomb/>"
    fail(filled, "malformed_xml")
    assert get(filled).body == DATA


def test_a_listing_can_give_a_page_again_or_never_end(filled: Driver) -> None:
    filled("PUT", "photos", "l")
    token = listed(filled).xml.findtext("NextContinuationToken", "")
    fail(filled, "duplicate_page", "ListObjectsV2")
    again = listed(filled, ("continuation-token", token))
    assert again.texts("Contents/Key") == ["k"]
    assert again.texts("NextContinuationToken") == [token]
    fail(filled, "repeat_token", "ListObjectsV2")
    last = listed(filled, ("continuation-token", token))
    assert last.texts("Contents/Key") == ["l"]
    assert [last.xml.findtext(tag) for tag in ("IsTruncated", "NextContinuationToken")] == ["true", token]
    assert listed(filled).texts("NextContinuationToken") == ["-"]
    fail(filled, "repeat_token")
    assert get(filled).body == DATA


def test_a_listing_can_be_of_more_than_its_prefix(filled: Driver) -> None:
    filled("PUT", "photos", "other/l")
    assert listed(filled, ("prefix", "other/")).texts("Contents/Key") == ["other/l"]
    fail(filled, "foreign_keys", "ListObjectsV2")
    page = listed(filled, ("prefix", "other/"))
    assert page.texts("Contents/Key") == ["k"]
    assert page.texts("Prefix") == []


def test_an_answer_can_come_late_or_never(filled: Driver) -> None:
    fail(filled, "latency", seconds=0.5)
    late = get(filled)
    assert (late.steps[0], late.body) == (Pause(0.5), DATA)
    fail(filled, "stall_head")
    assert get(filled).steps[0] == Pause(FOREVER)
    filled.frontend.faults.add(Rule(fault="endless_head"))
    assert get(filled).steps[0] == Pause(FOREVER)


@pytest.mark.parametrize("at", [None, 0, 1, 1000, len(DATA)])
@pytest.mark.parametrize(("fault", "hangup"), [("reset_body", RESET), ("truncate", CLOSE)])
def test_a_body_can_break_off(filled: Driver, fault: str, hangup: Hangup, at: int | None) -> None:
    fail(filled, fault, at=at)
    answer = get(filled)
    assert answer.headers["content-length"] == str(len(DATA))
    assert answer.body == DATA[: len(DATA) // 2 if at is None else at]
    assert answer.steps[-1] == hangup


def test_a_body_can_stop_and_go_on(filled: Driver) -> None:
    fail(filled, "stall", at=1000, seconds=2.0)
    answer = get(filled)
    assert answer.body == DATA
    assert [len(step) if isinstance(step, bytes) else step for step in answer.steps[1:]] == [1000, Pause(2), 127000]
    fail(filled, "stall")
    assert pauses(get(filled)) == [FOREVER]


def test_a_body_can_drip(filled: Driver) -> None:
    fail(filled, "drip", piece_bytes=50_000, seconds=0.25)
    answer = get(filled)
    assert answer.body == DATA
    assert pauses(answer) == [0.25] * 3


@pytest.mark.parametrize("at", [None, 0, 5, len(DATA) - 1])
@pytest.mark.parametrize("key", ["k", "small"])
def test_a_byte_can_be_flipped(filled: Driver, at: int | None, key: str) -> None:
    filled("PUT", "photos", "small", body=DATA[:100])
    data = DATA if key == "k" else DATA[:100]
    at = min(at, len(data) - 1) if at is not None else None
    fail(filled, "flip", at=at)
    answer = filled("GET", "photos", key)
    position = len(data) // 2 if at is None else at
    assert len(answer.body) == len(data)
    assert [n for n in range(len(data)) if answer.body[n] != data[n]] == [position]
    assert answer.headers["x-oss-hash-crc64ecma"] == str(crc64(data))


def test_an_empty_body_has_no_byte_to_flip(filled: Driver) -> None:
    filled("PUT", "photos", "empty")
    fail(filled, "flip")
    assert filled("GET", "photos", "empty").body == b""


def test_a_body_can_come_in_chunks(filled: Driver) -> None:
    fail(filled, "chunked", chunk_bytes=100_000)
    answer = get(filled)
    assert answer.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in answer.headers
    assert answer.body == b"186a0\r\n" + DATA[:100_000] + b"\r\n6d60\r\n" + DATA[100_000:] + b"\r\n0\r\n\r\n"
    head = filled("HEAD", "photos", "k")
    fail(filled, "chunked", "HeadObject")
    assert filled("HEAD", "photos", "k").headers.keys() == head.headers.keys()


def test_a_stall_can_stand_between_chunks(filled: Driver) -> None:
    fail(filled, "stall", at=10, seconds=1.0)
    filled.frontend.faults.add(Rule(fault="chunked"))
    answer = get(filled)
    assert answer.body.startswith(b"a\r\n" + DATA[:10])
    assert pauses(answer) == [1.0]


@pytest.mark.parametrize(("delta", "announced"), [(10, "128010"), (-10, "127990"), (-(10**9), "0")])
def test_a_length_can_be_a_lie(filled: Driver, delta: int, announced: str) -> None:
    fail(filled, "lying_length", delta=delta)
    answer = get(filled)
    assert (answer.headers["content-length"], answer.body) == (announced, DATA)
    assert hangups(answer) == ([CLOSE] if delta > 0 else [])


def test_a_head_can_be_garbage_or_have_no_end(filled: Driver) -> None:
    fail(filled, "garbage")
    garbage = get(filled)
    assert isinstance(garbage.steps[0], bytes)
    assert not garbage.steps[0].startswith(b"HTTP")
    assert garbage.steps[1] == CLOSE
    fail(filled, "garbage", data=b"\0")
    assert get(filled).steps == (b"\0", CLOSE)
    fail(filled, "endless_head")
    endless = get(filled)
    assert isinstance(endless.steps[0], bytes)
    assert endless.steps[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(b"".join(step for step in endless.steps if isinstance(step, bytes))) > 500_000
    assert not any(b"\r\n\r\n" in step for step in endless.steps if isinstance(step, bytes))


@pytest.mark.parametrize("announced", [True, False])
def test_a_connection_can_be_closed_after_an_answer(filled: Driver, announced: bool) -> None:
    fail(filled, "close_after", announced=announced)
    answer = get(filled)
    assert (answer.body, answer.steps[-1]) == (DATA, CLOSE)
    assert answer.headers["connection"] == ("close" if announced else "keep-alive")


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


def test_a_head_without_end_does_not_end_with_other_faults_either(filled: Driver) -> None:
    for fault in ("endless_head", "truncate", "latency"):
        filled.frontend.faults.add(Rule(fault=fault))
    assert len(get(filled).steps) == MOST_STEPS


def test_every_fault_can_be_made_without_options() -> None:
    needed: dict[str, dict[str, object]] = {"redirect": {"location": "x"}, "headers": {"headers": {}}}
    for name in CATALOGUE:
        assert make_effect(name, needed.get(name, {})).name == name


def test_a_fault_that_there_is_not_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"no fault 'rest'; there are 400, 403.*reset_body.* and OSS codes"):
        make_effect("rest", {})
    with pytest.raises(ValueError, match=r"fault 'stall' has no option \['second'\]; it has \['at', 'seconds'\]"):
        make_effect("stall", {"second": 1})
