"""What one fault does, and where it takes hold of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .blobs import BlobFolder
from .exchange import Call, Reply
from .refusals import Refused
from .service import Service
from .wire import Early, Hangup, Pause, Step

Steps = Iterable[Step]


def _same_call(call: Call) -> None:
    """Leave the call as it is."""


def _same_reply(_call: Call, reply: Reply) -> Reply:
    return reply


def _same_steps(steps: Steps, _blobs: BlobFolder) -> Steps:
    return steps


def _nothing(_service: Service, _call: Call) -> None:
    """Do nothing to what is stored."""


@dataclass(frozen=True)
class Effect:
    """What one fault does: to the call before the work, in place of the work, to the reply, to the steps that send it,
    to what is stored, and while a body is being received.

    `instead` takes the place of the operation's result, a refusal, a reply or a hang-up; with `after_work` the
    operation is done all the same. `during_body` happens once so many bytes of the request's body have arrived;
    `read_seconds` pass after each piece of it, and its byte at `flipped_at` arrives wrong. Where several faults strike
    together, an `is_endless` one comes last.
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
