"""Concerns around a request, each a class around the object that does the work, and each left out when not wanted.

There are two seams. Both are one method wide, so a layer has the same shape as what it wraps:

    Operations.get ──> [HedgedReads] ──> Reads.get ──> Sender.perform     seam `Get`: one read of one object
    Sender.perform ──> PacedTransport ──> [AuditedTransport] ──> transport   seam `Transport`: one try of one request

`Operations` composes the first stack once, `Sender` the second one when it opens a transport. To add a concern, write
a class with the method of its seam and put it into the stack there; nothing else changes.
"""

from __future__ import annotations

import asyncio
import time
from bisect import insort
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple, Protocol

from ..logs import AuditEntry, AuditLog
from ..protocol.answers import REQUEST_ID
from ..protocol.checksum import Sum
from ..protocol.heads import ResponseHead
from ..protocol.values import ByteSpan, Download
from ..uri import OssUri
from .clocks import loop_clock, wait
from .memory import Memory
from .retry import FailedTry, is_throttling
from .traffic import Gate
from .transport.base import BodySink, ExchangeFailed, Transport, WireRequest


class PacedTransport:
    """Sends no faster than the server takes requests, and tells the `gate` how the server answers.

    The gate belongs to all clients of the process that use the same endpoint.
    """

    def __init__(self, transport: Transport, gate: Gate) -> None:
        self._transport, self._gate = transport, gate
        self._is_closed = False

    async def exchange(
        self, wire: WireRequest, sink: BodySink, deadline: float, *, on_new_connection: bool = False
    ) -> ResponseHead:
        gate = self._gate
        if not gate.is_open:
            await self._wait_for_turn(deadline)
        step = gate.steps
        head = await self._transport.exchange(wire, sink, deadline, on_new_connection=on_new_connection)
        tell(gate, head.status, step)
        return head

    async def aclose(self) -> None:
        self._is_closed = True
        await self._transport.aclose()

    async def _wait_for_turn(self, deadline: float) -> None:
        clock, turn = loop_clock(), self._gate.turn()
        begun = clock.look()
        with clock.used():
            while (seconds := min(self._gate.seconds_until(turn), deadline - clock.running.seconds)) > 0:
                await asyncio.sleep(seconds)
                self._gate.note_held(clock.running.seconds - begun)
                if self._is_closed:
                    raise ExchangeFailed("reset", "the client was closed meanwhile")


def tell(gate: Gate, status: int, step: int) -> None:
    """Tell the gate how the server has answered a request; `step` is what `gate.steps` was when it was sent."""
    if status < 300:
        gate.accepted(step)
    elif is_throttling(FailedTry(kind="service", status=status)):
        gate.refused(step)


class AuditedTransport:
    """Writes one line to the audit log for each request, whether it was answered or broke."""

    def __init__(self, transport: Transport, audit: AuditLog, clock: Callable[[], float] = time.time) -> None:
        self._transport, self._audit, self._clock = transport, audit, clock

    async def exchange(
        self, wire: WireRequest, sink: BodySink, deadline: float, *, on_new_connection: bool = False
    ) -> ResponseHead:
        clock = self._clock
        begun = clock()
        about = (begun, wire.operation, wire.bucket, wire.key, wire.attempt)
        sent_bytes = wire.body_bytes if wire.body else 0
        try:
            head = await self._transport.exchange(wire, sink, deadline, on_new_connection=on_new_connection)
        except (Exception, asyncio.CancelledError) as error:
            self._audit.record(AuditEntry(*about, clock() - begun, sent_bytes, error=audit_word(error)))
            raise
        request_id = head.headers.get(REQUEST_ID, "")
        self._audit.record(
            AuditEntry(*about, clock() - begun, sent_bytes, head.status, request_id, head.content_length)
        )
        return head

    async def aclose(self) -> None:
        await self._transport.aclose()


def audit_word(error: BaseException) -> str:
    """Return how a request broke, in a word for the audit log."""
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return error.kind if isinstance(error, ExchangeFailed) else type(error).__name__


class Get(Protocol):
    """One read of one object: what `Operations.get` is, with any layers around it."""

    def __call__(
        self,
        uri: OssUri,
        span: ByteSpan | None = None,
        *,
        into: Memory | None = None,
        if_match: str = "",
        checksum: Sum | None = None,
        on_first_byte: Callable[[], None] | None = None,
    ) -> Coroutine[Any, Any, Download]:
        """Fetch the bytes in `span`, or the whole object, in one request.

        The span may reach past the end: what exists is delivered, `Download.span` tells which bytes. With `into`
        (of `span.size` bytes) they are written there and `Download.body` is empty. A body that breaks off is resumed
        where it broke. With `if_match`, and when resuming, an object replaced meanwhile is an `OssObjectChangedError`.
        `checksum` is shown the bytes of a span that goes to `into`, as they come. `on_first_byte` is called when the
        head of a good answer has come.
        """


# Reads of up to this size are hedged. For a larger one a second request would cost too much.
LARGEST_HEDGED_BYTES = 256 * 1024
QUANTILE = 0.98
MOST_EXTRA = 0.03
MOST_EXTRA_AT_FIRST = 0.02
_REMEMBERED = 1000
_LEAST_KNOWN, _LEAST_KNOWN_OF_TAIL = 50, 300
# "auto" hedges only if the 99th percentile is at least this many times the median, and this many seconds above it.
LONG_TAIL, LEAST_GAIN_SECONDS = 3.0, 0.010


