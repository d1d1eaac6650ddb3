"""HTTP heads: what comes in whatever pieces, what is refused, what goes out."""

from __future__ import annotations

import base64
import calendar
import string
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from osstorchconnector.errors import OssProtocolError
from osstorchconnector.protocol.heads import (
    MAX_HEAD_BYTES,
    RequestHead,
    ResponseHead,
    bare_etag,
    content_range,
    encode_head,
    encode_response_head,
    error_document,
    object_stat,
    parse_crc64,
    parse_http_date,
    parse_request_head,
    parse_response_head,
)
from osstorchconnector.protocol.values import ObjectStat

ANSWER = (
    b"HTTP/1.1 206 Partial Content\r\n"
    b"Server: AliyunOSS\r\n"
    b"Date: Fri, 14 Mar 2025 15:09:26 GMT\r\n"
    b"Content-Type: application/octet-stream\r\n"
    b"Content-Length: 100\r\n"
    b"Connection: keep-alive\r\n"
    b"x-oss-request-id: 67D446A6F5F1B53939000000\r\n"
    b"Content-Range: bytes 0-99/112640\r\n"
    b'ETag: "5B3C1A2E053D763E1B002CC607C5A0FE"\r\n'
    b"Last-Modified: Fri, 24 Feb 2012 06:07:48 GMT\r\n"
    b"x-oss-object-type: Normal\r\n"
    b"x-oss-hash-crc64ecma: 3231342946509354535\r\n"
    b"\r\n"
)
QUESTION = (
    b"PUT /a%20b?partNumber=1&uploadId=X HTTP/1.1\r\n"
    b"Host: bucket.oss-cn-test.aliyuncs.com\r\n"
    b"Content-Length: 5\r\n"
    b"Expect: 100-Continue\r\n"
    b"\r\n"
)


def read_answer(raw: bytes, more: bytes = b"") -> ResponseHead:
    """Return the head of an answer that is complete, and check where its body begins."""
    found = parse_response_head(raw + more, len(raw + more))
    assert found is not None
    head, body_at = found
    assert body_at == len(raw)
    return head


def answer(*lines: str, first: str = "HTTP/1.1 200 OK") -> ResponseHead:
    return read_answer("\r\n".join((first, *lines, "", "")).encode("latin-1"))


def read_question(raw: bytes, more: bytes = b"") -> RequestHead:
    found = parse_request_head(raw + more, len(raw + more))
    assert found is not None
    head, body_at = found
    assert body_at == len(raw)
    return head


def question(*lines: str, first: str = "GET / HTTP/1.1") -> RequestHead:
    return read_question("\r\n".join((first, *lines, "", "")).encode("latin-1"))


def test_an_answer_of_oss() -> None:
    head = read_answer(ANSWER, b"the body")
    assert (head.status, head.content_length, head.chunked, head.keep_alive) == (206, 100, False, True)
    assert list(head.headers) == [
        *(
            "server",
            "date",
            "content-type",
            "content-length",
            "connection",
            "x-oss-request-id",
            "content-range",
            "etag",
        ),
        *("last-modified", "x-oss-object-type", "x-oss-hash-crc64ecma"),
    ]
    assert head.get("x-oss-request-id") == "67D446A6F5F1B53939000000"
    assert head.get("x-oss-nothing") == ""
    assert head.get("x-oss-nothing", "?") == "?"


def test_a_request_of_a_client() -> None:
    head = read_question(QUESTION, b"12345")
    assert head == RequestHead(
        "PUT",
        "/a%20b",
        "partNumber=1&uploadId=X",
        {"host": "bucket.oss-cn-test.aliyuncs.com", "content-length": "5", "expect": "100-Continue"},
        content_length=5,
        chunked=False,
        keep_alive=True,
        expect_continue=True,
    )
    assert head.get("host") == "bucket.oss-cn-test.aliyuncs.com"


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda raw: memoryview(bytearray(raw))])
@pytest.mark.parametrize("parse", [parse_response_head, parse_request_head])
def test_a_head_is_found_in_any_buffer_and_nothing_behind_it_is_looked_at(
    kind: Callable[[bytes], bytes], parse: Callable[[bytes, int], tuple[object, int] | None]
) -> None:
    raw = ANSWER if parse is parse_response_head else QUESTION
    assert parse(kind(raw + b"\xff\r\n\r\n\0"), len(raw)) == parse(raw, len(raw))
    assert parse(kind(raw), len(raw) - 1) is None


