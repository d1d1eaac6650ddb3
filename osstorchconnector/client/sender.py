"""One request until it is answered for good: sign, send, judge the answer, wait, try again.

What is decided is decided by pure functions (`retry.decide`, `sink`, `refusals`); here is the order of things.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ..config import Config
from ..credentials import Credentials, CredentialsCache
from ..errors import (
    OssConnectionError,
    OssCredentialsError,
    OssError,
    OssIntegrityError,
    OssProtocolError,
    OssTimeoutError,
)
from ..logs import AuditEntry, AuditLog
from ..protocol import answers
from ..protocol.endpoint import Endpoint, Origin, Route, SigningPlan
from ..protocol.heads import ResponseHead, parse_http_date, retry_after_seconds
from ..protocol.signing import V1Signer, V4Signer, encode_key, encode_query
from ..protocol.values import Request
from ..redaction import printable
from . import error_texts as refusals
from .attempts import PendingOperation
from .clocks import LoopClock, RunningTime, loop_clock
from .engine import in_thread
from .retry import (
    UNREACHED_SECONDS,
    Failure,
    RetryDecision,
    RetryPolicy,
    decide,
    is_charged,
    is_throttling,
    is_unconnected,
)
from .sharing import SharedState
from .traffic import Gate, RetryBudget, RetryNews, shared
from .transport.base import (
    SLOWEST_BYTES_PER_SECOND,
    BodySink,
    ExchangeFailed,
    Timeouts,
    Transport,
    UnsizedBody,
    WireRequest,
    proxy_for,
)

_NO_BUDGET = (
    "not tried again: this process has used up its retries (retryBudget) of this endpoint, which are earned again by "
    "requests that end well; the server, or the way to it, is failing at large"
)

Verdict = tuple[Failure, OssError]


@dataclass
class Session:
    """What all loops of one client share: settings, credentials, the server's clock."""

    endpoint: Endpoint
    signing: SigningPlan
    config: Config
    credentials: CredentialsCache
    user_agent: str
    audit: AuditLog | None = None
    clock: Callable[[], float] = time.time
    clock_offset_seconds: float = 0.0
    shared: SharedState = field(default_factory=SharedState)
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    @property
    def policy(self) -> RetryPolicy:
        return RetryPolicy(
            max_attempts=self.config.max_attempts,
            base_delay_seconds=self.config.retry_base_delay_seconds,
            max_delay_seconds=self.config.retry_max_delay_seconds,
        )


