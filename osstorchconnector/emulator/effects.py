"""The catalogue of faults: what each does to a request, by name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .blobs import BlobFolder, BlobSpan
from .effect import Effect, Steps
from .exchange import Call, Reply
from .refusals import CODES, Refused
from .service import Service
from .wire import FOREVER, Early, Hangup, Pause, Step, in_chunks, in_small_pieces, split_at

Options = Mapping[str, Any]

_TOKEN = re.compile(rb"<NextContinuationToken>[^<]*</NextContinuationToken>")
_TRUNCATED = re.compile(rb"<IsTruncated>[^<]*</IsTruncated>")
_PREFIX = re.compile(rb"(?<!<CommonPrefixes>)<Prefix>[^<]*</Prefix>|<Prefix/>")
_FILLER_LINE = b"x-filler: " + b"f" * 1000 + b"\r\n"


def make_effect(name: str, options: Options) -> Effect:
    """Return the effect of a fault; raise `ValueError` for an unknown name or option."""
    build: Callable[[Options], Effect]
    if name in CODES or name in _SHORT_CODES:
        build, allowed = _refuse, _REFUSE_OPTIONS
        options = {"code": _SHORT_CODES.get(name, name), **options}
    elif name in CATALOGUE:
        build, allowed = CATALOGUE[name]
    else:
        raise ValueError(f"no fault {name!r}; there are {', '.join(sorted({*CATALOGUE, *_SHORT_CODES}))} and OSS codes")
    unknown = set(options) - allowed
    if unknown:
        raise ValueError(f"fault {name!r} has no option {sorted(unknown)}; it has {sorted(allowed)}")
    try:
        effect = build(options)
    except KeyError as error:
        raise ValueError(f"fault {name!r} needs the option {error}") from None
    return Effect(**{**effect.__dict__, "name": name})


# --- instead of the answer


def _refuse(options: Options) -> Effect:
    refused = Refused(
        options.get("code", "InternalError"),
        options.get("message", ""),
        status=options.get("status", 0),
        headers=options.get("headers"),
    )
    during_body = (0, Early()) if options.get("early") else None
    return Effect(instead=refused, after_work=options.get("after_work", False), during_body=during_body)


def _answer(options: Options) -> Effect:
    reply = Reply(options.get("status", 200), dict(options.get("headers") or {}), options.get("data", b""))
    return Effect(instead=reply, after_work=options.get("after_work", False))


def _html(options: Options) -> Effect:
    page = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
    reply = Reply(options.get("status", 502), {"Content-Type": "text/html"}, page, is_foreign=True)
    return Effect(instead=reply, after_work=options.get("after_work", False))


def _redirect(options: Options) -> Effect:
    return Effect(instead=Reply(options.get("status", 307), {"Location": options["location"]}))


def _reset(options: Options) -> Effect:
    return Effect(instead=Hangup(with_reset=True), after_work=options.get("after_work", False))


def _close(options: Options) -> Effect:
    return Effect(instead=Hangup(with_reset=False), after_work=options.get("after_work", False))


def _lost_answer(_options: Options) -> Effect:
    return Effect(instead=Hangup(with_reset=True), after_work=True)


# --- the call and what is stored


def _ignore_range(_options: Options) -> Effect:
    def rewrite(call: Call) -> None:
        call.headers.pop("range", None)

    return Effect(rewrite=rewrite)


def _replace(options: Options) -> Effect:
    def afterwards(service: Service, call: Call) -> None:
        service.overwrite(call.bucket, call.key, options.get("data"))

    return Effect(afterwards=afterwards)


def _delete(_options: Options) -> Effect:
    def afterwards(service: Service, call: Call) -> None:
        service.bucket(call.bucket).delete(call.key)

    return Effect(afterwards=afterwards)


# --- the reply


def _wrong_crc(_options: Options) -> Effect:
    def reshape(_call: Call, reply: Reply) -> Reply:
        crc = int(reply.headers.get("x-oss-hash-crc64ecma", "0"))
        reply.headers["x-oss-hash-crc64ecma"] = str(crc ^ 1)
        return reply

    return Effect(reshape=reshape)


def _headers(options: Options) -> Effect:
    def reshape(_call: Call, reply: Reply) -> Reply:
        for name, value in options["headers"].items():
            if value is None:
                reply.headers.pop(name, None)
            else:
                reply.headers[name] = value
        return reply

    return Effect(reshape=reshape)


def _status(options: Options) -> Effect:
    """Perform the call and answer with another status, like a proxy that rewrites answers."""

    def reshape(_call: Call, reply: Reply) -> Reply:
        reply.status = options["status"]
        if reply.status in (204, 304):
            reply.body = b""
        return reply

    return Effect(reshape=reshape)


def _malformed_xml(options: Options) -> Effect:
    def reshape(_call: Call, reply: Reply) -> Reply:
        if isinstance(reply.body, bytes):
            reply.body = options.get("data") or reply.body[: len(reply.body) // 2]
        return reply

    return Effect(reshape=reshape)


def _repeat_token(_options: Options) -> Effect:
    """Return the token of this page again, so that a client that follows it never makes progress."""

    def reshape(call: Call, reply: Reply) -> Reply:
        if isinstance(reply.body, bytes):
            token = call.parameter("continuation-token").encode() or b"-"
            reply.body = _TRUNCATED.sub(b"<IsTruncated>true</IsTruncated>", _TOKEN.sub(b"", reply.body)).replace(
                b"</ListBucketResult>", b"<NextContinuationToken>%b</NextContinuationToken></ListBucketResult>" % token
            )
        return reply

    return Effect(reshape=reshape)


def _duplicate_page(_options: Options) -> Effect:
    """Return the listing's first page again, with the token of its second page."""

    def rewrite(call: Call) -> None:
        call.query = [pair for pair in call.query if pair[0] not in ("continuation-token", "marker")]

    return Effect(rewrite=rewrite)