@given(st.integers(0, len(ANSWER) - 1), st.sampled_from([ANSWER, b"HTTP/1.1 100 Continue\r\n\r\n" + ANSWER]))
def test_an_answer_that_is_not_all_there_is_waited_for(cut: int, raw: bytes) -> None:
    assert parse_response_head(raw[:cut], cut) is None
    buffer = bytearray(MAX_HEAD_BYTES)
    buffer[: len(raw)] = raw
    assert parse_response_head(buffer, cut) is None
    assert parse_response_head(buffer, len(raw)) == parse_response_head(raw, len(raw))


@given(st.integers(0, len(QUESTION) - 1))
def test_a_request_that_is_not_all_there_is_waited_for(cut: int) -> None:
    assert parse_request_head(QUESTION[:cut], cut) is None


# --- any head

tokens = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1, max_size=12)
values = (
    st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
    | st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=20)
).map(lambda text: text.strip(" \t"))
reserved = {"content-length", "transfer-encoding", "connection"}
fields = st.lists(st.tuples(tokens, values), max_size=8, unique_by=lambda field: field[0].lower()).filter(
    lambda found: not reserved & {name.lower() for name, _ in found}
)


@given(st.integers(200, 599), fields)
def test_what_is_encoded_as_an_answer_is_read_back(status: int, found: list[tuple[str, str]]) -> None:
    for _ in range(4):  # a shape that comes again is read another way
        head = read_answer(encode_response_head(status, found))
        assert head == ResponseHead(status, {name.lower(): value for name, value in found}, None, False, True)


@given(tokens, st.text(string.ascii_letters + "%/?=&", max_size=20), fields)
def test_what_is_encoded_as_a_request_is_read_back(method: str, target: str, found: list[tuple[str, str]]) -> None:
    head = read_question(encode_head(method, "/" + target, found))
    path, _, query = ("/" + target).partition("?")
    assert (head.method, head.path, head.query) == (method, path, query)
    assert head.headers == {name.lower(): value for name, value in found}


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda raw: b"HTTP/1.1 200 OK\r\n" + raw + b"\r\n\r\n"))
@settings(max_examples=200)
def test_garbage_is_a_head_or_incomplete_or_a_protocol_error(raw: bytes) -> None:
    for parse in (parse_response_head, parse_request_head):
        try:
            found = parse(raw, len(raw))
        except OssProtocolError:
            continue
        assert found is None or 0 < found[1] <= len(raw)


# --- what is refused


@pytest.mark.parametrize(
    "raw",
    [
        b"<html>",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/2 200\r\n",
        b"http/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP/1.1 600 High\r\n\r\n",
        b"HTTP/1.1 \xd9\xa2\xd9\xa0\xd9\xa0 OK\r\n\r\n",
        b"HTTP/1.1 200OK\r\n\r\n",
        b"HTTP/1.1 200 OK\nServer: x\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
    ],
)
def test_what_is_no_answer_is_refused_at_once(raw: bytes) -> None:
    with pytest.raises(OssProtocolError):
        parse_response_head(raw, len(raw))


def test_a_wrong_first_byte_is_enough() -> None:
    assert parse_response_head(b"", 0) is None
    assert parse_response_head(b"HTT", 3) is None
    with pytest.raises(OssProtocolError, match="not HTTP/1.1: it begins b'J'"):
        parse_response_head(b"J", 1)


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"GET /a b HTTP/1.1\r\n\r\n",
        b"G(T / HTTP/1.1\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\nHost: x\r\n\r\n",
    ],
)
def test_what_is_no_request(raw: bytes) -> None:
    with pytest.raises(OssProtocolError, match="not an HTTP/1.1 request"):
        parse_request_head(raw, len(raw))


LINES = [
    "no colon",
    ": no name",
    "blank before colon : x",
    "folded: a\r\n b",
    " leading: blank",
    "bare: carriage\rreturn",
    "bare: line\nfeed",
    "nul: a\0b",
    "na\0me: b",
    "escape: \x1b[0m",
    "delete: \x7f",
    "n\u00e4me: x",
    "name(comment): x",
]


@pytest.mark.parametrize("line", LINES)
def test_a_malformed_line_is_refused(line: str) -> None:
    with pytest.raises(OssProtocolError, match="malformed header line"):
        answer("Server: AliyunOSS", line, "Date: now")
    with pytest.raises(OssProtocolError, match="malformed header line"):
        question("Host: x", line)