class Sender:
    """The requests of one client on one event loop."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._policy = session.policy
        server = str(session.endpoint)
        self._gate: Gate = shared.gate(server)
        self._budget: RetryBudget = shared.budget(server)
        self._news: RetryNews = shared.news(server)
        self._is_reached = False
        self.unsized: set[str] = set()  # operations whose answers end with the connection, which only aiohttp reads
        self._transports: dict[str, Transport] = {}
        self._routes: dict[str, Route] = {}
        self._signed_with: Credentials | None = None
        self._signer: V1Signer | V4Signer | None = None
        self._chosen: dict[tuple[Origin, bool], Transport] = {}
        self._clock: LoopClock | None = None  # that of the loop, which is known when the first request is sent
        self._is_closed = False

    async def perform(self, attempt: PendingOperation, *, on_data_path: bool) -> ResponseHead:
        """Send until an answer is good, or no retry can help; return its head.

        Raises an `OssError` that names operation, object, OSS's answer and the number of attempts.
        """
        clock = self._clock
        running = clock.running if clock is not None and clock.is_ticking else self._start_clock()
        begun = running.seconds
        limit = begun + self.session.config.operation_timeout_seconds
        deadline = limit + attempt.moved_bytes / SLOWEST_BYTES_PER_SECOND
        attempts = free = 0
        used: set[str] = set()
        on_new_connection = False
        while True:
            attempts += 1
            if not self._gate.is_open:
                await self._sleep(min(self._gate.turn(), max(deadline - running.seconds, 0.0)))
            stops = running.stops
            request = attempt.request()
            head = None
            credentials = self.session.credentials.current() or await self._refresh_credentials()
            if self._is_closed:
                raise OssConnectionError(f"{refusals.subject(request)}: the client was closed meanwhile")
            wire = self._wire(request, credentials)
            try:
                head = await self._exchange(request, wire, attempt, deadline, on_data_path, attempts, on_new_connection)
                is_good = head.status in answers.GOOD_STATUSES[request.operation] and answers.REQUEST_ID in head.headers
                if is_good and attempt.wants_early_look:
                    await attempt.look_early()
                verdict = self._judge(request, attempt, wire, head, attempts, is_good)
            except UnsizedBody:
                self.unsized.add(request.operation)
                on_data_path = False
                continue
            except (ExchangeFailed, OssProtocolError) as broken:
                verdict = _broken(request, broken, attempts, head)
                attempt.keep(getattr(broken, "received_bytes", 0))
            if verdict is None:
                assert head is not None
                self._gate.accepted()
                if not self._is_reached:
                    self._note_reached()
                if self._budget.debt:
                    self._budget.earn()
                return head
            failure, error = verdict
            deadline = limit + attempt.moved_bytes / SLOWEST_BYTES_PER_SECOND  # of which more may be known by now
            decision = self._decide(failure, error, attempts - free, begun, deadline, used, stops)
            if not decision.retry or not await self._prepare(decision, credentials):
                try:
                    raise refusals.with_reason(error, decision.reason) if decision.reason else error
                finally:
                    # The error's traceback refers to this frame. If the frame referred to the error, both, and the
                    # frames of all callers, would stay until Python collects garbage.
                    del error, verdict
            free += not decision.counts
            on_new_connection = decision.remedy == "reconnect"
            if not on_new_connection:
                used.discard("reconnect")  # later on a connection may have died again
            used.add(decision.remedy)
            self.session.shared.count_retry()

    async def aclose(self) -> None:
        """Drop all connections; what still runs ends with `OssConnectionError`."""
        self._is_closed = True
        transports, self._transports = self._transports, {}
        self._chosen.clear()
        for transport in transports.values():
            await transport.aclose()

    async def _exchange(
        self,
        request: Request,
        wire: WireRequest,
        sink: BodySink,
        deadline: float,
        on_data_path: bool,
        attempt: int,
        on_new_connection: bool,
    ) -> ResponseHead:
        session = self.session
        transport = self._chosen.get((wire.origin, on_data_path)) or self._transport(wire.origin, on_data_path)
        if session.audit is None:
            return await transport.exchange(wire, sink, deadline, on_new_connection=on_new_connection)
        begun = session.clock()
        facts = (begun, request.operation, request.bucket, request.key, attempt)
        sent_bytes = _size(request) if request.body else 0
        try:
            head = await transport.exchange(wire, sink, deadline, on_new_connection=on_new_connection)
        except (Exception, asyncio.CancelledError) as error:
            seconds = session.clock() - begun
            session.audit.record(AuditEntry(*facts, seconds, sent_bytes, error=_how(error)))
            raise
        request_id, length = head.get("x-oss-request-id"), head.content_length
        seconds = session.clock() - begun
        session.audit.record(AuditEntry(*facts, seconds, sent_bytes, head.status, request_id, length))
        return head

    def _wire(self, request: Request, credentials: Credentials) -> WireRequest:
        session = self.session
        if credentials is not self._signed_with or self._signer is None:
            version, region = session.signing
            self._signer = V4Signer(credentials, region) if version == "v4" else V1Signer(credentials)
            self._signed_with = credentials
        signature = self._signer.sign(request, int(session.clock() + session.clock_offset_seconds))
        route = self._routes.get(request.bucket)
        if route is None:
            route = self._routes[request.bucket] = session.endpoint.route(request.bucket)
        headers = [("Host", route.host_header), ("User-Agent", session.user_agent), *request.headers, *signature]
        if request.body or request.method in ("PUT", "POST"):
            headers.append(("Content-Length", str(_size(request))))
        target = route.target(encode_key(request.key), encode_query(request.query) if request.query else "")
        return WireRequest(route.origin, request.method, target, headers, request.body)

    def _transport(self, origin: Origin, on_data_path: bool) -> Transport:
        """Choose the transport of requests to `origin`, and open it if it is not open."""
        is_direct = on_data_path and self.session.config.transport == "direct" and proxy_for(origin) is None
        name = "direct" if is_direct else "aiohttp"
        transport = self._transports.get(name)
        if transport is None:
            transport = self._transports[name] = self._open(name)
        self._chosen[origin, on_data_path] = transport
        return transport

    def _open(self, name: str) -> Transport:
        config = self.session.config
        timeouts = Timeouts(config.connect_timeout_seconds, config.read_timeout_seconds)
        if name == "direct":
            from .transport.direct import DirectTransport

            return DirectTransport(timeouts, self.session.tls)
        from .transport.aio import AioTransport

        return AioTransport(timeouts, self.session.tls)

    def _judge(
        self,
        request: Request,
        attempt: PendingOperation,
        wire: WireRequest,
        head: ResponseHead,
        attempts: int,
        is_good: bool,
    ) -> Verdict | None:
        if head.status < 300:
            if not is_good:
                raise OssProtocolError(answers.why_not(request.operation, head))
            try:
                attempt.finish(head)
            except OssIntegrityError as error:
                attempt.discard()
                facts = refusals.circumstances(attempts, head.get("x-oss-request-id"))
                return Failure(kind="integrity"), OssIntegrityError(f"{error} {facts}")
            return None
        region = self.session.signing.region
        refused = refusals.refusal_of(request, wire.headers, head, attempt.refusal, attempts, region)
        if answers.is_hearsay(head.status, refused.request_id):
            return Failure(kind="protocol"), OssProtocolError(str(refused))
        if head.status == 416 and attempt.is_resumed:
            attempt.discard()  # there is no such rest: what came first lied about the length
            return Failure(kind="protocol"), refused
        failure = Failure(
            kind="service",
            status=head.status,
            code=refused.code,
            server_date=parse_http_date(head.get("date")),
            retry_after_seconds=retry_after_seconds(head),
        )
        return failure, refused

    def _decide(
        self,
        failure: Failure,
        error: OssError,
        attempt: int,
        begun: float,
        deadline: float,
        used: set[str],
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
        if is_throttling(failure):
            self._gate.refused()
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
            is_reached=is_reached,
        )
        if decision.retry and is_charged(failure) and not self._budget.spend(self.session.config.retry_budget):
            return RetryDecision(False, reason=_NO_BUDGET)
        if decision.retry and not decision.needs_newer_credentials:
            allowed = deadline - begun if is_reached else min(deadline - begun, UNREACHED_SECONDS)
            self._news.tell(error, decision, attempt, elapsed, allowed)
        return decision

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

    async def _sleep(self, seconds: float) -> None:
        with loop_clock().used():
            await asyncio.sleep(seconds)

    def _start_clock(self) -> RunningTime:
        self._clock = loop_clock()
        self._clock.tick_within(self.session.config.operation_timeout_seconds / 4)
        self._clock.start()
        return self._clock.running


def _how(error: BaseException) -> str:
    """Return how a request broke, in a word for the audit log."""
    if isinstance(error, asyncio.CancelledError):
        return "cancelled"
    return error.kind if isinstance(error, ExchangeFailed) else type(error).__name__


def _broken(
    request: Request, error: ExchangeFailed | OssProtocolError, attempts: int, head: ResponseHead | None
) -> Verdict:
    request_id = getattr(error, "request_id", "") if head is None else head.get("x-oss-request-id")
    facts = refusals.circumstances(attempts, request_id)
    text = f"{refusals.subject(request)}: {printable(str(error))} {facts}"
    if isinstance(error, OssProtocolError):
        return Failure(kind="protocol"), OssProtocolError(text)
    kind: type[OssError] = OssTimeoutError if error.kind in ("timeout", "connect_timeout") else OssConnectionError
    return Failure(kind=error.kind, reused_connection=error.reused), kind(text)


def _size(request: Request) -> int:
    return sum(memoryview(part).nbytes for part in request.body)
