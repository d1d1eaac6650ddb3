"""HTTP/1.1 heads: parse those of requests and answers, encode them, and read the values of single headers.

The parser is strict. A line that is not `name: value`, a folded line, a bare CR or LF, a NUL, and two different lengths
are errors: either this is not HTTP, or two readers could see two different messages in it. An answer with both a length
and a transfer coding is an error too; of a request the length is ignored then. After such an error the connection must
not be used again.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import re
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from time import gmtime
from typing import NamedTuple

from ..errors import OssProtocolError
from ..redaction import Secret, SecretBytes
from .attributes import METADATA
from .repeats import CommonHead, RepeatedHeads
from .shapes import BEGIN_LETTERS, AnswerShapes, HeadShapes
from .values import Buffer, ObjectStat

MAX_HEAD_BYTES = 65536
_BEGINS = b"HTTP/1."
_END = b"\r\n\r\n"
_LAST_END = MAX_HEAD_BYTES - len(_END)

_STATUS_LINE = re.compile(r"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\x00-\x08\x0a-\x1f\x7f]*)?\r\n").match
_REQUEST_LINE = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/1\.([01])\r\n").match
_SCHEME_AND_HOST = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^/?]*").match
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19})").fullmatch
_UNSATISFIED_RANGE = re.compile(r"bytes \*/[0-9]{1,19}").fullmatch
_CRC64 = re.compile("[0-9]{1,20}").fullmatch
_HTTP_DATE = re.compile(
    r"[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT"
).fullmatch
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name: number for number, name in enumerate(_MONTHS, start=1)}
_DOCUMENT = "x-oss-err"
_REASONS = {status.value: status.phrase for status in HTTPStatus}

_shapes, _request_shapes, _answer_shapes = HeadShapes(), HeadShapes(), AnswerShapes()
_repeated_heads = RepeatedHeads()

# `_new(Kind, values)` makes a named tuple without the Python call that `Kind(*values)` takes: for every request.
_new = tuple.__new__


class ResponseHead(NamedTuple):
    """Status line and headers of an answer, names in lower case.

    `content_length` is the header's value, `None` without one. How many bytes follow depends on the request, too: see
    `body_length`. `keep_alive` tells whether the peer allows another request on this connection.
    """

    status: int
    headers: dict[str, str]
    content_length: int | None
    chunked: bool
    keep_alive: bool

    def get(self, name: str, default: str = "") -> str:
        """Return a header's value by its lower-case name."""
        return self.headers.get(name, default)

    def body_length(self, method: str) -> int | None:
        """Return the length of the body in an answer to `method`; `None`: chunked, or ended by the connection's end."""
        if method == "HEAD" or self.status in (204, 304):
            return 0
        return None if self.chunked else self.content_length


class RequestHead(NamedTuple):
    """Request line and headers, names in lower case; `path` and `query` as they were sent, nothing is decoded.

    A request with neither a length nor chunks has no body: `content_length` is 0. `common` is the same for heads that
    differ only in method, target and signature; `None` for one that is unlike the others, or the first of its kind.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    content_length: int | None
    chunked: bool
    keep_alive: bool
    expect_continue: bool
    common: CommonHead | None = None

    def get(self, name: str, default: str = "") -> str:
        """Return a header's value by its lower-case name."""
        return self.headers.get(name, default)


def parse_response_head(
    buffer: Buffer, filled: int, shapes: AnswerShapes = _answer_shapes
) -> tuple[ResponseHead, int] | None:
    """Return the head at the start of `buffer[:filled]` and where its body begins; `None` while it is incomplete.

    Interim answers (100 Continue) before it are skipped. Raises `OssProtocolError` once the bytes can't be a head.
    `shapes` has what is known of the shapes of earlier answers.
    """
    if type(buffer) is not memoryview:  # in the steady state all answers have a shape that came before
        end = buffer.find(_END, 0, filled)
        text = buffer[: end + 2].decode("latin-1")
        begin = text[:BEGIN_LETTERS]
        if begin in shapes.known and end <= _LAST_END:
            shape = shapes.known[begin]
            if found := shape.pattern.fullmatch(text):
                headers = dict(zip(shape.names, found.groups(), strict=True))
                length = int(headers["content-length"])
                return _new(ResponseHead, (shape.status, headers, length, False, shape.keep_alive)), end + 4
    return _parse_any_answer(buffer, filled, shapes)


