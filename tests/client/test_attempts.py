"""One GET over any number of broken answers, without a server."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.client.attempts import (
    ASKED,
    COMPLETE,
    MAX_REFUSAL_BYTES,
    RECEIVING,
    UNASKED,
    GetAttempt,
    ParsedAttempt,
)
from osstorchconnector.client.memory import Pieces, fill
from osstorchconnector.errors import OssIntegrityError, OssProtocolError
from osstorchconnector.protocol.checksum import crc64
from osstorchconnector.protocol.heads import ResponseHead
from osstorchconnector.protocol.requests import head_object
from osstorchconnector.protocol.values import ByteSpan
from osstorchconnector.protocol.xml_tree import MAX_DOCUMENT_BYTES
from osstorchconnector.uri import OssUri

URI = OssUri("bucket", "key")


def head(status, length, **headers):
    headers = {"x_oss_request_id": "5C3D", "etag": '"E"', **headers}
    return ResponseHead(status, {k.replace("_", "-"): v for k, v in headers.items()}, length, False, True)


def cut_up(target, cuts):
    """Return the memory of `target`: as it is without `cuts`, else in pieces that end there."""
    view = memoryview(target)
    stops = sorted({cut % len(view) for cut in cuts} | {0, len(view)}) if view else []
    pieces = [view[start:stop] for start, stop in itertools.pairwise(stops)]
    return Pieces(pieces) if len(pieces) > 1 else view


cuts = st.lists(st.integers(1, 400), max_size=4)


def serve(attempt, data):
    """Answer the attempt's request as OSS would; return head and body."""
    wanted = dict(attempt.request().headers)
    facts = {"etag": '"E"', "x_oss_hash_crc64ecma": str(crc64(data))}
    if "range" not in wanted:
        return head(200, len(data), **facts), data
    first, last = map(int, wanted["range"].removeprefix("bytes=").split("-"))
    body = data[first : last + 1]
    shown = f"bytes {first}-{first + len(body) - 1}/{len(data)}"
    return head(206, len(body), content_range=shown, **facts), body


@given(
    data=st.binary(min_size=1, max_size=300),
    span=st.none() | st.tuples(st.integers(0, 299), st.integers(1, 400)),
    breaks=st.lists(st.integers(0, 120), max_size=6),
    into=st.none() | cuts,
    whole_at_once=st.booleans(),
)
def test_whatever_breaks_off_where_the_bytes_are_the_objects(data, span, breaks, into, whole_at_once):
    wanted = None if span is None else ByteSpan(min(span[0], len(data) - 1), min(span[0], len(data) - 1) + span[1])
    target = bytearray(wanted.size) if wanted and into is not None else None
    attempt = GetAttempt(URI, wanted, cut_up(target, into) if target is not None else None, "")
    for count in breaks:
        answer, body = serve(attempt, data)
        view = attempt.buffer_for(answer)
        received = min(count, len(body) - 1)
        fill(view, 0, memoryview(body)[:received])
        del view
        attempt.keep(received)
    answer, body = serve(attempt, data)
    if whole_at_once:
        attempt.accept_whole(answer, memoryview(body))
    else:
        fill(attempt.buffer_for(answer), 0, memoryview(body))
    attempt.finish(answer)
    expected = data if wanted is None else data[wanted.start : wanted.stop]
    got = bytes(target[: len(expected)]) if target is not None else attempt.result.body
    assert got == expected
    assert attempt.result.crc64 == crc64(expected)
    assert attempt.result.span.size == len(expected)
    assert attempt.result.stat.size == len(data)