@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: -1"],
        ["Content-Length: +1"],
        ["Content-Length: 1_0"],
        ["Content-Length: 0x10"],
        ["Content-Length: 1.0"],
        ["Content-Length:"],
        ["Content-Length: 5, 5"],
        ["Content-Length: 5", "content-length: 6"],
        ["Content-Length: 5", "Content-Length: 5", "Content-Length: 05"],
        ["Content-Length: \u00b2"],
        ["Content-Length: 9999999999999999999"],
        ["Content-Length: " + "9" * 5000],
        ["Transfer-Encoding: gzip, chunked"],
        ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: identity"],
        ["Transfer-Encoding:"],
    ],
    ids=lambda lines: " + ".join(lines)[:60],
)
def test_a_body_whose_end_is_not_clear_is_refused(lines: list[str]) -> None:
    with pytest.raises(OssProtocolError, match="not a Content-Length|where the body ends"):
        answer(*lines)
    with pytest.raises(OssProtocolError, match="not a Content-Length|where the body ends"):
        question(*lines)


def test_a_length_beside_chunks_is_refused_in_an_answer_and_passed_over_in_a_request() -> None:
    lines = ["Content-Length: 5", "Transfer-Encoding: chunked"]
    with pytest.raises(OssProtocolError, match="where the body ends"):
        answer(*lines)
    asked = question(*lines)
    assert (asked.content_length, asked.chunked, asked.keep_alive) == (None, True, False)


def test_digits_of_other_scripts_are_no_length() -> None:
    raw = "HTTP/1.1 200 OK\r\nContent-Length: \u0665\r\n\r\n".encode()
    with pytest.raises(OssProtocolError, match="not a Content-Length"):
        parse_response_head(raw, len(raw))


def test_http_1_0_knows_no_chunks() -> None:
    with pytest.raises(OssProtocolError, match="where the body ends"):
        answer("Transfer-Encoding: chunked", first="HTTP/1.0 200 OK")


@pytest.mark.parametrize("parse", [parse_response_head, parse_request_head])
def test_an_endless_head_is_refused_when_the_limit_is_reached(
    parse: Callable[[bytes, int], tuple[object, int] | None],
) -> None:
    begin = b"HTTP/1.1 200 OK\r\n" if parse is parse_response_head else b"GET / HTTP/1.1\r\n"
    room = MAX_HEAD_BYTES - len(begin) - len(b"a: \r\n\r\n")
    fits = begin + b"a: " + b"x" * room + b"\r\n\r\n"
    assert len(fits) == MAX_HEAD_BYTES
    assert parse(fits, len(fits)) is not None
    assert parse(fits, len(fits) - 1) is None
    for kind in (bytes, bytearray, memoryview):
        too_long = kind(begin + b"a: " + b"x" * (room + 1) + b"\r\n\r\n")
        with pytest.raises(OssProtocolError, match="no end of the head"):
            parse(too_long, len(too_long))


def test_many_short_lines_are_read_again_and_again_without_being_learnt() -> None:
    lines = [f"a{number}: b" for number in range(5000)]
    for _ in range(4):
        assert len(answer(*lines).headers) == 5000


# --- lengths, chunks, connections


@pytest.mark.parametrize(
    ("lines", "length", "chunked"),
    [
        ([], None, False),
        (["Content-Length: 0"], 0, False),
        (["Content-Length: 007"], 7, False),
        (["Content-Length: 53687091200000"], 53687091200000, False),
        (["Content-Length: 5", "content-length: 5 "], 5, False),
        (["Transfer-Encoding: Chunked"], None, True),
    ],
)
def test_how_long_the_body_is(lines: list[str], length: int | None, chunked: bool) -> None:
    head = answer(*lines)
    assert (head.content_length, head.chunked) == (length, chunked)
    asked = question(*lines)
    assert (asked.content_length, asked.chunked) == (length if chunked else length or 0, chunked)


@pytest.mark.parametrize(
    ("status", "method", "length"),
    [(200, "GET", 5), (200, "HEAD", 0), (204, "DELETE", 0), (304, "GET", 0), (416, "GET", 5)],
)
def test_how_much_of_a_body_follows(status: int, method: str, length: int) -> None:
    assert answer("Content-Length: 5", first=f"HTTP/1.1 {status} Any").body_length(method) == length


def test_without_a_length_the_body_is_chunks_or_all_that_comes() -> None:
    assert answer("Transfer-Encoding: chunked").body_length("GET") is None
    assert answer().body_length("GET") is None


