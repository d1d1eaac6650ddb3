"""What a connection of the data path is doing: its state, and the exchange on it.

A connection carries one exchange at a time, from `begin` to `end`. Its state tells what the next bytes are:

    state            event                                      next state
    ---------------  -----------------------------------------  ---------------
    CONNECTING       the socket is connected                    IDLE
    IDLE             begin: the request is sent                 AWAITING_HEAD
    AWAITING_HEAD    a head and its whole body                  ANSWERED
                     a head, the length of its body is known    READING_BODY
                     a head, its body comes in chunks           READING_CHUNKS
    READING_BODY     the last byte of the body                  ANSWERED
    READING_CHUNKS   the last chunk                             ANSWERED
    ANSWERED         end                                        IDLE
    every state      see below                                  LOST

LOST is final: the connection is never used again. That is so after any failure, timeout or abort, when the connection
is closed, when bytes arrive that nobody asked for (in IDLE and ANSWERED), and when an answer is whole but allows no
further request: it says so, or it was sent before the request's body was read. Only in READING_BODY do bytes go into
the caller's memory. The request's body, if any, is written (`send_body`) while the head is awaited.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum

from ...protocol.chunked import ChunkedDecoder
from ...protocol.heads import ResponseHead
from ...protocol.values import Buffer
from ...redaction import SecretBuffer
from ..memory import Memory
from .base import BodySink, PeerActivity, Transitions

INCOMING_BYTES = 256 * 1024


class ConnectionState(IntEnum):
    """What the next bytes on a connection are; see the table above."""

    CONNECTING = 0
    IDLE = 1
    AWAITING_HEAD = 2
    READING_BODY = 3
    READING_CHUNKS = 4
    ANSWERED = 5
    LOST = 6


CONNECTING, IDLE, AWAITING_HEAD, READING_BODY, READING_CHUNKS, ANSWERED, LOST = ConnectionState


CONNECTED = Transitions({CONNECTING: IDLE})
BEGUN = Transitions({IDLE: AWAITING_HEAD})
BODY_BEGUN = Transitions({AWAITING_HEAD: READING_BODY})
CHUNKS_BEGUN = Transitions({AWAITING_HEAD: READING_CHUNKS})
WHOLE = Transitions({AWAITING_HEAD: ANSWERED, READING_BODY: ANSWERED, READING_CHUNKS: ANSWERED})
ENDED = Transitions({ANSWERED: IDLE})


class Incoming:
    """Memory that receives the beginnings of answers, and small answers whole."""

    __slots__ = ("data", "view")

    def __init__(self) -> None:
        self.data = SecretBuffer(INCOMING_BYTES)  # an error document echoes what was signed
        self.view = memoryview(self.data)


class WireExchange:
    """One request and its answer, from `begin` to `end`, which sets all but the last three.

    It has no constructor of its own: one is made for every small object, and the call would count.
    """

    __slots__ = (
        *("answer", "begun", "body", "deadline", "decoder", "gathered", "head", "method"),
        *("activity", "received", "sending", "sink", "unwritten_bytes"),
    )
    method: str
    sink: BodySink
    answer: asyncio.Future[ResponseHead]
    deadline: float
    begun: float
    head: ResponseHead | None
    sending: tuple[Buffer, ...]  # the request's body
    unwritten_bytes: int  # how much of it is not given to asyncio yet
    activity: PeerActivity | None  # set at the first tick; most exchanges end before it
    received: int
    body: Memory  # set in READING_BODY: the caller's memory, of which `received` bytes are filled
    decoder: ChunkedDecoder  # set in READING_CHUNKS
    gathered: SecretBuffer  # set in READING_CHUNKS: the decoded body so far
