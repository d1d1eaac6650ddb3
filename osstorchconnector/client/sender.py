"""One request until it is answered for good: sign, send, judge the answer, wait, try again.

This module is the order of steps. What to decide is in functions without I/O: `retry.decide`, `answers`, the checks of
a `PendingOperation`, `error_texts`. What else happens around a try (pace, audit) is in `layers`.
"""

from __future__ import annotations

import asyncio
import math
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from ..config import Config
from ..credentials import Credentials, CredentialsCache
from ..errors import (
    OssConnectionError,
    OssCredentialsError,
    OssError,
    OssIntegrityError,
    OssProtocolError,
)
from ..logs import AuditLog
from ..protocol import answers, requests
from ..protocol.endpoint import Endpoint, Origin, SigningPlan
from ..protocol.heads import ResponseHead, parse_http_date, retry_after_seconds
from ..protocol.values import Request
from . import error_texts
from .attempts import GetAttempt, PendingOperation
from .clocks import LoopClock, RunningTime, loop_clock
from .composing import Composer, user_agent
from .engine import in_thread
from .error_texts import Story
from .layers import AuditedTransport, PacedTransport
from .news import RetryNews
from .retry import (
    UNREACHED_SECONDS,
    FailedTry,
    RetryDecision,
    RetryPolicy,
    decide,
    is_charged,
    is_doubtful,
    is_unconnected,
)
from .sharing import SharedState
from .traffic import RetryBudget, shared
from .transport.addresses import proxy_for
from .transport.base import (
    SLOWEST_BYTES_PER_SECOND,
    ExchangeFailed,
    Timeouts,
    Transport,
    TransportFactory,
    UnsizedBody,
    WireRequest,
)

if TYPE_CHECKING:
    from .steady import SteadyGets
    from .transport.direct import DirectTransport

_NO_BUDGET = (
    "not tried again: this process has used up its retries (retryBudget) of this endpoint, which fails at large"
)

Outcome = tuple[FailedTry, Story]


@dataclass
class Session:
    """What all loops of one client share: settings, credentials, the server's clock."""

    endpoint: Endpoint
    signing: SigningPlan
    config: Config
    credentials: CredentialsCache
    user_agent: str = field(default_factory=user_agent)
    audit: AuditLog | None = None
    clock: Callable[[], float] = time.time
    clock_offset_seconds: float = 0.0
    shared: SharedState = field(default_factory=SharedState)
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    transport_factory: TransportFactory | None = None

    @property
    def policy(self) -> RetryPolicy:
        return RetryPolicy(
            max_attempts=self.config.max_attempts,
            base_delay_seconds=self.config.retry_base_delay_seconds,
            max_delay_seconds=self.config.retry_max_delay_seconds,
            # Who sets the number of attempts wants as many, also of the first request.
            unreached_seconds=math.inf if "maxAttempts" in self.config.configured else UNREACHED_SECONDS,
        )


