"""What is known of the shape of a head changes nothing about how it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from protocol.test_heads import ANSWER, fields, tokens, values

from osstorchconnector.errors import OssProtocolError
from osstorchconnector.protocol.heads import encode_response_head, parse_response_head
from osstorchconnector.protocol.shapes import AnswerShapes, HeadShapes, header_fields


def lines_of(raw: bytes) -> tuple[str, int]:
    """Return the text of a head as its readers get it, and where its header lines begin."""
    text = raw[:-2].decode("latin-1")
    return text, text.index("\n") + 1


blanks = st.sampled_from(["", " ", "\t", "  \t "])


@given(st.lists(st.tuples(tokens, blanks, values.filter(str.isascii), blanks), min_size=1, max_size=5))
def test_blanks_around_a_value_do_not_belong_to_it(found: list[tuple[str, str, str, str]]) -> None:
    lines = [f"{name}-{number}:{b}{value}{a}\r\n" for number, (name, b, value, a) in enumerate(found)]
    expected = {f"{name.lower()}-{number}": value for number, (name, _, value, _) in enumerate(found)}
    text, start = lines_of(f"HTTP/1.1 200 OK\r\n{''.join(lines)}\r\n".encode())
    shapes = HeadShapes()
    for _ in range(4):  # read another way when it has come often
        assert shapes.fields(200, text, start) == header_fields(text, start) == expected


damage = st.sampled_from([b"\0", b"\r", b"\n", b"\r\n", b" ", b":", b"\t", b"\x7f", b"\xff", b"x"])


def outcome(read: Callable[[], dict[str, str]]) -> dict[str, str] | str:
    try:
        return read()
    except OssProtocolError as error:
        return str(error)


@given(st.integers(len(b"HTTP/1.1 206 Partial Content\r\n"), len(ANSWER) - 5), damage)
@settings(max_examples=200)
def test_a_damaged_head_reads_the_same_whether_its_shape_is_known_or_not(at: int, put: bytes) -> None:
    shapes = HeadShapes()
    for _ in range(4):
        assert shapes.fields(206, *lines_of(ANSWER)) == header_fields(*lines_of(ANSWER))
    damaged = lines_of(ANSWER[:at] + put + ANSWER[at:])
    for _ in range(3):
        assert outcome(lambda: shapes.fields(206, *damaged)) == outcome(lambda: header_fields(*damaged))


@given(st.lists(fields, min_size=1, max_size=3), st.lists(st.integers(0, 2), max_size=10))
@settings(max_examples=50)
def test_known_shapes_change_nothing(heads: list[list[tuple[str, str]]], order: list[int]) -> None:
    shapes = HeadShapes()
    for turn in order:
        found = heads[turn % len(heads)]
        text, start = lines_of(encode_response_head(200, found))
        assert shapes.fields(200, text, start) == header_fields(text, start)


def test_few_shapes_are_learnt() -> None:
    shapes = HeadShapes()
    for number in range(3 * HeadShapes.MAX_LEARNT):
        text, start = lines_of(encode_response_head(200, [(f"name-{number}", "value")]))
        assert all(shapes.fields(200, text, start) == {f"name-{number}": "value"} for _ in range(3))
    assert shapes.learnt == HeadShapes.MAX_LEARNT


# --- answers that are read at once


def read(raw: bytes, shapes: AnswerShapes) -> Any:
    """Return what the parser makes of the bytes: a head and its end, None, or the text of an error."""
    try:
        return parse_response_head(bytearray(raw), len(raw), shapes)
    except OssProtocolError as error:
        return str(error)


def test_of_an_answer_that_is_read_at_once_only_one_pattern_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, answers = HeadShapes(), AnswerShapes()
    monkeypatch.setattr("osstorchconnector.protocol.heads._shapes", ours)
    for _ in range(5):
        read(ANSWER, answers)
    assert (ours.learnt, answers.learnt) == (0, 1)


def test_an_answer_whose_shape_has_come_twice_is_read_at_once() -> None:
    shapes = AnswerShapes()
    other = ANSWER.replace(b"Content-Length: 100", b"Content-Length: 77").replace(b"5B3C", b"0000")
    first, second = read(ANSWER, shapes), read(other, shapes)
    assert shapes.known.keys() == {"HTTP/1.1 206"}
    assert (read(ANSWER, shapes), read(other, shapes)) == (first, second)
    assert shapes.known["HTTP/1.1 206"].pattern.fullmatch(ANSWER[:-2].decode())
    assert second[0].content_length == 77


@given(
    at=st.integers(0, len(ANSWER)),
    cut=st.integers(0, 3),
    put=st.sampled_from(
        [b"", b"\0", b"\r", b"\n", b"\r\n", b" ", b":", b"\t", b"\x7f", b"\xff", b"x", b"9", b"\r\n\r\n"]
    ),
    more=st.binary(max_size=20),
)
@settings(max_examples=300)
def test_an_answer_reads_the_same_whether_its_shape_is_known_or_not(at: int, cut: int, put: bytes, more: bytes) -> None:
    changed = ANSWER[:at] + put + ANSWER[at + cut :] + more
    unknown, shapes = read(changed, AnswerShapes()), AnswerShapes()
    for _ in range(2):
        read(ANSWER, shapes)
    assert shapes.known
    assert read(changed, shapes) == unknown


@pytest.mark.parametrize(
    "raw",
    [
        ANSWER.replace(b"Content-Length: 100\r\n", b""),
        ANSWER.replace(b"Content-Length: 100", b"Transfer-Encoding: chunked"),
        ANSWER.replace(b"206 Partial Content", b"404 Not Found"),
        ANSWER.replace(b"HTTP/1.1", b"HTTP/1.0"),
        ANSWER.replace(b"AliyunOSS", b"\xc3\xa9"),
        ANSWER.replace(b"Server: AliyunOSS", b"ETag: twice"),
    ],
    ids=["no length", "chunked", "refusal", "1.0", "not ASCII", "a name twice"],
)
def test_an_answer_that_must_be_looked_at_teaches_nothing(raw: bytes) -> None:
    shapes = AnswerShapes()
    assert read(raw, shapes) == read(raw, shapes) == read(raw, shapes)
    assert not shapes.known


def test_what_a_connection_is_told_belongs_to_the_shape() -> None:
    shapes = AnswerShapes()
    for _ in range(3):
        assert read(ANSWER, shapes)[0].keep_alive
    closing = ANSWER.replace(b"keep-alive", b"close")
    for _ in range(3):
        assert not read(closing, shapes)[0].keep_alive
        assert read(ANSWER, shapes)[0].keep_alive


def test_few_shapes_of_answers_are_learnt() -> None:
    shapes = AnswerShapes()
    for number in range(2 * AnswerShapes.MAX_LEARNT):
        raw = ANSWER.replace(b"Server", b"Server-%d" % number)
        assert read(raw, shapes) == read(raw, shapes) == read(raw, shapes)
    assert shapes.learnt == AnswerShapes.MAX_LEARNT
