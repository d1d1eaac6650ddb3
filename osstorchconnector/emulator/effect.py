"""What one fault does to a request, and at which points.

A request passes these points in order; `frontend` applies the fields there:

    the head is there         `rewrite` changes the call
    the body arrives          `during_body` interrupts it once, `read_seconds` slows it down, `flipped_at` damages it
    the call is performed     `instead` replaces its result; the call is performed all the same with `after_work`
    the reply is there        `reshape` changes it
    the reply became steps    `disturb` changes these: what is sent, when, and how the connection ends
    the steps are known       `afterwards` changes what is stored
"""

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
