"""Heads of signed requests that repeat an earlier one but for the target and the signature, which are read faster.

A client that reads many objects sends such heads for a second, until the date changes. What is known of them only saves
time: the result is always that of `heads.parse_request_head`.
"""

from __future__ import annotations

import re

_FIRST_LINE = re.compile(r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) (/[!-~]*) HTTP/1\.1").fullmatch
_MARK = "Signature="
_SIGNATURE_LETTERS = 64
_is_signature = re.compile(r"[0-9a-f]{64}").fullmatch
# What may follow the signature of version 4 in its header.
_ENDS = ("", ",", " ")


class CommonHead:
    """What heads have in common that differ only in their target and signature; equal only to itself.

    `headers` are those of the first one. The `authorization` of another one is `begin`, its signature and `end`.
    """

    __slots__ = ("begin", "chunked", "content_length", "end", "expect_continue", "headers", "keep_alive")

    def __init__(
        self,
        headers: dict[str, str],
        content_length: int | None,
        *,
        chunked: bool,
        keep_alive: bool,
        expect_continue: bool,
    ) -> None:
        self.headers, self.content_length = headers.copy(), content_length
        self.chunked, self.keep_alive, self.expect_continue = chunked, keep_alive, expect_continue
        begin, mark, rest = headers["authorization"].partition(_MARK)
        self.begin, self.end = begin + mark, rest[_SIGNATURE_LETTERS:]

    def signature_of(self, headers: dict[str, str]) -> str:
        """Return the signature in the headers of such a head."""
        start = len(self.begin)
        return headers["authorization"][start : start + _SIGNATURE_LETTERS]


class RepeatedHeads:
    """The common heads of the last requests. The number of them is limited: then it begins anew."""

    MAX_KNOWN = 256

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], CommonHead] = {}

    def find(self, text: str) -> tuple[str, str, dict[str, str], CommonHead] | None:
        """Return method, target and headers of a head that repeats an earlier one, and what both have in common.

        `text` is the head with the end of its last line.
        """
        line, _, rest = text.partition("\r\n")
        begin, _, rest = rest.partition(_MARK)
        signature = rest[:_SIGNATURE_LETTERS]
        common = self._known.get((begin, rest[_SIGNATURE_LETTERS:]))
        if common is None:
            return None
        first = _FIRST_LINE(line)
        if first is None or not _is_signature(signature):
            return None
        headers = common.headers.copy()
        headers["authorization"] = f"{common.begin}{signature}{common.end}"
        return first[1], first[2], headers, common

    def remember(self, text: str, common: CommonHead) -> None:
        """Remember the head `text`, if all that differs in the next one is the target and the signature."""
        _, _, rest = text.partition("\r\n")
        begin, _, signed = rest.partition(_MARK)
        signature, end = signed[:_SIGNATURE_LETTERS], signed[_SIGNATURE_LETTERS:]
        if not (text.isascii() and _is_signature(signature)) or _MARK in end:
            return
        if common.begin.endswith(_MARK) and common.end[:1] in _ENDS:
            if len(self._known) >= self.MAX_KNOWN:
                self._known.clear()
            self._known[begin, end] = common
