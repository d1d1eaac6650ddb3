"""What each fault does to an answer's head, document and bytes, step by step, without a network."""

from __future__ import annotations

import pytest
from emulator.driver import CLOSE, DATA, MOST_STEPS, RESET, Answer, Driver, fail, get, hangups, pauses

from osstorchconnector.emulator.faults import Rule
from osstorchconnector.emulator.wire import FOREVER, Hangup, Pause
from osstorchconnector.protocol.checksum import crc64


def test_a_status_can_be_another_than_what_was_done(filled: Driver) -> None:
    fail(filled, "status", status=203)
    assert (get(filled).status, get(filled).body) == (203, DATA)
    fail(filled, "status", status=204)
    assert (get(filled).status, get(filled).body) == (204, b"")


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


def test_a_head_without_end_does_not_end_with_other_faults_either(filled: Driver) -> None:
    for fault in ("endless_head", "truncate", "latency"):
        filled.frontend.faults.add(Rule(fault=fault))
    assert len(get(filled).steps) == MOST_STEPS
