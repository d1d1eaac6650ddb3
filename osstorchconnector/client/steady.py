"""GETs in the steady state, which take the short way to the wire.

A small object comes in less time than it takes to make a dozen values and to pass them on. So when nothing is unusual,
a GET takes the first of these ways:

    Sender.perform ──> SteadyGets.exchange ──> DirectTransport.begin_at_once
    Sender.perform ──> PacedTransport ──> [AuditedTransport] ──> DirectTransport.exchange

Both put the same bytes on the wire, give the answer to the same `GetAttempt`, write the same line to the audit log and
tell the same gate. `Sender` judges what came of it, and sends a second try the long way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..credentials import Credentials
from ..logs import AuditEntry, AuditLog
from ..protocol.answers import REQUEST_ID
from ..protocol.get_heads import GetHeads
from ..protocol.heads import ResponseHead
from .attempts import REQUESTED, GetAttempt
from .composing import Composer
from .layers import audit_word, tell
from .traffic import STAMP_EVERY, Gate
from .transport.direct import DirectTransport


class SteadyGets:
    """The short way of one client on one event loop, for first tries of GETs of a span, whatever ETag it has."""

    def __init__(
        self, pool: DirectTransport, composer: Composer, gate: Gate, audit: AuditLog | None, clock: Callable[[], float]
    ) -> None:
        self._pool, self._composer, self._gate, self._audit, self._clock = pool, composer, gate, audit, clock
        self._credentials: Credentials | None = None
        self._heads: dict[str, GetHeads | None] = {}

    async def exchange(
        self, attempt: GetAttempt, credentials: Credentials, begun: float, epoch_seconds: int, deadline: float
    ) -> ResponseHead | None:
        """Send what `attempt` asks for and return the head of the answer; None, and nothing is sent, if it can't be.

        That is so without an idle connection, while the server is overloaded, and for signatures of version 1. Raises
        what a transport raises. `begun` is what the clock of the audit log shows now.
        """
        uri, span = attempt.uri, attempt.span
        bucket, key = uri
        if credentials is not self._credentials:
            self._credentials, self._heads = credentials, {}
        if bucket not in self._heads:
            self._heads[bucket] = self._composer.get_heads(bucket, credentials)
        heads = self._heads[bucket]
        if heads is None or span is None or not key or attempt.pinned_etag or not self._gate.is_open:
            return None
        origin = heads.route.origin
        begin = self._pool.begin_at_once(origin, heads.compose(key, span, epoch_seconds), attempt, deadline)
        if begin is None:
            return None
        connection, answer = begin
        gate, step = self._gate, self._gate.steps
        attempt.state = REQUESTED[attempt.state]
        try:
            head = await answer
        except BaseException as error:
            self._pool.settle(origin, connection, error)
            if self._audit is not None and isinstance(error, Exception | asyncio.CancelledError):
                seconds = self._clock() - begun
                self._audit.record(AuditEntry(begun, "GetObject", bucket, key, 1, seconds, error=audit_word(error)))
            raise
        finally:
            del answer, begin  # drop the reference cycle: exception -> traceback -> this frame -> future
        self._pool.settle(origin, connection)
        if self._audit is not None:
            request_id = head.headers[REQUEST_ID] if REQUEST_ID in head.headers else ""  # noqa: SIM401
            seconds, size = self._clock() - begun, head.content_length
            self._audit.record((begun, "GetObject", bucket, key, 1, seconds, 0, head.status, request_id, size, ""))
        if head.status < 300 and gate.is_open and (gate.answered + 1) % STAMP_EVERY:
            gate.answered += 1  # all that `tell` does, most times
        else:
            tell(gate, head.status, step)
        return head