def _foreign_keys(_options: Options) -> Effect:
    """List the whole bucket instead of the prefix that was asked for."""

    def rewrite(call: Call) -> None:
        call.query = [pair for pair in call.query if pair[0] != "prefix"]

    def reshape(_call: Call, reply: Reply) -> Reply:
        if isinstance(reply.body, bytes):
            reply.body = _PREFIX.sub(b"", reply.body)
        return reply

    return Effect(rewrite=rewrite, reshape=reshape)


# --- the bytes sent


def _latency(options: Options) -> Effect:
    pause = Pause(options.get("seconds", 0.1))
    return Effect(disturb=lambda steps, _: [pause, *steps] if isinstance(steps, list) else _after(pause, steps))


def _stall_head(options: Options) -> Effect:
    return _latency({"seconds": options.get("seconds", FOREVER)})


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


def _reset_body(options: Options) -> Effect:
    return _in_body(options.get("at"), lambda before, _after, _blobs: [*before, Hangup(with_reset=True)])


def _truncate(options: Options) -> Effect:
    return _in_body(options.get("at"), lambda before, _after, _blobs: [*before, Hangup(with_reset=False)])


def _stall(options: Options) -> Effect:
    pause = Pause(options.get("seconds", FOREVER))
    return _in_body(options.get("at"), lambda before, after, _blobs: [*before, pause, *after])


def _drip(options: Options) -> Effect:
    piece_bytes, seconds = options.get("piece_bytes", 1024), options.get("seconds", 0.05)
    return _in_body(0, lambda _before, after, _blobs: in_small_pieces(after, piece_bytes, seconds))


def _flip(options: Options) -> Effect:
    def change(before: list[Step], after: list[Step], blobs: BlobFolder) -> Steps:
        flipped, rest = split_at(after, 1)
        if not flipped:
            return before
        step = flipped[0]
        byte = step if isinstance(step, bytes) else blobs.read([step]) if isinstance(step, BlobSpan) else b""
        return [*before, bytes([byte[0] ^ 1]), *rest]

    return _in_body(options.get("at"), change)


def _chunked(options: Options) -> Effect:
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


def _lying_length(options: Options) -> Effect:
    """Announce more bytes than are sent, and close; or fewer, so that the rest precedes the next answer."""
    delta = options.get("delta", 10)

    def reshape(_call: Call, reply: Reply) -> Reply:
        reply.headers["Content-Length"] = str(max(reply.body_size() + delta, 0))
        return reply

    def disturb(steps: Steps, _blobs: BlobFolder) -> Steps:
        return [*steps, Hangup(with_reset=False)] if delta > 0 else steps

    return Effect(reshape=reshape, disturb=disturb)