def _parse_any_answer(buffer: Buffer, filled: int, shapes: AnswerShapes) -> tuple[ResponseHead, int] | None:
    start = 0
    while found := _head_text(buffer, start, filled):
        text, start = found
        line = _STATUS_LINE(text)
        if line is None:
            raise OssProtocolError(f"the answer is not HTTP/1.1: it begins {text[:40]!r}")
        minor, status = line[1], int(line[2])
        if status >= 200:
            headers = _shapes.fields(status, text, line.end())
            if status >= 400:
                hide_error_document(headers)
            length, chunked = _framing(headers, minor)
            head = ResponseHead(status, headers, length, chunked, _keep_alive(headers, minor))
            shapes.look_at(text, status, headers, keep_alive=head.keep_alive)
            return head, start
        if status == 101:
            raise OssProtocolError("the server wants to switch protocols (101)")
    seen = bytes(buffer[start : min(filled, start + len(_BEGINS))])
    if not _BEGINS.startswith(seen):
        raise OssProtocolError(f"the answer is not HTTP/1.1: it begins {seen!r}")
    return None


def parse_request_head(
    buffer: Buffer, filled: int, repeated: RepeatedHeads = _repeated_heads
) -> tuple[RequestHead, int] | None:
    """The same for a request, as a server reads it; empty lines before it are skipped.

    `repeated` has what is known of earlier requests.
    """
    if type(buffer) is not memoryview:
        end = buffer.find(_END, 0, filled)
        if 0 <= end <= _LAST_END and (found := repeated.find(buffer[: end + 2].decode("latin-1"))):
            method, target, headers, common = found
            path, _, query = target.partition("?")
            framing = (common.content_length, common.chunked, common.keep_alive, common.expect_continue)
            return _new(RequestHead, (method, path, query, headers, *framing, common)), end + 4
    return _parse_any_request(buffer, filled, repeated)


def _parse_any_request(buffer: Buffer, filled: int, repeated: RepeatedHeads) -> tuple[RequestHead, int] | None:
    start = 0
    while start < filled - 1 and buffer[start] == 13 and buffer[start + 1] == 10:
        start += 2
    found = _head_text(buffer, start, filled)
    if found is None:
        return None
    text, end = found
    line = _REQUEST_LINE(text)
    if line is None:
        raise OssProtocolError(f"not an HTTP/1.1 request: it begins {text[:40]!r}")
    headers = _request_shapes.fields(line[1], text, line.end())
    is_twofold = "transfer-encoding" in headers and "content-length" in headers
    framing = {name: headers[name] for name in headers if name != "content-length"} if is_twofold else headers
    length, chunked = _framing(framing, line[3])
    if length is None and not chunked:
        length = 0
    path, _, query = _origin_form(line[2]).partition("?")
    # RFC 9112, 6.1: the coding counts, and the connection ends, because a proxy in front may have used the length.
    keep_alive = _keep_alive(headers, line[3]) and not is_twofold
    expect = headers.get("expect", "").lower() == "100-continue"
    if "authorization" in headers and line[3] == "1":
        common = CommonHead(headers, length, chunked=chunked, keep_alive=keep_alive, expect_continue=expect)
        repeated.remember(text, common)
    return RequestHead(line[1], path, query, headers, length, chunked, keep_alive, expect), end


def encode_head(method: str, target: str, headers: Iterable[tuple[str, str]]) -> SecretBytes:
    """Return a request's head; `ValueError` if an argument contains a line end or NUL."""
    if not target.isascii() or " " in target or " " in method:
        raise ValueError(f"request target must be percent-encoded: {target!r}")
    return _encode(f"{method} {target} HTTP/1.1", headers)