class HedgedReads:
    """Sends a second request for a small object whose answer is late, and takes the answer that comes first.

    The slowest of a hundred answers then takes no longer than the others. `Lateness` learns from earlier answers
    which ones are late, and limits the number of second requests.
    """

    def __init__(self, get: Get, lateness: Lateness, clock: Callable[[], float] = time.monotonic) -> None:
        self._get = get
        self._clock = clock
        self._lateness = lateness

    async def get(
        self,
        uri: OssUri,
        span: ByteSpan | None = None,
        *,
        into: Memory | None = None,
        if_match: str = "",
        checksum: Sum | None = None,
        on_first_byte: Callable[[], None] | None = None,
    ) -> Download:
        """Read one object. A span of up to `LARGEST_HEDGED_BYTES` without `into` may take two requests."""
        if span is None or into is not None or span.size > LARGEST_HEDGED_BYTES:
            return await self._get(
                uri, span, into=into, if_match=if_match, checksum=checksum, on_first_byte=on_first_byte
            )
        patience = self._lateness.patience_seconds()
        if patience is None:
            return await self._get(uri, span, if_match=if_match, on_first_byte=self._first_byte())
        first = self._start(uri, span, if_match)
        racers = [first]
        try:
            is_very_late = False
            while not await first.has_begun(patience):
                if self._lateness.may_hedge(is_very_late=is_very_late):
                    racers.append(self._start(uri, span, if_match))
                    break
                is_very_late, patience = True, 2 * patience
            return await _winner([racer.task for racer in racers])
        finally:
            for racer in racers:
                racer.drop()

    def _start(self, uri: OssUri, span: ByteSpan, if_match: str) -> _Racer:
        """Start one of the requests, and learn how long its first byte takes."""
        begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        first_byte = self._first_byte(begun)
        return _Racer(begun, asyncio.ensure_future(self._get(uri, span, if_match=if_match, on_first_byte=first_byte)))

    def _first_byte(self, begun: asyncio.Future[None] | None = None) -> Callable[[], None]:
        """Return what learns from now until it is called the first time, and then sets `begun`."""
        started: list[float] = [self._clock()]

        def first_byte() -> None:
            if started:
                self._lateness.learn(self._clock() - started.pop())
            if begun is not None and not begun.done():
                begun.set_result(None)

        return first_byte


def has_long_tail(times: Sequence[float]) -> bool:
    """Say whether the slowest of many answers take so much longer than most that a second request pays.

    `times` until the first byte, in seconds, rise.
    """
    if len(times) < _LEAST_KNOWN_OF_TAIL:
        return False
    median, slow = times[len(times) // 2], times[int(len(times) * 0.99)]
    return slow >= LONG_TAIL * median and slow - median >= LEAST_GAIN_SECONDS


class Lateness:
    """How long answers take until their first byte, and from when on one is late.

    With `only_long_tails` none is late unless `has_long_tail`: on an even network nothing is sent twice.
    """

    def __init__(self, *, only_long_tails: bool = False) -> None:
        self._only_long_tails = only_long_tails
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []
        self._asked = self._hedged = 0

    def patience_seconds(self) -> float | None:
        """Return how long to wait for the first byte of a read, which is counted; `None` if none can be late."""
        known = self._sorted
        if self._only_long_tails and not has_long_tail(known):
            return None  # and not counted: what is sent twice later must not depend on how long all was quiet
        self._asked += 1
        return known[int(len(known) * QUANTILE)] if len(known) >= _LEAST_KNOWN else None

    def may_hedge(self, *, is_very_late: bool) -> bool:
        """Take one second request; False if that made more than three in a hundred reads.

        One of the three is kept for answers that are very late. Where many are a little late they would use up all.
        """
        if self._hedged + 1 > (MOST_EXTRA if is_very_late else MOST_EXTRA_AT_FIRST) * self._asked:
            return False
        self._hedged += 1
        return True

    def learn(self, seconds: float) -> None:
        """Note how long a first byte took."""
        recent, known = self._recent, self._sorted
        recent.append(seconds)
        insort(known, seconds)
        if len(recent) > _REMEMBERED:
            known.remove(recent.popleft())


class _Racer(NamedTuple):
    """One of the requests for the same object; `begun` is done when its first byte has come."""

    begun: asyncio.Future[None]
    task: asyncio.Task[Download]

    async def has_begun(self, within_seconds: float) -> bool:
        """Wait for the first byte or the end, at most this long."""
        waits: set[asyncio.Future[Any]] = {self.begun, self.task}
        done, _ = await wait(waits, timeout=within_seconds, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)

    def drop(self) -> None:
        """Abandon the request if it still runs."""
        if self.task.done() and not self.task.cancelled():
            self.task.exception()  # asyncio logs exceptions that nobody has looked at
        self.task.cancel()


async def _winner(tasks: list[asyncio.Task[Download]]) -> Download:
    """Return the result of the first request that ends well; if none does, raise the error of the first one."""
    running = set(tasks)
    while running:
        done, running = await wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task in done and task.exception() is None:
                return task.result()
    return await tasks[0]