@pytest.mark.parametrize(
    ("lines", "in_1_1", "in_1_0"),
    [
        ([], True, False),
        (["Connection: keep-alive"], True, True),
        (["Connection: Keep-Alive"], True, True),
        (["Connection: close"], False, False),
        (["Connection: Keep-Alive , CLOSE"], False, False),
        (["Connection: upgrade"], True, False),
        (["Connection: keep-alive", "Connection: close"], False, False),
        (["Connection: foreclose"], True, False),
    ],
)
def test_whether_the_connection_stays(lines: list[str], in_1_1: bool, in_1_0: bool) -> None:
    assert answer(*lines).keep_alive is in_1_1
    assert answer(*lines, first="HTTP/1.0 200 OK").keep_alive is in_1_0
    assert question(*lines).keep_alive is in_1_1
    assert question(*lines, first="GET / HTTP/1.0").keep_alive is in_1_0


def test_interim_answers_are_passed_over() -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    assert parse_response_head(raw, len(raw)) is None
    assert read_answer(raw + ANSWER) == read_answer(ANSWER)
    with pytest.raises(OssProtocolError, match="not HTTP/1.1"):
        parse_response_head(raw + b"rest", len(raw) + 4)


def test_values_of_a_name_that_comes_twice_are_joined() -> None:
    assert answer("Via: a", "X: 1", "via: b", "VIA: c").headers == {"via": "a, b, c", "x": "1"}


def test_other_encodings_than_utf_8_are_read_byte_by_byte() -> None:
    assert read_answer("HTTP/1.1 200 OK\r\nx-oss-meta-a: 数据\r\n\r\n".encode()).get("x-oss-meta-a") == "数据"
    assert read_answer(b"HTTP/1.1 200 OK\r\nx-oss-meta-a: \xe4\x85\r\n\r\n").get("x-oss-meta-a") == "\xe4\x85"


def test_an_answer_needs_no_reason() -> None:
    assert answer(first="HTTP/1.1 200").status == 200
    assert answer(first="HTTP/1.1 404 ").status == 404


def test_empty_lines_before_a_request_are_passed_over() -> None:
    assert read_question(b"\r\n\r\n" + QUESTION) == read_question(QUESTION)
    for filled in range(5):
        assert parse_request_head(b"\r\n\r\n", filled) is None


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("*", "*", ""),
        ("/a//b/../c?x", "/a//b/../c", "x"),
        ("/a?b?c=d", "/a", "b?c=d"),
        ("http://host:80/a?b", "/a", "b"),
        ("http://host", "/", ""),
        ("http://host?b=/c", "/", "b=/c"),
        ("/a?u=http://x/", "/a", "u=http://x/"),
        ("HTTPS://host/a", "/a", ""),
    ],
)
def test_path_and_query_of_a_target(target: str, path: str, query: str) -> None:
    head = question(first=f"GET {target} HTTP/1.1")
    assert (head.path, head.query) == (path, query)


@pytest.mark.parametrize("target", ["a", "?a", "host:80", "x:/y", "1://x/", "*?a"])
def test_what_is_no_target(target: str) -> None:
    with pytest.raises(OssProtocolError, match="not a request target"):
        question(first=f"GET {target} HTTP/1.1")


# --- what goes out


def test_heads_as_they_are_sent() -> None:
    assert encode_head("GET", "/k?a=b", [("Host", "h"), ("Range", "bytes=0-1")]) == (
        b"GET /k?a=b HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\n\r\n"
    )
    assert encode_response_head(404, iter([("Content-Length", "0")])) == (
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    )
    assert encode_response_head(499, []) == b"HTTP/1.1 499 \r\n\r\n"
    assert encode_head("GET", "/", [("x-oss-meta-a", "数据")]).endswith("数据\r\n\r\n".encode())


@pytest.mark.parametrize("evil", ["\r", "\n", "\0", "\r\n", "a\r\nInjected: yes", "\r\n\r\nGET /other HTTP/1.1"])
def test_what_would_end_a_line_is_never_sent(evil: str) -> None:
    for headers in ([("name", evil)], [(evil, "value")], [("a", "b"), ("name", "x" + evil)]):
        with pytest.raises(ValueError, match="line end or NUL"):
            encode_head("GET", "/", headers)
        with pytest.raises(ValueError, match="line end or NUL"):
            encode_response_head(200, headers)
    for method, target in (("GET", "/" + evil), ("GET" + evil, "/")):
        with pytest.raises(ValueError, match="line end or NUL|percent-encoded"):
            encode_head(method, target, [])


@pytest.mark.parametrize(("method", "target"), [("GET", "/a b"), ("GET", "/é"), ("GET /x HTTP/1.1", "/")])
def test_a_target_goes_out_encoded_or_not_at_all(method: str, target: str) -> None:
    with pytest.raises(ValueError, match="percent-encoded"):
        encode_head(method, target, [])


# --- what a head says of an object


