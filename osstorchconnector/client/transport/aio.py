"""What our own connections do not carry, through aiohttp: answers of any framing, and HTTP proxies.

The proxy is the one the environment names (`https_proxy` and its kin), as curl and oss2 take it.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import socket
import ssl
from collections.abc import AsyncIterator, Callable

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from ...errors import OssError, OssProtocolError
from ...protocol.heads import ResponseHead, hide_error_document
from ...protocol.values import Buffer
from ...redaction import MAX_NAME_LETTERS
from ..clocks import LoopClock, RunningTime, loop_clock, seconds_slept
from ..memory import fill
from ..news import Listener
from .addresses import HEAD_START_SECONDS, NO_PROXY, UNUSABLE, Addresses, AddressInfo, connect_failure, proxy_and_login
from .base import (
    IDLE_SECONDS,
    LEAST_PROGRESS_BYTES,
    MAX_UNSIZED_BODY_BYTES,
    SLOWEST_BYTES_PER_SECOND,
    BodySink,
    ExchangeFailed,
    FailureKind,
    Timeouts,
    WireRequest,
    check_not_early,
    unsent_bytes,
)

WRITE_SLICE_BYTES = 256 * 1024


class _Connecting:
    """What an exchange did to get a connection; nothing if it took an idle one."""

    def __init__(self) -> None:
        self.host, self.port = "", 0
        self.infos: list[AddressInfo] = []
        self.made: list[tuple[AddressInfo, socket.socket]] = []
        self.transport: asyncio.Transport | None = None

    @property
    def is_new(self) -> bool:
        """True if the exchange made its connection, or tried to."""
        return bool(self.host or self.made)


# aiohttp makes connections in tasks of its own. This tells them for which exchange.
_connecting: contextvars.ContextVar[_Connecting] = contextvars.ContextVar("connecting")


class _Resolver(AbstractResolver):
    """Gives aiohttp the addresses of a host as `Addresses` orders them."""

    def __init__(self, addresses: Addresses, seconds: float) -> None:
        self._addresses, self._seconds = addresses, seconds

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        connecting = _connecting.get()
        connecting.host, connecting.port = host, port
        connecting.infos = await self._addresses.of(host, port, self._seconds)
        return [
            ResolveResult(hostname=host, host=address[0], port=address[1], family=family, proto=protocol, flags=0)
            for family, _, protocol, _, address in connecting.infos
        ]

    async def close(self) -> None:
        """Nothing is open."""


class _Connector(aiohttp.TCPConnector):
    """Does not use a connection again on which bytes came between two requests.

    aiohttp keeps such bytes and takes them for the next answer.
    """

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is None or not connection.protocol.should_close:
                _connecting.get().transport = connection.transport
                return connection
            connection.close()
            if _connecting.get().is_new:  # the next one would be no better
                raise aiohttp.ClientConnectionError(UNUSABLE)


class _Pool:
    """One aiohttp session and its connections."""

    def __init__(self, timeouts: Timeouts, tls: ssl.SSLContext | None, addresses: Addresses) -> None:
        self.users = 0
        self.session = aiohttp.ClientSession(
            connector=_Connector(
                limit=0,
                ssl=tls or True,
                keepalive_timeout=IDLE_SECONDS,
                socket_factory=_socket,
                resolver=_Resolver(addresses, timeouts.connect_seconds),
                use_dns_cache=False,  # `addresses` is one
                happy_eyeballs_delay=HEAD_START_SECONDS,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None,
                connect=2 * timeouts.connect_seconds,  # the resolver and the tunnel of a proxy included
                sock_connect=timeouts.connect_seconds,
                sock_read=timeouts.read_seconds,
            ),
            auto_decompress=False,
            # With trust_env aiohttp reads .netrc too, in a thread: a login there would replace ours, and no thread can
            # be started while the interpreter ends.
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        # By itself aiohttp sends an idempotent request once more, at once and uncounted. Here `retry` decides that, and
        # there is no public way to turn it off.
        self.session._retry_connection = False


class AioTransport:
    """A pool of connections for one event loop.

    aiohttp has no way to drop idle connections: where they may have died, the whole pool is replaced.
    """

    def __init__(
        self,
        timeouts: Timeouts,
        tls: ssl.SSLContext | None,
        *,
        addresses: Addresses | None = None,
        sleep_clock: Callable[[], float] = seconds_slept,
    ) -> None:
        self._clock = loop_clock()
        self._clock.tick_within(min(timeouts.read_seconds, timeouts.connect_seconds) / 4)
        self._timeouts, self._tls = timeouts, tls
        self._listener = Listener(self._clock, timeouts.read_seconds)
        self._addresses = addresses or Addresses()
        self._sleep_clock = sleep_clock
        self._slept = sleep_clock()
        self._pool = _Pool(timeouts, tls, self._addresses)
        self._pools = {self._pool}  # all that are open
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False

    async def exchange(
        self, wire: WireRequest, sink: BodySink, deadline: float, *, on_new_connection: bool = False
    ) -> ResponseHead:
        slept = self._sleep_clock()
        if on_new_connection or slept - self._slept > IDLE_SECONDS:  # aiohttp does not count time asleep
            self._replace_pool()
        self._slept = slept
        pool, body = self._pool, _Body(sink, deadline)
        token = _connecting.set(body.connecting)
        pool.users += 1
        begun = self._clock.look()
        upload = _Upload(wire.body, self._clock, self._timeouts.read_seconds)
        try:
            with self._listener.listening(wire.origin.host, lambda: (body.progress, upload.left_bytes)):
                return await self._clock.wait_for(
                    self._exchange(pool, wire, body, upload), lambda: min(body.patience(begun), upload.patience())
                )
        except OssError:  # what the sink raised; some of these are OSErrors too
            raise
        except asyncio.TimeoutError as error:
            raise self._timed_out(body, upload, error) from error
        except aiohttp.ClientProxyConnectionError as error:
            raise ExchangeFailed(
                "connect", f"no connection to the proxy {error.host}:{error.port}: {error.os_error}"
            ) from error
        except (aiohttp.ClientConnectorError, aiohttp.ClientConnectorCertificateError) as error:
            self._addresses.book.forget(body.connecting.host, body.connecting.port)
            raise connect_failure(wire.origin, error) from error
        except aiohttp.InvalidURL as error:
            raise ExchangeFailed("setup", NO_PROXY, heading="WrongProxy") from error
        except aiohttp.ClientHttpProxyError as error:
            raise ExchangeFailed(
                "connect", f"the proxy answered {error.status} {error.message[:MAX_NAME_LETTERS]}"
            ) from error
        except aiohttp.ClientResponseError as error:
            raise OssProtocolError(f"the answer is not HTTP/1.1: {error.message[:MAX_NAME_LETTERS]}") from error
        except (RuntimeError, AssertionError) as error:
            if not self._is_closed:
                raise
            raise ExchangeFailed("reset", "the client was closed meanwhile") from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._failure(body, "reset", f"the connection broke: {error}") from error
        finally:
            body.abort_if_unanswered()
            _connecting.reset(token)
            pool.users -= 1
            self._close_unwanted(pool)

    def _timed_out(self, body: _Body, upload: _Upload, error: Exception) -> ExchangeFailed:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return ExchangeFailed("connect_timeout", f"no connection within {self._timeouts.connect_seconds:g} s")
        now = self._clock.look()
        if isinstance(error, aiohttp.SocketTimeoutError) or upload.patience() <= now < body.deadline:
            return self._failure(body, "timeout", f"hardly a byte for {self._timeouts.read_seconds:g} s")
        if now < body.deadline:
            return self._failure(body, "timeout", "no answer for half of the operation's time")
        return self._failure(body, "timeout", "the operation's time was used up")

    async def aclose(self) -> None:
        self._is_closed = True
        await asyncio.gather(*[pool.session.close() for pool in self._pools], *self._closing)

    def _replace_pool(self) -> None:
        old, self._pool = self._pool, _Pool(self._timeouts, self._tls, self._addresses)
        self._pools.add(self._pool)
        self._close_unwanted(old)

    def _close_unwanted(self, pool: _Pool) -> None:
        """Close a pool that has been replaced when its last user has gone."""
        if pool is not self._pool and pool in self._pools and not pool.users:
            self._pools.discard(pool)
            closing = asyncio.ensure_future(pool.session.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _note_address(self, connecting: _Connecting) -> None:
        """Take in which address has answered; aiohttp has closed the sockets of those that it tried before."""
        for _, made in connecting.made:
            self._addresses.won(connecting.host, connecting.infos, made)

    def _failure(self, body: _Body, kind: FailureKind, text: str) -> ExchangeFailed:
        if not body.has_begun:  # another address may lead to a server that is well
            for info, _ in body.connecting.made:
                self._addresses.lost(info[4])
        return body.failure(kind, text)

    async def _exchange(self, pool: _Pool, wire: WireRequest, body: _Body, upload: _Upload) -> ResponseHead:
        authority = f"[{wire.origin.host}]" if ":" in wire.origin.host else wire.origin.host
        url = f"{wire.origin.scheme}://{authority}:{wire.origin.port}{wire.target}"
        proxy, login = proxy_and_login(wire.origin)
        through_proxy = wire.origin.scheme == "http"  # of https the proxy sees only the request for a tunnel
        async with pool.session.request(
            wire.method,
            URL(url, encoded=True),
            headers=[*wire.headers, *login] if through_proxy else wire.headers,
            data=upload.slices() if wire.body else None,
            allow_redirects=False,
            proxy=proxy,
            proxy_headers=login,
        ) as answer:
            head = _head(answer)
            body.has_begun = True
            self._note_address(body.connecting)
            body.request_id = head.get("x-oss-request-id")
            connection = answer.connection.transport if answer.connection is not None else None
            # Looked at now: at the end of the body the connection is free, and may carry somebody else's request.
            is_early = bool(upload.left_bytes or unsent_bytes(connection))
            if head.body_length(wire.method) == 0:
                body.skip(head)
            else:
                await body.read(head, _steady(answer.content, self._timeouts.read_seconds, self._clock.running))
            if is_early:
                if connection is not None:
                    connection.abort()  # answered before the whole upload was sent: the rest is not wanted
                check_not_early(head)
            return head


class _Body:
    """Brings a body into the caller's memory; without a stated length it is gathered first, up to a limit."""

    def __init__(self, sink: BodySink, deadline: float) -> None:
        self._sink = sink
        self._first_deadline, self._known_bytes = deadline, sink.moved_bytes
        self.connecting = _Connecting()
        self.has_begun = False  # the head has come
        self.received = self._gathered_bytes = 0
        self.request_id = ""

    @property
    def deadline(self) -> float:
        """Until when the exchange may last. Each byte that comes or is announced adds to it."""
        more_bytes = self._sink.moved_bytes - self._known_bytes + self._gathered_bytes
        return self._first_deadline + more_bytes / SLOWEST_BYTES_PER_SECOND

    @property
    def progress(self) -> tuple[bool, int, int]:
        return self.has_begun, self.received, self._gathered_bytes

    def failure(self, kind: FailureKind, text: str) -> ExchangeFailed:
        reused = not self.connecting.is_new and not self.has_begun
        return ExchangeFailed(kind, text, received_bytes=self.received, reused=reused, request_id=self.request_id)

    def patience(self, begun: float) -> float:
        """Return until when to wait. A reused connection that stays silent gets half of the time at most."""
        return self.deadline if self.has_begun or self.connecting.is_new else (begun + self.deadline) / 2

    def abort_if_unanswered(self) -> None:
        """End the connection at once. aiohttp would wait until all is sent, which may be never."""
        if not self.has_begun and self.connecting.transport is not None:
            self.connecting.transport.abort()

    def skip(self, head: ResponseHead) -> None:
        self._sink.accept_whole(head._replace(content_length=0), memoryview(b""))

    async def read(self, head: ResponseHead, content: AsyncIterator[bytes]) -> None:
        if head.content_length is None:
            gathered = await self._gather(content)
            ended = head._replace(content_length=len(gathered)) if head.chunked else head
            self._sink.accept_whole(ended, memoryview(gathered))
            self.received = len(gathered)
            return
        view = self._sink.buffer_for(head)
        async for chunk in content:
            stop = self.received + len(chunk)
            if stop > len(view):
                raise OssProtocolError(f"more than the announced {len(view)} bytes")
            fill(view, self.received, memoryview(chunk))
            self.received = stop
        if self.received < len(view):
            raise self.failure("reset", f"{self.received} of {len(view)} bytes, then the end")

    async def _gather(self, content: AsyncIterator[bytes]) -> bytearray:
        gathered = bytearray()
        async for chunk in content:
            gathered += chunk
            self._gathered_bytes = len(gathered)
            if len(gathered) > MAX_UNSIZED_BODY_BYTES:
                raise OssProtocolError(f"an answer without a length, over {MAX_UNSIZED_BODY_BYTES} bytes")
        return gathered