class Sender:
    """The requests of one client on one event loop."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._policy = session.policy
        server = str(session.endpoint)
        self._budget: RetryBudget = shared.budget(server)
        self._news: RetryNews = shared.news(server)
        self._is_reached = False
        self._transports: dict[str, Transport] = {}
        self._composer = Composer(session.endpoint, session.signing, session.user_agent)
        self._steady: SteadyGets | None = None  # once the transport of GETs is known to have one
        self._chosen: dict[tuple[Origin, str, bool], Transport] = {}
        self._pool: DirectTransport | None = None
        self._clock: LoopClock | None = None  # that of the loop, which is known when the first request is sent
        self._is_closed = False

    async def perform(self, pending: PendingOperation) -> ResponseHead:
        """Send until an answer is good, or no retry can help; return its head.

        Raises an `OssError` that names operation, object, OSS's answer and the number of attempts.
        """
        session, clock = self.session, self._clock
        running = clock.running if clock is not None and clock.is_ticking else self._start_clock()
        begun = running.seconds
        limit = begun + session.config.operation_timeout_seconds
        deadline = limit + pending.moved_bytes / SLOWEST_BYTES_PER_SECOND
        attempts = uncounted = doubtful = 0
        used: set[str] = set()
        on_new_connection = is_unsized = False
        while True:
            attempts += 1
            stops = running.stops
            request = head = None
            credentials = session.credentials.current() or await self._refresh_credentials()
            begun_at = session.clock()
            signed_at = int(begun_at + session.clock_offset_seconds)
            try:
                if self._steady is not None and attempts == 1 and type(pending) is GetAttempt:
                    head = await self._steady.exchange(pending, credentials, begun_at, signed_at, deadline)
                if head is None:
                    request = pending.request()
                    wire = self._composer.wire(request, credentials, attempts, signed_at)
                    chosen = wire.origin, request.operation, is_unsized
                    transport = self._chosen.get(chosen) or self._transport_of(request, is_unsized)
                    head = await transport.exchange(wire, pending, deadline, on_new_connection=on_new_connection)
                operation = "GetObject" if request is None else request.operation
                if head.status in answers.GOOD_STATUSES[operation] and answers.REQUEST_ID in head.headers:
                    if pending.wants_early_look:
                        await pending.look_early()
                    pending.finish(head)
                    if not self._is_reached or attempts > 1 or self._budget.debt > 0:
                        self._note_success(_asked(pending, request), attempts, begun)
                    return head
                request = _asked(pending, request)
                wire = self._composer.wire(request, credentials, attempts, signed_at)
                failure, story = self._judge(request, pending, wire, head, attempts)
            except UnsizedBody:
                self._avoid_direct(_asked(pending, request), is_unsized)
                is_unsized = True
                continue
            except (ExchangeFailed, OssProtocolError, OssIntegrityError) as broken:
                failure, story = outcome_of_failure(_asked(pending, request), broken, attempts, head)
                if failure.kind == "integrity":
                    pending.discard()
                else:
                    pending.keep(getattr(broken, "received_bytes", 0))
            deadline = limit + pending.moved_bytes / SLOWEST_BYTES_PER_SECOND  # of which more may be known by now
            decision = self._decide(failure, story, attempts - uncounted, begun, deadline, used, doubtful, stops)
            if not decision.retry or not await self._prepare(decision, credentials):
                raise story.error(decision.reason)
            uncounted += not decision.counts
            doubtful += is_doubtful(failure)
            on_new_connection = decision.remedy == "reconnect"
            if not on_new_connection:
                used.discard("reconnect")  # later on a connection may have died again
            used.add(decision.remedy)
            session.shared.count_retry()

    def open_ahead(self, bucket: str, count: int) -> None:
        """Begin connections to a bucket, until there are `count`; a transport that is not our own opens none."""
        if not self._is_closed:
            self._choose(origin := self._composer.route(bucket).origin, "GetObject", False)
            if self._pool is not None and proxy_for(origin) is None:
                self._pool.open_ahead(origin, count)

    async def aclose(self) -> None:
        """Drop all connections; what still runs ends with `OssConnectionError`."""
        self._is_closed = True
        transports, self._transports = self._transports, {}
        self._chosen.clear()
        self._steady = None
        for transport in transports.values():
            await transport.aclose()

    def _transport_of(self, request: Request, is_unsized: bool) -> Transport:
        """Choose the transport of a request, unless the client was closed."""
        if self._is_closed:
            raise OssConnectionError(f"{error_texts.named(request)}: the client was closed meanwhile")
        return self._choose(self._composer.route(request.bucket).origin, request.operation, is_unsized)

    def _choose(self, origin: Origin, operation: str, is_unsized: bool) -> Transport:
        """Choose the transport of an operation's requests to `origin`, and open it if it is not open."""
        may_be_direct = not is_unsized and self.session.config.transport == "direct"
        if self.session.transport_factory is not None:
            name = "handed in"
        else:
            name = "direct" if may_be_direct and proxy_for(origin) is None else "aiohttp"
        transport = self._transports.get(name)
        if transport is None:
            transport = self._transports[name] = self._open(name)
        self._chosen[origin, operation, is_unsized] = transport
        return transport

    def _open(self, name: str) -> Transport:
        """Open a transport and put the layers around it."""
        session = self.session
        timeouts = Timeouts(session.config.connect_timeout_seconds, session.config.read_timeout_seconds)
        transport = (session.transport_factory or _factory(name))(timeouts, session.tls)
        gate = shared.gate(str(session.endpoint))
        if name == "direct":
            from .steady import SteadyGets

            self._pool = cast("DirectTransport", transport)
            self._steady = SteadyGets(self._pool, self._composer, gate, session.audit, session.clock)
        if session.audit is not None:
            transport = AuditedTransport(transport, session.audit, session.clock)
        return PacedTransport(transport, gate)

    def _avoid_direct(self, request: Request, is_unsized: bool) -> None:
        """Have an operation's requests go through aiohttp, which reads answers that do not tell their length."""
        if is_unsized:
            what = error_texts.named(request)
            raise OssProtocolError(f"{what}: the transport can't read an answer that does not tell its length")
        if request.operation != "GetObject":  # the next document most likely comes the same way; objects rarely do
            origin = self._composer.route(request.bucket).origin
            self._chosen[origin, request.operation, False] = self._choose(origin, request.operation, True)

    def _judge(
        self, request: Request, pending: PendingOperation, wire: WireRequest, head: ResponseHead, attempts: int
    ) -> Outcome:
        """Return what is wrong with an answer that is not good."""
        if head.status < 300:
            raise OssProtocolError(answers.why_not(request.operation, head))
        region = self.session.signing.region
        story = error_texts.story_of_refusal(request, wire.headers, head, pending.refusal, attempts, region)
        if answers.is_hearsay(head.status, story.request_id):
            todo = error_texts.see("NotFromOss")
            return FailedTry(kind="protocol"), story._replace(kind=OssProtocolError, todo=todo)
        if head.status == 416 and pending.is_resumed:
            pending.discard()  # there is no such rest: what came first lied about the length
            return FailedTry(kind="protocol"), story
        failure = FailedTry(
            kind="service",
            status=head.status,
            code=story.code,
            server_date=parse_http_date(head.get("date")),
            retry_after_seconds=retry_after_seconds(head),
        )
        return failure, story

    def _decide(
        self,
        failure: FailedTry,
        story: Story,
        attempt: int,
        begun: float,
        deadline: float,
        used: set[str],
        doubtful: int,
        stops: int,
    ) -> RetryDecision:
        """Decide what to do about a failure. Without budget there is no retry.

        `stops` is how often the process had not run for a while when the attempt began.
        """
        clock = loop_clock()
        elapsed = clock.look() - begun
        if clock.running.stops != stops:
            failure = replace(failure, was_stopped=True)
            used.clear()
        if not self._is_reached and failure.kind != "setup" and not is_unconnected(failure):
            self._note_reached()
        is_reached = not is_unconnected(failure) or self._was_reached()
        decision = decide(
            self._policy,
            failure,
            attempt=attempt,
            elapsed_seconds=elapsed,
            deadline_seconds=deadline - begun,
            now=self.session.clock(),
            random=random.random(),
            used=used,
            doubtful=doubtful,
            is_reached=is_reached,
        )
        if decision.retry and is_charged(failure) and not self._budget.spend(self.session.config.retry_budget):
            return RetryDecision(False, reason=_NO_BUDGET)
        if decision.retry and not decision.needs_newer_credentials:
            allowed = deadline - begun if is_reached else min(deadline - begun, self._policy.unreached_seconds)
            self._news.tell(story, decision, attempt, elapsed, allowed)
        return decision

    def _note_success(self, request: Request, attempts: int, begun: float) -> None:
        if not self._is_reached:
            self._note_reached()
        if self._budget.debt > 0:
            self._budget.earn()
        if attempts > 1:
            self._news.goes_on(request, attempts, loop_clock().look() - begun)

    def _note_reached(self) -> None:
        self._is_reached = True
        shared.reached.add(str(self.session.endpoint))
        self.session.shared.note_reached()

    def _was_reached(self) -> bool:
        """Say whether the endpoint has ever answered this process, or another one of its job."""
        return self._is_reached or str(self.session.endpoint) in shared.reached or self.session.shared.is_reached

    async def _prepare(self, decision: RetryDecision, rejected: Credentials) -> bool:
        """Mend what can be mended before the next attempt, and wait; False if it can't be."""
        if decision.refresh_credentials:
            fresh = await self._refresh_credentials(rejected)
            if decision.needs_newer_credentials and fresh == rejected:
                return False
        if decision.clock_offset_seconds is not None:
            self.session.clock_offset_seconds = decision.clock_offset_seconds
        if decision.delay_seconds:
            await self._sleep(decision.delay_seconds)
        return True

    async def _refresh_credentials(self, rejected: Credentials | None = None) -> Credentials:
        cache = self.session.credentials
        try:
            with loop_clock().used():
                return await in_thread(cache.refresh, rejected)
        except OssCredentialsError:
            raise
        except OssError:  # no thread to ask in
            spare = cache.spare(rejected)
            if spare is None:
                raise
            return spare

    async def signed_url(self, request: Request, seconds: int) -> str:
        """Return a URL that lets anybody send this request, which has no body, for a while."""
        credentials = self.session.credentials.current() or await self._refresh_credentials()
        now = int(self.session.clock() + self.session.clock_offset_seconds)
        return self._composer.signed_url(request, credentials, now, seconds)

    async def _sleep(self, seconds: float) -> None:
        with loop_clock().used():
            await asyncio.sleep(seconds)

    def _start_clock(self) -> RunningTime:
        self._clock = loop_clock()
        self._clock.tick_within(self.session.config.operation_timeout_seconds / 4)
        self._clock.start()
        return self._clock.running


