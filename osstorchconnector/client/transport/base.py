"""The seam between operations and the wire.

A transport sends one request and brings the answer's body where the caller's `BodySink` says. The sink sees the
answer's head first, and gives the memory for exactly `head.content_length` bytes, or raises to refuse the body (the
connection is then closed and the error passed on). So nothing a server claims about its answer decides how much
memory is taken or where bytes land.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import os
import socket
import ssl
import urllib.request
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from yarl import URL

from ...errors import OssProtocolError
from ...protocol.endpoint import Origin, is_this_machine
from ...protocol.heads import ResponseHead
from ...protocol.values import Buffer
from ...redaction import Secret, SecretBytes, keeper
from ..memory import Memory

FailureKind = Literal["setup", "connect", "connect_timeout", "reset", "timeout", "protocol"]


class WireRequest(NamedTuple):
    """A signed request: `headers` are complete (host and length included), `target` is encoded.

    `operation` (OSS's name for it, `GetObject`), `bucket`, `key` (decoded) and `attempt` (1 is the first try) say what
    the request is about. They are for layers and logs: nothing of them needs to be sent.
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
        """Return the memory to fill."""

    def progressed(self, received_bytes: int) -> None:
        """`received_bytes` of the body are in the memory that `buffer_for` gave. May be called any number of times."""

    def accept_whole(self, head: ResponseHead, body: memoryview) -> None:
        """Copy the body: it is whole, and valid during the call only.

        `head.content_length` is None where only the end of the connection ended it: then it may have been cut off.
        """


class ExchangeFailed(Exception):
    """No whole answer: what failed, and how many bytes of the body are already in place.

    `reused` is True when a connection that had been idle broke, or went silent, before the first byte of the answer. It
    had most likely died before, and the request may be sent again at once on a new one. `request_id`
    is OSS's, if its head came.
    """

    def __init__(
        self, kind: FailureKind, text: str, *, received_bytes: int = 0, reused: bool = False, request_id: str = ""
    ) -> None:
        super().__init__(text)
        self.kind, self.received_bytes, self.reused, self.request_id = kind, received_bytes, reused, request_id


class UnsizedBody(Exception):
    """The answer is as long as the connection lives, which `direct` does not read: ask again through aiohttp."""


# A connection that was idle for longer is not used again. OSS closes it after 60 s. A NAT or a load balancer may forget
# it earlier without a word, and the next request would wait until it times out.
IDLE_SECONDS = 10.0

# An answer that does not say how long it is, is gathered in memory, up to so much.
MAX_UNSIZED_BODY_BYTES = 64 * 1024 * 1024


# Each MiB adds a second to an operation's time, so a slow line is not taken for one that hangs.
SLOWEST_BYTES_PER_SECOND = 1024 * 1024

# Fewer bytes than this in the time allowed for one are none: a server that drips is as good as one that is silent.
LEAST_PROGRESS_BYTES = 1024


NO_PROXY = "the proxy that the environment names is no http://host:port"
# Of a new connection.
UNUSABLE = "the server closed the connection, or sent something, before it was asked for anything"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds: until connected, and without progress in either direction."""

    connect_seconds: float
    read_seconds: float


def check_not_early(head: ResponseHead) -> None:
    """Refuse an answer that came before the request's body was sent, unless it is a refusal.

    A server that has not read all of a request can't have done what it asks for.
    """
    if head.status < 300:
        raise OssProtocolError(f"answered {head.status} before the request's body was read")


def unsent_bytes(transport: asyncio.WriteTransport | None) -> int:
    """Return how much was written and has not left yet; nothing of a connection that is gone."""
    try:
        return 0 if transport is None else transport.get_write_buffer_size()
    except AttributeError:  # TLS of Python 3.10's asyncio has forgotten its connection by then
        return 0


def connect_failure(origin: Origin, error: Exception) -> ExchangeFailed:
    """Return the failure for an error of connecting, with what the user can do where no retry helps."""
    where = f"{origin.host}:{origin.port}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return ExchangeFailed(
                "setup",
                f"the TLS certificate of {where} is not trusted: {cause}; if an authority of your own "
                "signed it, name its file with the config key caFile",
            )
        if isinstance(cause, ssl.SSLError) and getattr(cause, "reason", "") == "WRONG_VERSION_NUMBER":
            return ExchangeFailed(
                "setup", f"{where} does not speak TLS; if plain http is meant, say http:// in endpoint="
            )
        if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
            return ExchangeFailed(
                "setup", f"the host {origin.host} is not known; check endpoint= and the bucket's name"
            )
        cause = cause.__cause__ or getattr(cause, "os_error", None)
    return ExchangeFailed("connect", f"no connection to {where}: {_reason(getattr(error, 'os_error', error))}")


def _reason(error: BaseException) -> str:
    """Return what the system said, in its own words: those of asyncio and aiohttp repeat the address."""
    number = getattr(error, "errno", None)
    plain = isinstance(error, OSError) and not isinstance(error, ssl.SSLError | socket.gaierror)
    return os.strerror(number) if plain and number else str(error) or type(error).__name__


def proxy_for(origin: Origin) -> Secret | None:
    """Return the HTTP proxy that the environment names for a host, if it names one; none leads to this very machine.

    It may hold a login.

    `no_proxy` names hosts, domains, either of them with a port, and networks such as 10.0.0.0/8, which urllib does not
    know.
    """
    if is_this_machine(origin.host) or urllib.request.proxy_bypass(f"{origin.host}:{origin.port}"):
        return None
    if _is_in_networks(origin.host, urllib.request.getproxies().get("no", "")):
        return None
    proxy = urllib.request.getproxies().get(origin.scheme)
    return None if proxy is None else Secret(proxy if "://" in proxy else f"http://{proxy}")


def proxy_and_login(origin: Origin) -> tuple[URL | None, list[tuple[str, Secret]]]:
    """Return the address of the proxy without a login, and the header that logs in: tracebacks show addresses."""
    address = proxy_for(origin)
    if address is None:
        return None, []
    try:
        url = keeper(URL(address))
    except ValueError:
        raise ExchangeFailed("setup", NO_PROXY) from None
    if url().user is None and url().password is None:
        return url(), []
    login = SecretBytes(f"{url().user or ''}:{url().password or ''}".encode())
    return url().with_user(None), [("Proxy-Authorization", Secret(f"Basic {base64.b64encode(login).decode()}"))]


def _is_in_networks(host: str, names: str) -> bool:
    for name in names.split(","):
        with contextlib.suppress(ValueError):  # the host, or the name, is no address
            if ipaddress.ip_address(host) in ipaddress.ip_network(name.strip(), strict=False):
                return True
    return False


class Transport(Protocol):
    async def exchange(
        self, wire: WireRequest, sink: BodySink, deadline: float, *, on_new_connection: bool = False
    ) -> ResponseHead:
        """Send `wire`, bring the body where `sink` says, return the head.

        `deadline` is in the time of `loop_clock()`. When a connection has died while it was idle, all that were idle
        for as long are dropped. With `on_new_connection` none that was used before is used. Raises `ExchangeFailed`, or
        what `sink` raised.
        """
        ...

    async def aclose(self) -> None:
        """Drop every connection; exchanges still running fail."""
        ...