def _socket(info: AddressInfo) -> socket.socket:
    """Make a socket as aiohttp does, and take note of it."""
    family, kind, protocol, *_ = info
    made = socket.socket(family, kind, protocol)
    _connecting.get().made.append((info, made))
    return made


def _head(answer: aiohttp.ClientResponse) -> ResponseHead:
    """Return the head as the rest of the client knows it; aiohttp has parsed and framed it already."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    hide_error_document(headers)
    text = headers.get("content-length", "")
    length = int(text) if text.isdecimal() and text.isascii() and len(text) < 20 else None
    chunked = headers.get("transfer-encoding", "").lower().endswith("chunked")
    return ResponseHead(answer.status, headers, None if chunked else length, chunked, keep_alive=True)


async def _steady(content: aiohttp.StreamReader, patience_seconds: float, running: RunningTime) -> AsyncIterator[bytes]:
    """Yield a body as it comes; `asyncio.TimeoutError` if it drips."""
    received, since = 0, running.seconds
    async for chunk in content.iter_any():
        yield chunk
        received += len(chunk)
        if received >= LEAST_PROGRESS_BYTES:
            received, since = 0, running.seconds
        elif running.seconds - since >= patience_seconds:
            raise aiohttp.SocketTimeoutError


class _Upload:
    """A request's body in slices; `left_bytes` of it have not been taken yet."""

    def __init__(self, body: tuple[Buffer, ...], clock: LoopClock, seconds: float) -> None:
        self._views = [memoryview(part).cast("B") for part in body]
        self.left_bytes = sum(map(len, self._views))
        self._clock, self._seconds, self._until = clock, seconds, math.inf

    def patience(self) -> float:
        """Return until when to wait for the next slice to be taken. aiohttp has no limit of its own."""
        return self._until if self.left_bytes else math.inf

    async def slices(self) -> AsyncIterator[memoryview]:
        for view in self._views:
            for start in range(0, len(view), WRITE_SLICE_BYTES):
                piece = view[start : start + WRITE_SLICE_BYTES]
                self.left_bytes -= len(piece)
                self._until = self._clock.look() + self._seconds
                yield piece