def _factory(name: str) -> TransportFactory:
    """Return one of our own transports. aiohttp takes a while to import, and most processes need it only later."""
    if name == "direct":
        from .transport.direct import DirectTransport

        return DirectTransport
    from .transport.aio import AioTransport

    return AioTransport


def _asked(pending: PendingOperation, request: Request | None) -> Request:
    """Return the request of a try. The short way, which is for GETs alone, makes none: the same one is made here."""
    if request is None and isinstance(pending, GetAttempt):
        return requests.get_object(pending.uri.bucket, pending.uri.key, pending.span, pending.pinned_etag)
    return request or pending.request()


def outcome_of_failure(
    request: Request,
    error: ExchangeFailed | OssProtocolError | OssIntegrityError,
    attempts: int,
    head: ResponseHead | None,
) -> Outcome:
    """Return what becomes of a request whose answer did not come, or can't be believed."""
    request_id = getattr(error, "request_id", "") if head is None else head.get(answers.REQUEST_ID)
    if isinstance(error, ExchangeFailed):
        failure = FailedTry(kind=error.kind, reused_connection=error.reused)
    else:
        failure = FailedTry(kind="protocol" if isinstance(error, OssProtocolError) else "integrity")
    heading = getattr(error, "heading", "")
    return failure, error_texts.story_of_failure(request, failure.kind, str(error), attempts, request_id, heading)
