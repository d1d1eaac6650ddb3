"""Between connections and service: heads become calls, replies become steps, faults strike, everything is counted."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

from ..protocol.heads import RequestHead, http_date
from .blobs import Content
from .counters import Recorder
from .dispatch import admit, open_intake, perform
from .effect import Effect
from .exchange import Call, Reply
from .faults import FaultBook, names_of
from .intake import NOTHING, Intake
from .operations.arguments import TRAFFIC_LIMIT, traffic_limit
from .refusals import Refused
from .routing import Hosts, Place, decode_query, name_operation
from .service import Service
from .wire import (
    Early,
    Hangup,
    Pause,
    Step,
    body_steps,
    common_headers,
    encode_reply_head,
    error_reply,
    in_small_pieces,
)

# How often a request with a traffic limit is given its share.
PACE_SECONDS = 0.1

_logger = logging.getLogger(__name__)


class Frontend:
    """The service with all that surrounds it: addresses, faults, counters."""

    def __init__(self, service: Service, hosts: Hosts | None = None) -> None:
        self.service = service
        self.hosts = hosts or Hosts()
        self.faults = FaultBook()
        self.recorder = Recorder()
        self._id_prefix = os.urandom(6).hex().upper()
        self._last_id = 0
        self._date: tuple[int, str] = (0, "")

    def begin(self, head: RequestHead) -> OssWork:
        """Take up a request whose head has arrived."""
        return OssWork(self, head)

    def next_request_id(self) -> str:
        """Return 24 hex digits that no other request has."""
        self._last_id += 1
        return f"{self._id_prefix}{self._last_id:012X}"

    def date(self) -> str:
        """The server's time as `Date` has it."""
        now = int(self.service.now())
        if self._date[0] != now:
            self._date = (now, http_date(now))
        return self._date[1]