def encode_response_head(status: int, headers: Iterable[tuple[str, str]]) -> SecretBytes:
    """Return an answer's head; `ValueError` as `encode_head`."""
    return _encode(f"HTTP/1.1 {status} {_REASONS.get(status, '')}", headers)


def object_stat(head: ResponseHead, part: tuple[int, int, int] | None = None) -> ObjectStat:
    """Return what the answer to a GET or HEAD says about the object; `OssProtocolError` if its size is missing.

    `part` is the answer's `content_range`, for a caller that knows it.
    """
    if part is None and head.status == 206:
        part = content_range(head)
    size = part[2] if part else head.content_length
    if size is None or (part is None and head.status == 206):
        raise OssProtocolError(f"the answer ({head.status}) does not say how large the object is")
    headers = head.headers
    # `in` and `[]`, not `get`: this runs for every small object, and neither of them is a call.
    etag = headers["etag"] if "etag" in headers else ""  # noqa: SIM401
    stat = (
        size,
        etag[1:-1] if etag[:1] == etag[-1:] == '"' != etag else etag,  # `bare_etag`
        parse_crc64(headers["x-oss-hash-crc64ecma"]) if "x-oss-hash-crc64ecma" in headers else None,
        parse_http_date(headers["last-modified"]) if "last-modified" in headers else None,
        headers["content-type"] if "content-type" in headers else "",  # noqa: SIM401
        headers["x-oss-object-type"] if "x-oss-object-type" in headers else "",  # noqa: SIM401
        "",
        (),
    )
    return _new(ObjectStat, stat)


def full_stat(head: ResponseHead) -> ObjectStat:
    """Return all that the answer to a HEAD says about the object, also what costs time to find."""
    pairs = tuple(
        (name.removeprefix(METADATA), value) for name, value in head.headers.items() if name.startswith(METADATA)
    )
    return object_stat(head)._replace(storage_class=head.get("x-oss-storage-class"), metadata_pairs=pairs)


def content_range(head: ResponseHead) -> tuple[int, int, int] | None:
    """Return first byte, last byte and whole size from `Content-Range`; `None` without one or if no range matched."""
    text = head.headers.get("content-range")
    return None if text is None else _parse_content_range(text)


@lru_cache(maxsize=64)
def _parse_content_range(text: str) -> tuple[int, int, int] | None:
    if _UNSATISFIED_RANGE(text):
        return None
    match = _CONTENT_RANGE(text)
    if match is None:
        raise OssProtocolError(f"not a Content-Range: {text[:80]!r}")
    first, last, total = int(match[1]), int(match[2]), int(match[3])
    if not first <= last < total:
        raise OssProtocolError(f"impossible Content-Range: {text!r}")
    return first, last, total


def parse_crc64(text: str) -> int | None:
    """Return the value of `x-oss-hash-crc64ecma`, `None` for an empty text."""
    if not text:
        return None
    if _CRC64(text) and (crc := int(text)) < 2**64:
        return crc
    raise OssProtocolError(f"not a CRC-64: {text[:40]!r}")


def bare_etag(text: str) -> str:
    """Return an ETag without its quotes."""
    return text[1:-1] if text[:1] == text[-1:] == '"' != text else text


def http_date(epoch_seconds: int) -> str:
    """Return the time as `Date` has it: `Fri, 14 Mar 2025 15:09:26 GMT`, whatever the locale."""
    year, month, day, hour, minute, second, weekday = gmtime(epoch_seconds)[:7]
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {hour:02}:{minute:02}:{second:02} GMT"