def _garbage(options: Options) -> Effect:
    data = options.get("data") or bytes(range(128, 256)) * 4

    def disturb(_steps: Steps, _blobs: BlobFolder) -> Steps:
        return [data, Hangup(with_reset=False)]

    return Effect(disturb=disturb)


def _endless_head(_options: Options) -> Effect:
    def disturb(steps: Steps, _blobs: BlobFolder) -> Iterator[Step]:
        lead, head, _ = _take_head(list(steps))
        yield from lead
        if isinstance(head, bytes):
            yield head.partition(b"\r\n\r\n")[0] + b"\r\n"
        while True:
            yield _FILLER_LINE

    return Effect(disturb=disturb, is_endless=True)


def _close_after(options: Options) -> Effect:
    """Answer, then close: announced in the head, or without notice, like a server that closes idle connections."""

    def reshape(_call: Call, reply: Reply) -> Reply:
        if options.get("announced", False):
            reply.headers["Connection"] = "close"
        return reply

    return Effect(reshape=reshape, disturb=lambda steps, _: [*steps, Hangup(with_reset=False)])


# --- while a body is being received


def _reset_upload(options: Options) -> Effect:
    return Effect(during_body=(options.get("at", 0), Hangup(with_reset=True)))


def _stall_upload(options: Options) -> Effect:
    return Effect(during_body=(options.get("at", 0), Pause(options.get("seconds", FOREVER))))


def _drip_upload(options: Options) -> Effect:
    return Effect(read_seconds=options.get("seconds", 0.05))


def _flip_upload(options: Options) -> Effect:
    return Effect(flipped_at=options.get("at", 0))


_SHORT_CODES = {
    "400": "RequestTimeout",
    "403": "AccessDenied",
    "404": "NoSuchKey",
    "412": "PreconditionFailed",
    "429": "QpsLimitExceeded",
    "500": "InternalError",
    "503": "ServiceUnavailable",
    "expired_token": "SecurityTokenExpired",
    "skewed": "RequestTimeTooSkewed",
    "slow_down": "ServiceUnavailable",
}
_REFUSE_OPTIONS = frozenset({"code", "message", "status", "headers", "after_work", "early"})
_NO_OPTIONS: frozenset[str] = frozenset()

CATALOGUE: dict[str, tuple[Callable[[Options], Effect], frozenset[str]]] = {
    "error": (_refuse, _REFUSE_OPTIONS),
    "answer": (_answer, frozenset({"status", "headers", "data", "after_work"})),
    "html": (_html, frozenset({"status", "after_work"})),
    "redirect": (_redirect, frozenset({"location", "status"})),
    "reset": (_reset, frozenset({"after_work"})),
    "close": (_close, frozenset({"after_work"})),
    "lost_answer": (_lost_answer, _NO_OPTIONS),
    "ignore_range": (_ignore_range, _NO_OPTIONS),
    "replace": (_replace, frozenset({"data"})),
    "delete": (_delete, _NO_OPTIONS),
    "wrong_crc": (_wrong_crc, _NO_OPTIONS),
    "headers": (_headers, frozenset({"headers"})),
    "status": (_status, frozenset({"status"})),
    "malformed_xml": (_malformed_xml, frozenset({"data"})),
    "repeat_token": (_repeat_token, _NO_OPTIONS),
    "duplicate_page": (_duplicate_page, _NO_OPTIONS),
    "foreign_keys": (_foreign_keys, _NO_OPTIONS),
    "latency": (_latency, frozenset({"seconds"})),
    "stall_head": (_stall_head, frozenset({"seconds"})),
    "reset_body": (_reset_body, frozenset({"at"})),
    "truncate": (_truncate, frozenset({"at"})),
    "stall": (_stall, frozenset({"at", "seconds"})),
    "drip": (_drip, frozenset({"piece_bytes", "seconds"})),
    "flip": (_flip, frozenset({"at"})),
    "chunked": (_chunked, frozenset({"chunk_bytes"})),
    "lying_length": (_lying_length, frozenset({"delta"})),
    "garbage": (_garbage, frozenset({"data"})),
    "endless_head": (_endless_head, _NO_OPTIONS),
    "close_after": (_close_after, frozenset({"announced"})),
    "reset_upload": (_reset_upload, frozenset({"at"})),
    "drip_upload": (_drip_upload, frozenset({"seconds"})),
    "flip_upload": (_flip_upload, frozenset({"at"})),
    "stall_upload": (_stall_upload, frozenset({"at", "seconds"})),
}