class OssWork:
    """One OSS request under way."""

    __slots__ = (
        "_began",
        "_call",
        "_effects",
        "_frontend",
        "_head",
        "_head_size",
        "_held",
        "_intake",
        "_is_taken",
        "_pace",
        "_past",
        "_received",
        "_refused",
        "_request_id",
        "_since",
        "_status",
    )

    def __init__(self, frontend: Frontend, head: RequestHead) -> None:
        self._frontend, self._head = frontend, head
        self._began = time.perf_counter()
        self._refused: Refused | None = None
        self._intake: Intake = NOTHING
        self._is_taken = False
        self._received = self._head_size = self._status = self._pace = 0
        self._request_id = frontend.next_request_id()
        self._held: Content = ()
        self._past: list[Effect] = []
        self._call = self._understand()
        self._effects: Sequence[Effect] = frontend.faults.draw(self._call)
        self._since = frontend.recorder.begun(self._call.operation, names_of(self._effects))
        self._admit()
        for effect in self._effects:
            effect.rewrite(self._call)

    def receive(self, data: memoryview) -> Pause | Hangup | Early | None:
        for effect in self._effects:
            data = _flipped(data, effect.flipped_at, self._received)
        self._received += len(data)
        if self._refused is None:
            try:
                self._intake.write(data)
            except (Refused, OSError) as error:
                self.refuse(_as_refused(error))
        wanted = self._interruption() if self._effects else None
        return Pause(len(data) / self._pace) if self._pace and wanted is None else wanted

    def _interruption(self) -> Pause | Hangup | Early | None:
        """Return what a fault wants done now that so much of the body is there: each once, a drip again and again."""
        for effect in self._effects:
            if effect.during_body is not None and self._received >= effect.during_body[0]:
                if effect in self._past:
                    continue
                self._past.append(effect)
                return effect.during_body[1]
        return next((Pause(effect.read_seconds) for effect in self._effects if effect.read_seconds), None)

    def refuse(self, refused: Refused) -> None:
        self._refused = self._refused or refused
        self._let_go_of_intake()

    def answer(self) -> Iterable[Step]:
        frontend, call = self._frontend, self._call
        result = self._result()
        if isinstance(result, Hangup):
            return (result,)
        for effect in self._effects:
            result = effect.reshape(call, result)
        self._status = result.status
        common = common_headers(
            date=frontend.date(),
            server_time_ms=int((time.perf_counter() - self._began) * 1000),
            request_id=self._request_id,
            keep_alive=self._head.keep_alive,
        )
        head = encode_reply_head(result, common)
        self._head_size = len(head)
        body = [] if call.method == "HEAD" else body_steps(result.body, frontend.service.blobs)
        if self._pace:
            pieces = in_small_pieces(body, max(int(self._pace * PACE_SECONDS), 1), PACE_SECONDS)
            self._hold(result)
            return self._disturbed(chain((head,), pieces))
        if not self._effects and len(body) == 1 and isinstance(body[0], bytes):
            return (head + body[0],)
        self._hold(result)
        return self._disturbed([head, *body])

    def _disturbed(self, steps: Iterable[Step]) -> Iterable[Step]:
        service = self._frontend.service
        for effect in sorted(self._effects, key=lambda effect: effect.is_endless):
            steps = effect.disturb(steps, service.blobs)
        for effect in self._effects:
            effect.afterwards(service, self._call)
        return steps

    def ended(self, sent: int) -> None:
        self._let_go_of_intake()
        self._frontend.service.blobs.release(self._held)
        self._held = ()
        self._frontend.recorder.ended(
            self._call,
            self._since,
            status=self._status if sent else 0,
            code=self._refused.code if self._refused is not None else "",
            fault=names_of(self._effects) if self._effects else "",
            received=self._received,
            sent=max(sent - self._head_size, 0),
        )

    def _understand(self) -> Call:
        """Return the call that the head stands for; a path that says nothing is refused later."""
        head = self._head
        query = decode_query(head.query) if head.query else []
        try:
            place = self._frontend.hosts.place(head.headers.get("host", ""), head.path)
        except Refused as refused:
            self._refused, place = refused, Place("", "")
        operation = name_operation(head.method, place, query, head.headers)
        return Call(
            operation, head.method, place.bucket, place.key, query, head.headers, head.content_length, head.chunked
        )

    def _admit(self) -> None:
        if self._refused is not None:
            return
        try:
            admit(self._frontend.service, self._call)
            if self._call.query or TRAFFIC_LIMIT in self._call.headers:
                self._pace = traffic_limit(self._call)
            self._intake = open_intake(self._frontend.service, self._call)
        except (Refused, OSError) as error:
            self._refused = _as_refused(error)

    def _result(self) -> Reply | Hangup:
        """Do the work, unless a fault takes its place, and return what is to be answered."""
        instead = [effect for effect in self._effects if effect.instead is not None]
        reply: Reply | Hangup | Refused | None = None
        if all(effect.after_work for effect in instead):
            reply = self._perform()
        self._let_go_of_intake()
        if instead:
            reply = instead[0].instead
            if isinstance(reply, Reply):
                reply = replace(reply, headers=dict(reply.headers))
        if isinstance(reply, Refused):
            self._refused = reply
            host = self._call.headers.get("host", "")
            return error_reply(reply, method=self._call.method, request_id=self._request_id, host=host)
        assert reply is not None
        return reply

    def _perform(self) -> Reply | Refused:
        if self._refused is not None:
            return self._refused
        try:
            self._is_taken = True
            return perform(self._frontend.service, self._call, self._intake.finish())
        except Refused as refused:
            return refused
        except Exception as error:
            _logger.exception("%s failed", self._call.operation)
            return Refused("InternalError", f"{type(error).__name__}: {error}")

    def _hold(self, reply: Reply) -> None:
        """Keep the files of an answer until it is sent, whoever deletes the object meanwhile."""
        if not isinstance(reply.body, bytes):
            self._held = reply.body
            self._frontend.service.blobs.retain(self._held)

    def _let_go_of_intake(self) -> None:
        if not self._is_taken:
            self._is_taken = True
            self._intake.abandon()


def _as_refused(error: Refused | OSError) -> Refused:
    return error if isinstance(error, Refused) else Refused("InternalError", str(error))


def _flipped(data: memoryview, at: int | None, position: int) -> memoryview:
    """Return `data`, which stands at `position` of its body, with the body's byte `at` changed if it is in it."""
    if at is None or not position <= at < position + len(data):
        return data
    changed = bytearray(data)
    changed[at - position] ^= 1
    return memoryview(changed)