@given(
    data=st.binary(min_size=1, max_size=300),
    steps=st.lists(st.tuples(st.sampled_from(["break", "break early", "refuse", "wrong"]), st.integers(0, 300))),
    cuts=cuts,
)
def test_a_sum_of_ones_own_is_of_the_bytes_whatever_happens_on_their_way(data, steps, cuts):
    """Bytes that arrive are summed at once, so what breaks off, is refused or proves wrong must not confuse the sum."""

    class Joined:
        def __init__(self):
            self.seen = b""

        def add(self, piece):
            self.seen += bytes(piece)

        def clear(self):
            self.seen = b""

    joined, target = Joined(), bytearray(len(data))
    attempt = GetAttempt(URI, ByteSpan(0, len(data)), cut_up(target, cuts), "", checksum=joined)
    for step, count in steps:
        if step == "refuse":
            attempt.request()
            attempt.buffer_for(head(503, count))
            attempt.progressed(count // 2)
            attempt.keep(count // 2)
            continue
        answer, body = serve(attempt, data)
        view = attempt.buffer_for(answer)
        received = min(count, len(body))
        if step == "wrong":
            fill(view, 0, memoryview(bytes(255 - octet for octet in body[:received])))
            attempt.progressed(received)
            attempt.discard()
            continue
        fill(view, 0, memoryview(body)[:received])
        attempt.progressed(received)
        attempt.keep(received if step == "break" else received // 2)
    answer, body = serve(attempt, data)
    fill(attempt.buffer_for(answer), 0, memoryview(body))
    attempt.finish(answer)
    assert (bytes(target), joined.seen, attempt.result.crc64) == (data, data, crc64(data))


def test_a_refusal_that_breaks_off_is_not_taken_for_bytes_of_the_object():
    target = bytearray(5)
    attempt = GetAttempt(URI, ByteSpan(0, 5), memoryview(target), "")
    answer, body = serve(attempt, b"right, and more")
    attempt.buffer_for(answer)[:2] = body[:2]
    attempt.keep(2)
    attempt.request()
    attempt.buffer_for(head(503, 100))
    attempt.keep(3)
    answer, body = serve(attempt, b"right, and more")
    attempt.buffer_for(answer)[:] = body
    attempt.finish(answer)
    assert bytes(target) == b"right"


def test_bytes_that_proved_wrong_are_all_asked_for_again():
    attempt = GetAttempt(URI, None, None, "")
    answer, _ = serve(attempt, b"right")
    attempt.buffer_for(answer)[:] = b"wrong"
    with pytest.raises(OssIntegrityError, match="bytes received have CRC-64"):
        attempt.finish(answer)
    attempt.discard()
    answer, body = serve(attempt, b"right")
    attempt.buffer_for(answer)[:] = body
    attempt.finish(answer)
    assert attempt.result.body == b"right"


def test_a_part_has_no_checksum_to_be_held_against():
    attempt = GetAttempt(URI, ByteSpan(0, 3), None, "")
    answer, _ = serve(attempt, b"right")
    attempt.buffer_for(answer)[:] = b"wro"
    attempt.finish(answer)
    assert attempt.result.body == b"wro"


@pytest.mark.parametrize("length", [2**62, 10**18])
def test_a_length_beyond_all_memory_is_refused(length):
    attempt = GetAttempt(URI, None, None, "")
    attempt.request()
    with pytest.raises(OssProtocolError, match="memory"):
        attempt.buffer_for(head(200, length))


def test_error_documents_and_documents_have_a_limit():
    with pytest.raises(OssProtocolError, match="error message"):
        GetAttempt(URI, None, None, "").buffer_for(head(500, MAX_REFUSAL_BYTES + 1))
    with pytest.raises(OssProtocolError, match="at most"):
        ParsedAttempt(head_object("b", "k"), lambda head, body: None).buffer_for(head(200, MAX_DOCUMENT_BYTES + 1))


def test_a_success_that_brings_no_object_is_refused():
    attempt = GetAttempt(URI, None, None, "")
    attempt.buffer_for(head(204, 0))
    with pytest.raises(OssProtocolError, match="204"):
        attempt.finish(head(204, 0))


def test_memory_for_a_span_must_have_its_size():
    with pytest.raises(ValueError, match="span"):
        GetAttempt(URI, ByteSpan(0, 10), memoryview(bytearray(9)), "")
    with pytest.raises(ValueError, match="span"):
        GetAttempt(URI, None, memoryview(bytearray(9)), "")


def test_what_an_operation_moves_is_as_much_as_the_answer_says():
    whole, span = GetAttempt(URI, None, None, ""), GetAttempt(URI, ByteSpan(0, 5000), None, "")
    document = ParsedAttempt(head_object("bucket", "key"), lambda head, body: None)
    assert [attempt.moved_bytes for attempt in (whole, span, document)] == [0, 5000, 0]
    for attempt in (whole, span, document):
        attempt.request()
        attempt.buffer_for(head(200, 3000))
    assert [attempt.moved_bytes for attempt in (whole, span, document)] == [3000, 5000, 3000]
    whole.keep(1000)
    whole.request()
    whole.buffer_for(head(206, 2000, content_range="bytes 1000-2999/3000"))
    assert whole.moved_bytes == 3000


def test_a_get_goes_through_its_states_and_no_others():
    attempt, seen = GetAttempt(URI, None, None, ""), []
    with pytest.raises(RuntimeError, match="not in UNASKED"):
        attempt.buffer_for(head(200, 5))
    attempt.discard()
    for step in ("ask", "break", "ask", "refuse", "ask", "answer"):
        seen.append(attempt.state)
        if step == "ask":
            answer, body = serve(attempt, b"right")
        elif step == "refuse":
            attempt.buffer_for(head(503, 9))
        else:
            fill(attempt.buffer_for(answer), 0, memoryview(body)[:2] if step == "break" else memoryview(body))
            if step == "break":
                seen.append(attempt.state)
                with pytest.raises(RuntimeError, match="not in RECEIVING"):
                    attempt.request()
                attempt.keep(2)
    assert seen == [UNASKED, ASKED, RECEIVING, UNASKED, ASKED, ASKED, ASKED]
    attempt.finish(answer)
    assert (attempt.state, attempt.result.body) == (COMPLETE, b"right")
    for call in (attempt.request, attempt.discard, lambda: attempt.keep(1)):
        with pytest.raises(RuntimeError, match="not in COMPLETE"):
            call()


@pytest.mark.parametrize("kept", [0, 5])
def test_nothing_is_continued_where_no_byte_is_kept_or_none_is_missing(kept):
    attempt = GetAttempt(URI, None, None, "")
    answer, body = serve(attempt, b"right")
    fill(attempt.buffer_for(answer), 0, memoryview(body))
    attempt.keep(kept)
    assert not attempt.is_resumed
    assert dict(attempt.request().headers) == {}
