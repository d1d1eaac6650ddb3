"""Answers as steps: bytes and spans of files to send, pauses, and ways to hang up.

A fault changes such a list. So everything that can go wrong on a wire is a value, which tests check without a socket.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from ..protocol.heads import encode_response_head
from .blobs import BlobFolder, BlobSpan, Content, size_of
from .documents import error_document
from .exchange import XML_TYPE, Reply
from .refusals import Refused

INLINE_BYTES = 16 * 1024
FOREVER = math.inf


class Pause(NamedTuple):
    """Send nothing for a while."""

    seconds: float


class Hangup(NamedTuple):
    """Close the connection: with a reset, or in good order."""

    with_reset: bool = True


class Until(NamedTuple):
    """Send nothing before this time of `time.monotonic`."""

    time: float


class Early(NamedTuple):
    """Answer now, without the rest of the request's body, then hang up."""


Step = bytes | BlobSpan | Pause | Hangup | Until
_BYTES = (bytes, BlobSpan)


def size_of_step(step: Step) -> int:
    if isinstance(step, bytes):
        return len(step)
    return step.size if isinstance(step, BlobSpan) else 0


def cut_step(step: bytes | BlobSpan, start: int, stop: int) -> bytes | BlobSpan:
    """Return bytes `start` to `stop` of a step."""
    if isinstance(step, bytes):
        return step[start:stop]
    return BlobSpan(step.blob, step.start + start, step.start + min(stop, step.size))


def split_at(steps: Iterable[Step], position: int) -> tuple[list[Step], list[Step]]:
    """Return the steps that send the first `position` bytes, and those that send the rest."""
    before: list[Step] = []
    after: list[Step] = []
    for step in steps:
        size = size_of_step(step)
        if after or (position == 0 and size):
            after.append(step)
        elif size <= position or not isinstance(step, bytes | BlobSpan):
            before.append(step)
            position -= size
        else:
            before.append(cut_step(step, 0, position))
            after.append(cut_step(step, position, size))
            position = 0
    return before, after


def in_small_pieces(steps: Iterable[Step], piece_bytes: int, seconds: float) -> Iterator[Step]:
    """Yield the same bytes in small pieces, with a pause after each."""
    for step in steps:
        if not isinstance(step, bytes | BlobSpan):
            yield step
            continue
        for start in range(0, size_of_step(step), piece_bytes):
            yield cut_step(step, start, start + piece_bytes)
            yield Pause(seconds)


def in_loads(steps: Iterable[Step], load_bytes: int) -> Iterator[tuple[int, list[Step]]]:
    """Yield the same steps in lists of `load_bytes` each, the last with less, together with their size.

    A step that sends nothing is alone in its list.
    """
    load: list[Step] = []
    filled = 0
    for step in steps:
        if not isinstance(step, _BYTES):
            if load:
                yield filled, load
            yield 0, [step]
            load, filled = [], 0
            continue
        size = size_of_step(step)
        while filled + size > load_bytes:
            if room := load_bytes - filled:
                load.append(cut_step(step, 0, room))
                step, size = cut_step(step, room, size), size - room
            yield load_bytes, load
            load, filled = [], 0
        load.append(step)
        filled += size
    if load:
        yield filled, load


def in_chunks(body: Iterable[Step], chunk_bytes: int) -> Iterator[Step]:
    """Yield a body in chunked transfer coding."""
    for step in body:
        if not isinstance(step, bytes | BlobSpan):
            yield step
            continue
        for start in range(0, size_of_step(step), chunk_bytes):
            chunk = cut_step(step, start, start + chunk_bytes)
            yield f"{size_of_step(chunk):x}\r\n".encode()
            yield chunk
            yield b"\r\n"
    yield b"0\r\n\r\n"


def common_headers(*, date: str, server_time_ms: int, request_id: str, keep_alive: bool) -> dict[str, str]:
    """Return the headers that every answer has."""
    return {
        "Server": "AliyunOSS",
        "Date": date,
        "Connection": "keep-alive" if keep_alive else "close",
        "x-oss-request-id": request_id,
        "x-oss-server-time": str(server_time_ms),
    }


def encode_reply_head(reply: Reply, common: dict[str, str]) -> bytes:
    headers = {**({"Connection": common["Connection"]} if reply.is_foreign else common), **reply.headers}
    if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
        headers["Content-Length"] = str(reply.body_size() if reply.length is None else reply.length)
    return encode_response_head(reply.status, headers.items())


def body_steps(body: bytes | Content, blobs: BlobFolder) -> list[Step]:
    """Return the steps that send a body: bytes if it is small, spans of files if it is large."""
    if isinstance(body, bytes):
        return [body] if body else []
    if size_of(body) <= INLINE_BYTES:
        return [blobs.read_small(body)] if body else []
    return list(body)


def error_reply(refused: Refused, *, method: str, request_id: str, host: str) -> Reply:
    """Return the answer to a refused request: XML, which is in a header if the answer has no body."""
    headers = {**refused.headers, "x-oss-ec": refused.ec}
    if refused.status == 304:
        return Reply(304, headers)
    document = error_document(refused, request_id=request_id, host=host)
    headers["Content-Type"] = XML_TYPE
    if method != "HEAD":
        return Reply(refused.status, headers, document)
    headers["x-oss-err"] = base64.b64encode(document).decode()
    return Reply(refused.status, headers, length=len(document))
