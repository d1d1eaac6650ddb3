"""Faults of the answer: its status, headers, document and bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from .blobs import BlobFolder, BlobSpan
from .effects import Effect, Options, Steps
from .exchange import Call, Reply
from .wire import FOREVER, Hangup, Pause, Step, in_chunks, in_small_pieces, split_at

_TOKEN = re.compile(rb"<NextContinuationToken>[^<]*</NextContinuationToken>")
_TRUNCATED = re.compile(rb"<IsTruncated>[^<]*</IsTruncated>")
_PREFIX = re.compile(rb"(?<!<CommonPrefixes>)<Prefix>[^<]*</Prefix>|<Prefix/>")
_FILLER_LINE = b"x-filler: " + b"f" * 1000 + b"\r\n"


# --- the reply


def wrong_crc(_options: Options) -> Effect:
    def reshape(_call: Call, reply: Reply) -> Reply:
        crc = int(reply.headers.get("x-oss-hash-crc64ecma", "0"))
        reply.headers["x-oss-hash-crc64ecma"] = str(crc ^ 1)
        return reply

    return Effect(reshape=reshape)


def headers(options: Options) -> Effect:
    changed = options["headers"]

    def reshape(_call: Call, reply: Reply) -> Reply:
        for name, value in changed.items():
            if value is None:
                reply.headers.pop(name, None)
            else:
                reply.headers[name] = value
        return reply

    return Effect(reshape=reshape)


def status(options: Options) -> Effect:
    """Perform the call and answer with another status, like a proxy that rewrites answers."""
    other = options["status"]

    def reshape(_call: Call, reply: Reply) -> Reply:
        reply.status = other
        if reply.status in (204, 304):
            reply.body = b""
        return reply

    return Effect(reshape=reshape)


def malformed_xml(options: Options) -> Effect:
    def reshape(_call: Call, reply: Reply) -> Reply:
        if isinstance(reply.body, bytes):
            reply.body = options.get("data") or reply.body[: len(reply.body) // 2]
        return reply

    return Effect(reshape=reshape)


def repeat_token(_options: Options) -> Effect:
    """Return the token of this page again, so that a client that follows it never makes progress."""

    def reshape(call: Call, reply: Reply) -> Reply:
        if isinstance(reply.body, bytes):
            token = call.parameter("continuation-token").encode() or b"-"
            reply.body = _TRUNCATED.sub(b"<IsTruncated>true</IsTruncated>", _TOKEN.sub(b"", reply.body)).replace(
                b"</ListBucketResult>", b"<NextContinuationToken>%b</NextContinuationToken></ListBucketResult>" % token
            )
        return reply

    return Effect(reshape=reshape)


def foreign_keys(_options: Options) -> Effect:
    """List the whole bucket instead of the prefix that was asked for."""

    def rewrite(call: Call) -> None:
        call.query = [pair for pair in call.query if pair[0] != "prefix"]

    def reshape(_call: Call, reply: Reply) -> Reply:
        if isinstance(reply.body, bytes):
            reply.body = _PREFIX.sub(b"", reply.body)
        return reply

    return Effect(rewrite=rewrite, reshape=reshape)


# --- the bytes sent


def latency(options: Options) -> Effect:
    pause = Pause(options.get("seconds", 0.1))
    return Effect(disturb=lambda steps, _: [pause, *steps] if isinstance(steps, list) else _after(pause, steps))


def stall_head(options: Options) -> Effect:
    return latency({"seconds": options.get("seconds", FOREVER)})


def _after(first: Step, steps: Steps) -> Iterator[Step]:
    yield first
    yield from steps


def _in_body(at: int | None, change: Callable[[list[Step], list[Step], BlobFolder], Steps]) -> Effect:
    """Return an effect that changes an answer at byte `at` of its body, by default in the middle."""

    def disturb(steps: Steps, blobs: BlobFolder) -> Steps:
        lead, head, body = _take_head(list(steps))
        position = sum(map(_size, body)) // 2 if at is None else at
        before, after = split_at(body, position)
        return [*lead, head, *change(before, after, blobs)]

    return Effect(disturb=disturb)


def _take_head(steps: list[Step]) -> tuple[list[Step], Step, list[Step]]:
    """Return the steps before the head (pauses), the head, and the steps of the body."""
    for position, step in enumerate(steps):
        if isinstance(step, bytes):
            return steps[:position], step, steps[position + 1 :]
    return steps, b"", []


def _size(step: Step) -> int:
    return len(step) if isinstance(step, bytes) else step.size if isinstance(step, BlobSpan) else 0


def reset_body(options: Options) -> Effect:
    return _in_body(options.get("at"), lambda before, _after, _blobs: [*before, Hangup(with_reset=True)])


def truncate(options: Options) -> Effect:
    return _in_body(options.get("at"), lambda before, _after, _blobs: [*before, Hangup(with_reset=False)])


def stall(options: Options) -> Effect:
    pause = Pause(options.get("seconds", FOREVER))
    return _in_body(options.get("at"), lambda before, after, _blobs: [*before, pause, *after])


def drip(options: Options) -> Effect:
    piece_bytes, seconds = options.get("piece_bytes", 1024), options.get("seconds", 0.05)
    return _in_body(0, lambda _before, after, _blobs: in_small_pieces(after, piece_bytes, seconds))


def flip(options: Options) -> Effect:
    def change(before: list[Step], after: list[Step], blobs: BlobFolder) -> Steps:
        flipped, rest = split_at(after, 1)
        if not flipped:
            return before
        step = flipped[0]
        byte = step if isinstance(step, bytes) else blobs.read([step]) if isinstance(step, BlobSpan) else b""
        return [*before, bytes([byte[0] ^ 1]), *rest]

    return _in_body(options.get("at"), change)


def chunked(options: Options) -> Effect:
    chunk_bytes = options.get("chunk_bytes", 64 * 1024)

    def reshape(_call: Call, reply: Reply) -> Reply:
        if reply.length is None:
            reply.headers["Transfer-Encoding"] = "chunked"
        return reply

    def disturb(steps: Steps, _blobs: BlobFolder) -> Steps:
        lead, head, body = _take_head(list(steps))
        is_chunked = isinstance(head, bytes) and b"Transfer-Encoding: chunked" in head
        return [*lead, head, *(in_chunks(body, chunk_bytes) if is_chunked else body)]

    return Effect(reshape=reshape, disturb=disturb)


def lying_length(options: Options) -> Effect:
    """Announce more bytes than are sent, and close; or fewer, so that the rest precedes the next answer."""
    delta = options.get("delta", 10)

    def reshape(_call: Call, reply: Reply) -> Reply:
        reply.headers["Content-Length"] = str(max(reply.body_size() + delta, 0))
        return reply

    def disturb(steps: Steps, _blobs: BlobFolder) -> Steps:
        return [*steps, Hangup(with_reset=False)] if delta > 0 else steps

    return Effect(reshape=reshape, disturb=disturb)


def garbage(options: Options) -> Effect:
    data = options.get("data") or bytes(range(128, 256)) * 4

    def disturb(_steps: Steps, _blobs: BlobFolder) -> Steps:
        return [data, Hangup(with_reset=False)]

    return Effect(disturb=disturb)


def endless_head(_options: Options) -> Effect:
    def disturb(steps: Steps, _blobs: BlobFolder) -> Iterator[Step]:
        lead, head, _ = _take_head(list(steps))
        yield from lead
        if isinstance(head, bytes):
            yield head.partition(b"\r\n\r\n")[0] + b"\r\n"
        while True:
            yield _FILLER_LINE

    return Effect(disturb=disturb, is_endless=True)


def close_after(options: Options) -> Effect:
    """Answer, then close: announced in the head, or without notice, like a server that closes idle connections."""

    def reshape(_call: Call, reply: Reply) -> Reply:
        if options.get("announced", False):
            reply.headers["Connection"] = "close"
        return reply

    return Effect(reshape=reshape, disturb=lambda steps, _: [*steps, Hangup(with_reset=False)])
