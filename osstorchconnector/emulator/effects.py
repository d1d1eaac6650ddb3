"""What one fault does to a request, and at which points; the faults that leave a reply as it is.

A request passes these points in order; `frontend` applies the fields there:

    the head is there         `rewrite` changes the call
    the body arrives          `during_body` interrupts it once, `read_seconds` slows it down, `flipped_at` damages it
    the call is performed     `instead` replaces its result; the call is performed all the same with `after_work`
    the reply is there        `reshape` changes it
    the reply became steps    `disturb` changes these: what is sent, when, and how the connection ends
    the steps are known       `afterwards` changes what is stored

Each fault is a function that gets the fault's options. An option without a default is read at once, not when the answer
is made, so that `faults.make_effect` can say that it is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .blobs import BlobFolder
from .exchange import Call, Reply
from .refusals import Refused
from .service import Service
from .wire import FOREVER, Early, Hangup, Pause, Step

Options = Mapping[str, Any]
Steps = Iterable[Step]


def _same_call(call: Call) -> None:
    """Do not change the call."""


def _same_reply(_call: Call, reply: Reply) -> Reply:
    return reply


def _same_steps(steps: Steps, _blobs: BlobFolder) -> Steps:
    return steps


def _nothing(_service: Service, _call: Call) -> None:
    """Do not change what is stored."""


@dataclass(frozen=True)
class Effect:
    """What one fault does. The defaults do nothing.

    `instead` is a refusal, a reply or a hang-up. `during_body` holds a number of bytes and what happens when that many
    bytes of the request's body have arrived. `read_seconds` is the pause after each block of the body. `flipped_at` is
    the position of the byte that arrives wrong. If a request has several faults, an `is_endless` one is applied last.
    """

    name: str = ""
    rewrite: Callable[[Call], None] = _same_call
    instead: Refused | Reply | Hangup | None = None
    after_work: bool = False
    reshape: Callable[[Call, Reply], Reply] = _same_reply
    disturb: Callable[[Steps, BlobFolder], Steps] = _same_steps
    afterwards: Callable[[Service, Call], None] = _nothing
    during_body: tuple[int, Pause | Hangup | Early] | None = None
    read_seconds: float = 0.0
    flipped_at: int | None = None
    is_endless: bool = False


# --- instead of the answer


def refuse(options: Options) -> Effect:
    refused = Refused(
        options.get("code", "InternalError"),
        options.get("message", ""),
        status=options.get("status", 0),
        headers=options.get("headers"),
    )
    during_body = (0, Early()) if options.get("early") else None
    return Effect(instead=refused, after_work=options.get("after_work", False), during_body=during_body)


def answer(options: Options) -> Effect:
    reply = Reply(options.get("status", 200), dict(options.get("headers") or {}), options.get("data", b""))
    return Effect(instead=reply, after_work=options.get("after_work", False))


def html(options: Options) -> Effect:
    page = b"<html><body><h1>502 Bad Gateway</h1></body></html>"
    reply = Reply(options.get("status", 502), {"Content-Type": "text/html"}, page, is_foreign=True)
    return Effect(instead=reply, after_work=options.get("after_work", False))


def redirect(options: Options) -> Effect:
    return Effect(instead=Reply(options.get("status", 307), {"Location": options["location"]}))


def reset(options: Options) -> Effect:
    return Effect(instead=Hangup(with_reset=True), after_work=options.get("after_work", False))


def close(options: Options) -> Effect:
    return Effect(instead=Hangup(with_reset=False), after_work=options.get("after_work", False))


def lost_answer(_options: Options) -> Effect:
    return Effect(instead=Hangup(with_reset=True), after_work=True)


# --- the request and what is stored


def ignore_range(_options: Options) -> Effect:
    def rewrite(call: Call) -> None:
        call.headers.pop("range", None)

    return Effect(rewrite=rewrite)


def replace(options: Options) -> Effect:
    def afterwards(service: Service, call: Call) -> None:
        service.overwrite(call.bucket, call.key, options.get("data"))

    return Effect(afterwards=afterwards)


def delete(_options: Options) -> Effect:
    def afterwards(service: Service, call: Call) -> None:
        service.bucket(call.bucket).delete(call.key)

    return Effect(afterwards=afterwards)


def duplicate_page(_options: Options) -> Effect:
    """Return the listing's first page again, with the token of its second page."""

    def rewrite(call: Call) -> None:
        call.query = [pair for pair in call.query if pair[0] not in ("continuation-token", "marker")]

    return Effect(rewrite=rewrite)


# --- while a body is being received


def reset_upload(options: Options) -> Effect:
    return Effect(during_body=(options.get("at", 0), Hangup(with_reset=True)))


def stall_upload(options: Options) -> Effect:
    return Effect(during_body=(options.get("at", 0), Pause(options.get("seconds", FOREVER))))


def drip_upload(options: Options) -> Effect:
    return Effect(read_seconds=options.get("seconds", 0.05))


def flip_upload(options: Options) -> Effect:
    return Effect(flipped_at=options.get("at", 0))