@lru_cache(maxsize=256)
def parse_http_date(text: str) -> float | None:
    """Return the time of `Fri, 14 Mar 2025 15:09:26 GMT` in seconds since the epoch; `None` for anything else."""
    match = _HTTP_DATE(text)
    if match is None or match[2] not in _MONTH_NUMBERS:
        return None
    day, year, hour, minute, second = (int(match[group]) for group in (1, 3, 4, 5, 6))
    if not (1 <= day <= 31 and year >= 1 and hour < 24 and minute < 60 and second <= 60):
        return None
    return float(calendar.timegm((year, _MONTH_NUMBERS[match[2]], day, hour, minute, second)))


def retry_after_seconds(head: ResponseHead) -> float:
    """Return how long the answer asks to wait: its `Retry-After`, or OSS's delay for traffic over the limit."""
    delay = _plain_number(head.get("x-oss-qos-delay-time")) / 1000
    text = head.get("retry-after").strip()
    until, now = parse_http_date(text), parse_http_date(head.get("date"))
    if until is not None and now is not None:
        return max(delay, until - now)
    return max(delay, _plain_number(text))


def _plain_number(text: str) -> float:
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 12 else 0.0


def hide_error_document(headers: dict[str, str]) -> None:
    """Mask the error document that an answer to HEAD has in a header: it echoes the text that was signed."""
    if _DOCUMENT in headers:
        headers[_DOCUMENT] = Secret(headers[_DOCUMENT])


def error_document(head: ResponseHead) -> bytes:
    """Return the error document that an answer to HEAD carries in a header, empty where there is none."""
    try:
        return base64.b64decode(head.headers.get(_DOCUMENT, ""), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _head_text(buffer: Buffer, start: int, filled: int) -> tuple[str, int] | None:
    """Return the text of the head from `start` (its last line's CRLF included) and where it ends."""
    if isinstance(buffer, memoryview):
        buffer = bytes(buffer[: min(filled, MAX_HEAD_BYTES)])
    end = buffer.find(_END, start, min(MAX_HEAD_BYTES, filled))
    if end >= 0:
        raw = buffer[start : end + 2]
        try:
            return raw.decode(), end + 4
        except UnicodeDecodeError:
            return raw.decode("latin-1"), end + 4
    if filled >= MAX_HEAD_BYTES:
        raise OssProtocolError(f"no end of the head in {MAX_HEAD_BYTES} bytes")
    return None


def _framing(headers: dict[str, str], minor: str) -> tuple[int | None, bool]:
    """Return the content length, if any, and whether the body comes in chunks."""
    text = headers.get("content-length")
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if coding.lower() != "chunked" or text is not None or minor == "0":
            raise OssProtocolError(f"can't tell where the body ends: Transfer-Encoding {coding[:40]!r}")
        return None, True
    if text is None:
        return None, False
    if len(text) > 18 or not text.isdecimal() or not text.isascii():
        raise OssProtocolError(f"not a Content-Length: {text[:40]!r}")
    return int(text), False


def _keep_alive(headers: dict[str, str], minor: str) -> bool:
    connection = headers.get("connection")
    if connection is None:
        return minor == "1"
    if connection == "keep-alive":
        return True
    options = [option.strip(" \t") for option in connection.lower().split(",")]
    return "close" not in options and (minor == "1" or "keep-alive" in options)


def _origin_form(target: str) -> str:
    """Return a request target without the scheme and host that a proxy's client puts before it."""
    if target[0] == "/" or target == "*":
        return target
    host = _SCHEME_AND_HOST(target)
    if host is None:
        raise OssProtocolError(f"not a request target: {target[:80]!r}")
    rest = target[host.end() :]
    return rest if rest.startswith("/") else f"/{rest}"


def _encode(first_line: str, headers: Iterable[tuple[str, str]]) -> SecretBytes:
    lines = [first_line, *map(": ".join, headers), "", ""]
    head = SecretBytes("\r\n".join(lines).encode())
    ends = len(lines) - 1
    if head.count(b"\n") != ends or head.count(b"\r") != ends or 0 in head:
        del lines  # a traceback shows what is in them
        raise ValueError("line end or NUL in a part of an HTTP head")
    return head
