"""The seam between operations and the network. Read this to write a transport of your own.

A transport sends one request and receives one answer, over connections that it manages. Signing, retries and the
judgement of answers happen above it. `OssClient(transport=factory)` uses yours: the client calls the `factory` (a
`TransportFactory`) once for each event loop that it sends requests from, on that loop, and then calls `exchange` for
each request, many at a time. A transport belongs to one loop, so it needs no locks.

What `exchange(wire, sink, deadline)` has to do:

1. Send `wire` to `wire.origin` as it is: method, target and headers are encoded and signed.
2. Read the head of the answer into a `ResponseHead`, with names of headers in lower case.
3. Give the body to the `sink`, whatever the status, in one of two ways. If all of it is there:
   `sink.accept_whole(head, body)`. Otherwise take `memory = sink.buffer_for(head)`, which has room for exactly
   `head.content_length` bytes, write them there (`osstorchconnector.client.memory.fill`) and call `sink.progressed`
   now and then. For an answer without a body (of HEAD, or 204): `accept_whole` with `content_length=0` in the head.
4. Return the head.

What can go wrong: if no whole answer came, raise `ExchangeFailed`, with the number of bytes that were written to
`buffer_for`'s memory. If the answer is not HTTP, raise `OssProtocolError`. If the sink raises, it refuses the answer:
close the connection and pass the error on. The exchange may be cancelled: close the connection, and write no more.

So nothing that a server says about its answer decides how much memory is taken, or where bytes are written.
`osstorchconnector.testing.ScriptedTransport` is a small example; `direct` and `aio` are the real ones.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple, Protocol, TypeVar

from ...errors import OssConfigError, OssProtocolError
from ...protocol.endpoint import Origin
from ...protocol.heads import ResponseHead
from ...protocol.values import Buffer
from ..memory import Memory

S = TypeVar("S", bound=IntEnum)

MAX_SESSIONS = 64

FailureKind = Literal["setup", "connect", "connect_timeout", "reset", "timeout", "protocol"]


class WireRequest(NamedTuple):
    """A signed request: `headers` are complete (host and length included), `target` is encoded.

    `operation` (OSS's name for it, `GetObject`), `bucket`, `key` (decoded) and `attempt` (1 is the first try) say what
    the request is about. They are for layers and logs, and are not sent.
    """

    origin: Origin
    method: str
    target: str
    headers: list[tuple[str, str]]
    body: tuple[Buffer, ...] = ()
    operation: str = ""
    bucket: str = ""
    key: str = ""
    attempt: int = 1

    @property
    def body_bytes(self) -> int:
        """The size of the body."""
        return sum(memoryview(part).nbytes for part in self.body)

    def __repr__(self) -> str:
        return f"WireRequest({self.origin!r}, {self.method!r}, {self.target!r}, {self.headers!r})"


class BodySink(Protocol):
    """Where an answer's body goes. `buffer_for` or `accept_whole` is called, once for each answer."""

    fills_in_place: bool
    """True if the body should come straight into the memory that `buffer_for` gives, even the beginning of it."""

    moved_bytes: int
    """How many bytes the operation moves, as far as is known: `buffer_for` may raise it. Deadlines follow it."""

    def buffer_for(self, head: ResponseHead) -> Memory:
        """Return the memory for a body of `head.content_length` bytes; raises to refuse the answer."""

    def progressed(self, received_bytes: int) -> None:
        """`received_bytes` of the body are in the memory that `buffer_for` gave. May be called any number of times."""

    def accept_whole(self, head: ResponseHead, body: memoryview) -> None:
        """Copy the body, which is whole, and valid during the call only; raises to refuse the answer.

        `head.content_length` is None where the body ended with the connection: then it may have been cut off.
        """


class ExchangeFailed(Exception):
    """No whole answer came.

    `kind` says what failed; `retry.FailedTry` explains the kinds, and all but "setup" are tried again.
    `received_bytes` of the body are in the memory that `buffer_for` gave; a GET is resumed behind them. `reused` is
    True when a connection that had been idle broke, or went silent, before the first byte of the answer. It had most
    likely died before, and the request may be sent again at once on a new one. `request_id` is OSS's, if its head came.
    `heading` is the one of docs/errors.md that says what to do, "" for that of the kind.
    """

    def __init__(
        self,
        kind: FailureKind,
        text: str,
        *,
        received_bytes: int = 0,
        reused: bool = False,
        request_id: str = "",
        heading: str = "",
    ) -> None:
        super().__init__(text)
        self.kind, self.received_bytes, self.reused, self.request_id = kind, received_bytes, reused, request_id
        self.heading = heading


class Transport(Protocol):
    """Sends requests on one event loop. The module's docstring says what each method has to do."""

    async def exchange(
        self, wire: WireRequest, sink: BodySink, deadline: float, *, on_new_connection: bool = False
    ) -> ResponseHead:
        """Send `wire`, give the body to `sink`, return the head.

        `deadline` is in the time of `clocks.loop_clock()`. With `on_new_connection` no connection that was used before
        may be used: a request has just failed on one. Raises `ExchangeFailed`, `OssProtocolError`, or what `sink`
        raised.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection; exchanges that still run fail."""
        ...


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds until a connection must be established, and seconds without progress in either direction."""

    connect_seconds: float
    read_seconds: float


class TransportFactory(Protocol):
    """Makes the transport of one event loop. It is called on that loop, when a client sends its first request there.

    `timeouts` are those of the configuration, `tls` has the certificates to trust; it is None for an http endpoint.
    A client that goes to other processes pickles its factory: then it must be a class or a function of a module, or an
    object that pickles.
    """

    def __call__(self, timeouts: Timeouts, tls: ssl.SSLContext | None, /) -> Transport: ...


# The rest is for the transports of this library.

# A connection that was idle for longer is not used again. OSS closes it after 60 s. A NAT or a load balancer may forget
# it earlier without a word, and the next request would wait until it times out.
IDLE_SECONDS = 10.0

# Where the kernel asks idle peers for signs of life, and closes a connection whose peer has been silent for
# `IDLE_SECONDS`, it is used for this long.
PROBED_IDLE_SECONDS = 50.0

# The body of an answer that does not say how long it is is gathered in memory, up to this size.
MAX_UNSIZED_BODY_BYTES = 64 * 1024 * 1024

# Add one second per MiB to an operation's timeout, so that a slow link is not taken for a hang.
SLOWEST_BYTES_PER_SECOND = 1024 * 1024

# Fewer bytes than this within the read timeout do not count as progress.
LEAST_PROGRESS_BYTES = 1024


class UnsizedBody(Exception):
    """The answer ends with the connection, which `direct` does not read: ask again through aiohttp."""


def check_not_early(head: ResponseHead) -> None:
    """Refuse an answer that came before the request's body was sent, unless it is a refusal.

    A server that has not read all of a request can't have done what it asks for.
    """
    if head.status < 300:
        raise OssProtocolError(f"answered {head.status} before the request's body was read")


class Transitions(dict[S, S]):
    """An event of a state machine: each state in which it may happen, and the state after it.

    It is a `RuntimeError` in any other state: `self.state = EVENT[self.state]`.
    """

    def __missing__(self, state: S) -> S:
        raise RuntimeError(f"this may happen in {' and '.join(allowed.name for allowed in self)}, not in {state.name}")


class PeerActivity:
    """Since when the peer has been quiet, as far as one look after another can tell."""

    __slots__ = ("_seen_bytes", "_unsent_bytes", "quiet_since", "touched")

    def __init__(self, now: float, unsent_bytes: int, seen_bytes: int) -> None:
        self.quiet_since, self._unsent_bytes, self._seen_bytes = now, unsent_bytes, seen_bytes
        self.touched = False  # True after the peer has taken bytes that a look may miss

    def look(self, now: float, unsent_bytes: int, seen_bytes: int) -> None:
        """Compare with the last look; `seen_bytes` has arrived of the head, or of the body after that."""
        # Fewer bytes than at the last look: the head is through, and those of the body are counted now.
        has_come = not 0 <= seen_bytes - self._seen_bytes < LEAST_PROGRESS_BYTES
        if self.touched or unsent_bytes < self._unsent_bytes or has_come:
            self.touched, self._seen_bytes, self.quiet_since = False, seen_bytes, now
        self._unsent_bytes = unsent_bytes


def unsent_bytes(transport: asyncio.WriteTransport | None) -> int:
    """Return how many written bytes have not left yet; 0 for a connection that is gone."""
    try:
        return 0 if transport is None else transport.get_write_buffer_size()
    except AttributeError:  # TLS of Python 3.10's asyncio has forgotten its connection by then
        return 0


class ResumingContext(ssl.SSLContext):
    """A context whose connections take up the session of an earlier one to the same host, made by the same thread.

    A server that does not know the session any more makes a new one. `earlier` holds the newest connection that was
    made for each thread and host, and the session to take up: OpenSSL allows no two threads to use one connection.
    """

    earlier: dict[tuple[int, str | bytes | None], tuple[ssl.SSLObject, ssl.SSLSession | None]]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """As the method of `ssl.SSLContext`, which asyncio and uvloop call for each connection."""
        place = threading.get_ident(), server_hostname
        session = session or self._session_of(place)
        made = super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)
        if len(self.earlier) >= MAX_SESSIONS:
            self.earlier.clear()
        self.earlier[place] = made, session
        return made

    def _session_of(self, place: tuple[int, str | bytes | None]) -> ssl.SSLSession | None:
        """Return the newest session: that of the last connection, unless its handshake has not ended."""
        if place not in self.earlier:
            return None
        connection, session = self.earlier[place]
        try:
            newest = connection.session
        except ValueError:  # "i2d() failed": OpenSSL can't copy a session in the middle of its handshake
            return session
        return newest if newest is not None and (newest.has_ticket or newest.id) else session


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Return what connections of https are checked by: the system's certificates, or those of a file."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:
        raise OssConfigError(f"config key caFile: {ca_file!r} can't be loaded: {error}") from error
    context.__class__ = ResumingContext  # all settings stay those of Python's default context
    assert isinstance(context, ResumingContext)
    context.earlier = {}
    return context