def test_the_stat_of_a_part_has_the_whole_size() -> None:
    assert object_stat(read_answer(ANSWER)) == ObjectStat(
        size=112640,
        etag="5B3C1A2E053D763E1B002CC607C5A0FE",
        crc64=3231342946509354535,
        last_modified=1330063668.0,
        content_type="application/octet-stream",
        object_type="Normal",
    )


def test_the_stat_of_a_whole_object() -> None:
    assert object_stat(answer("Content-Length: 7")) == ObjectStat(7, "", None)
    # A length beside a Content-Range of another status is the size.
    assert object_stat(answer("Content-Length: 7", "Content-Range: bytes 0-1/9")).size == 7


@pytest.mark.parametrize(
    "lines",
    [
        ["HTTP/1.1 200 OK"],
        ["HTTP/1.1 206 Partial Content", "Content-Length: 5"],
        ["HTTP/1.1 206 P", "Content-Range: bytes */5"],
    ],
)
def test_an_object_without_size_is_refused(lines: list[str]) -> None:
    with pytest.raises(OssProtocolError, match="how large"):
        object_stat(answer(*lines[1:], first=lines[0]))


def test_the_part_that_was_sent() -> None:
    assert content_range(answer("Content-Range: bytes 5-9/10")) == (5, 9, 10)
    assert content_range(answer("Content-Range: bytes */10")) is None
    assert content_range(answer()) is None


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "bytes",
            "bytes 0-4",
            "bytes 0-4/*",
            "bytes -4/5",
            "0-4/5",
            "bytes 0 - 4/5",
            "bytes=0-4/5",
            "octets 0-4/5",
        ),
        *("bytes 4-0/5", "bytes 0-5/5", "bytes 0-4/4", "bytes 0-4/5, bytes 5-6/7", "bytes 0-\u0664/5"),
        *("bytes 0-4/" + "9" * 20, "bytes -1-4/5"),
    ],
)
def test_an_impossible_content_range_is_refused(text: str) -> None:
    head = ResponseHead(206, {"content-range": text}, 5, False, True)
    with pytest.raises(OssProtocolError, match="Content-Range"):
        content_range(head)


@given(st.integers(0, 2**64 - 1))
def test_a_crc_is_an_unsigned_decimal_of_64_bits(crc: int) -> None:
    assert parse_crc64(str(crc)) == crc
    assert parse_crc64("") is None


@pytest.mark.parametrize("text", ["-1", str(2**64), "0x12", "1 2", "\u0665", "9" * 5000, "none", "1, 1"])
def test_what_is_no_crc(text: str) -> None:
    with pytest.raises(OssProtocolError, match="not a CRC-64"):
        parse_crc64(text)


@pytest.mark.parametrize(
    ("text", "bare"),
    [('"AB"', "AB"), ("AB", "AB"), ('""', ""), ('"', '"'), ("", ""), ('"AB', '"AB'), ('W/"AB"', 'W/"AB"')],
)
def test_an_etag_without_its_quotes(text: str, bare: str) -> None:
    assert bare_etag(text) == bare


@given(st.datetimes())
def test_a_date_of_http(moment: object) -> None:
    from datetime import datetime, timezone
    from email.utils import format_datetime

    assert isinstance(moment, datetime)
    moment = moment.replace(microsecond=0, tzinfo=timezone.utc)
    assert parse_http_date(format_datetime(moment, usegmt=True)) == calendar.timegm(moment.timetuple())


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "1741964966", "2025-03-14T15:09:26Z", "Fri, 14 Mrz 2025 15:09:26 GMT"),
        *("Fri, 14 Mar 2025 15:09:26 +0100", "Fri, 14 Mar 2025 25:09:26 GMT", "Fri, 14 Mar 2025 15:60:26 GMT"),
        *("Fri, 00 Mar 2025 15:09:26 GMT", "Fri, 32 Mar 2025 15:09:26 GMT", "Fri, 14 Mar 0000 15:09:26 GMT"),
        *("Fri, 14 Mar 2025 15:09:61 GMT", "Fri, 14 Mar 2025 15:09:26 GMT\n"),
    ],
)
def test_what_is_no_date_of_http_is_none(text: str) -> None:
    assert parse_http_date(text) is None


def test_the_error_document_of_an_answer_without_body() -> None:
    document = b"<Error><Code>NoSuchKey</Code></Error>"
    assert error_document(answer("x-oss-err: " + base64.b64encode(document).decode())) == document
    for text in ("", "not base64!", "A", "\u00e9"):
        assert error_document(answer("x-oss-err: " + text)) == b""
