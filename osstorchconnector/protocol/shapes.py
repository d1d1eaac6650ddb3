"""The lines of HTTP heads, name by name, and heads of a shape that came before, which are read faster.

The shape of a head is what it has in common with others: names and their order, and for answers the status, too.
`header_fields` reads any head. What a shape is known for only saves time: the result is always the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import OssProtocolError

_FIELD = re.compile(r"^([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)\r\n", re.MULTILINE)
# Values of learnt shapes: plain ones, and those that a reader would check again.
_PLAIN_VALUE = r"([!-~][ -~]*)(?<! )"
_LENGTH_VALUE = r"([0-9]{1,18})"
# `HTTP/1.1 206`: what tells one kind of answer from another.
BEGIN_LETTERS = 12


def header_fields(text: str, start: int) -> dict[str, str]:
    """Return the header fields from `start` on; the values of a repeated name are joined with commas."""
    pairs = _FIELD.findall(text, start)
    # Each match is one whole line. So if there are as many matches as line ends, every line has matched.
    if len(pairs) != text.count("\n", start):
        raise OssProtocolError("malformed header line in an HTTP head")
    headers = {name.lower(): value for name, value in pairs}
    if len(headers) != len(pairs) or " \r" in text or "\t" in text:
        headers = _joined(pairs)
    return headers


class HeadShapes:
    """Reads header lines with patterns that it has learnt from earlier heads. The result never depends on them.

    Answers of the same status, and requests with the same method, have the same names in the same order. One pattern
    then compares all names and cuts out all values, which halves the time for a head. A shape is learnt when it comes
    three times in a row: `AnswerShapes` learns most answers when they come the second time, and then they do not come
    here any more. To compile it costs as much as reading a hundred heads, so the number of shapes is limited. A head
    that matches no pattern, or is not plain, is read line by line.
    """

    MAX_LEARNT = 24
    MAX_NAMES = 64

    def __init__(self) -> None:
        self._patterns: dict[int | str, tuple[re.Pattern[str], tuple[str, ...]]] = {}
        self._seen: dict[int | str, tuple[tuple[str, ...], int]] = {}  # the last names, and how often they have come
        self.learnt = 0

    def fields(self, kind: int | str, text: str, start: int) -> dict[str, str]:
        """Return what `header_fields` returns; `kind` is the status, or the method."""
        known = self._patterns.get(kind)
        if known and (match := known[0].fullmatch(text, start)):
            return dict(zip(known[1], match.groups(), strict=True))
        headers = header_fields(text, start)
        if self.learnt < self.MAX_LEARNT:
            self._look_at(kind, text, start, tuple(headers))
        return headers

    def _look_at(self, kind: int | str, text: str, start: int, names: tuple[str, ...]) -> None:
        seen, times = self._seen.get(kind, ((), 0))
        times = times + 1 if seen == names else 1
        self._seen[kind] = names, times
        if times < 3:
            return
        spelled = [name for name, _ in _FIELD.findall(text, start)]
        if len(spelled) == len(names) <= self.MAX_NAMES:
            lines = "".join(rf"{re.escape(name)}: {_PLAIN_VALUE}\r\n" for name in spelled)
            self._patterns[kind] = re.compile(lines), names
            self.learnt += 1


class AnswerShape(NamedTuple):
    """What all answers of one shape have in common; `match` finds the values of a head that has it."""

    pattern: re.Pattern[str]
    names: tuple[str, ...]
    status: int
    keep_alive: bool


class AnswerShapes:
    """The shapes of answers with a body of known length, by the beginnings of their heads.

    An answer without an error, with a `Content-Length` and no coding, teaches its shape when it comes twice in a row.
    The value of `Connection` is part of the shape. All other values are free, and plain: a head with a value that a
    reader would have to look at twice (blanks around it, letters beyond ASCII) does not match.
    """

    MAX_LEARNT = 24
    MAX_NAMES = 64

    def __init__(self) -> None:
        self.known: dict[str, AnswerShape] = {}
        self._seen: dict[str, tuple[str, ...]] = {}
        self.learnt = 0

    def look_at(self, text: str, status: int, headers: dict[str, str], *, keep_alive: bool) -> None:
        """Learn from an answer of HTTP/1.1 that was read line by line."""
        names, begin = tuple(headers), text[:BEGIN_LETTERS]
        if status >= 400 or "content-length" not in headers or "transfer-encoding" in headers:
            return
        if self.learnt >= self.MAX_LEARNT or begin != f"HTTP/1.1 {status}" or not text.isascii():
            return
        if self._seen.get(begin) != names:
            self._seen[begin] = names
            return
        spelled = _FIELD.findall(text)
        if len(spelled) == len(names) <= self.MAX_NAMES:
            lines = "".join(rf"{re.escape(name)}: {_value_pattern(name, value)}\r\n" for name, value in spelled)
            first = rf"{re.escape(begin)}(?: [^\x00-\x08\x0a-\x1f\x7f]*)?\r\n"
            self.known[begin] = AnswerShape(re.compile(first + lines), names, status, keep_alive)
            self.learnt += 1


def _value_pattern(name: str, value: str) -> str:
    if name.lower() == "connection":
        return f"({re.escape(value)})"
    return _LENGTH_VALUE if name.lower() == "content-length" else _PLAIN_VALUE


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in pairs:
        name, value = name.lower(), value.rstrip(" \t")
        if name not in headers:
            headers[name] = value
        elif name != "content-length" or headers[name] != value:
            headers[name] += ", " + value
    return headers
