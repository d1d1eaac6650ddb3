"""Everything the data path does not carry, through aiohttp: answers of any framing, and HTTP proxies.

The proxy is the one the environment names (`https_proxy` and its kin), as curl and oss2 take it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator

import aiohttp
from yarl import URL

from ...errors import OssError, OssProtocolError
from ..heads import ResponseHead
from ..pieces import fill
from ..values import Buffer
from .base import (
    LEAST_PROGRESS_BYTES,
    MAX_UNSIZED_BODY_BYTES,
    ExchangeFailed,
    FailureKind,
    Landing,
    Timeouts,
    WireRequest,
    connect_failure,
    proxy_for,
)

WRITE_SLICE_BYTES = 256 * 1024
IDLE_SECONDS = 45.0


class AioTransport:
    """One aiohttp session for one event loop."""

    def __init__(self, timeouts: Timeouts, tls: ssl.SSLContext | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls or True, keepalive_timeout=IDLE_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=timeouts.connect_seconds, sock_read=timeouts.read_seconds
            ),
            auto_decompress=False,
            # aiohttp's own look at the environment reads .netrc too, in a thread: a login there would replace ours,
            # and there are no threads to be had while the interpreter ends.
            trust_env=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        # aiohttp sends an idempotent request once more by itself, at once and uncounted; how often is `retry`'s to say,
        # and there is no public way to tell it.
        self._session._retry_connection = False
        self._timeouts = timeouts

    async def exchange(self, wire: WireRequest, landing: Landing, deadline: float) -> ResponseHead:
        body = _Body(landing)
        try:
            return await asyncio.wait_for(self._exchange(wire, body), max(deadline - self._loop.time(), 0.0))
        except OssError:  # what the landing raised; some of these are OSErrors too
            raise
        except asyncio.TimeoutError as error:
            raise body.failure("timeout", self._timeout_text(error)) from error
        except aiohttp.ClientProxyConnectionError as error:
            raise ExchangeFailed(
                "connect", f"no connection to the proxy {error.host}:{error.port}: {error.os_error}"
            ) from error
        except (aiohttp.ClientConnectorError, aiohttp.ClientConnectorCertificateError) as error:
            raise connect_failure(wire.origin, error) from error
        except aiohttp.InvalidURL as error:
            raise ExchangeFailed("setup", "the proxy that the environment names is no http://host:port") from error
        except aiohttp.ClientHttpProxyError as error:
            raise ExchangeFailed("connect", f"the proxy answered {error.status} {error.message}") from error
        except aiohttp.ClientResponseError as error:
            raise OssProtocolError(f"the answer is not HTTP/1.1: {error.message}") from error
        except (RuntimeError, AssertionError) as error:
            if not self._session.closed:
                raise
            raise ExchangeFailed("reset", "the client was closed meanwhile") from error
        except (aiohttp.ClientError, OSError) as error:
            raise body.failure("reset", f"the connection broke: {error}") from error

    def _timeout_text(self, error: Exception) -> str:
        if isinstance(error, aiohttp.ConnectionTimeoutError):
            return f"no connection within {self._timeouts.connect_seconds:g} s"
        if isinstance(error, aiohttp.SocketTimeoutError):
            return f"hardly a byte for {self._timeouts.read_seconds:g} s"
        return "the operation's time was used up"

    async def aclose(self) -> None:
        await self._session.close()

    async def _exchange(self, wire: WireRequest, body: _Body) -> ResponseHead:
        authority = f"[{wire.origin.host}]" if ":" in wire.origin.host else wire.origin.host
        url = f"{wire.origin.scheme}://{authority}:{wire.origin.port}{wire.target}"
        async with self._session.request(
            wire.method,
            URL(url, encoded=True),
            headers=wire.headers,
            data=_slices(wire.body) if wire.body else None,
            allow_redirects=False,
            proxy=proxy_for(wire.origin),
        ) as answer:
            head = _head(answer)
            body.request_id = head.get("x-oss-request-id")
            connection = answer.connection.transport if answer.connection is not None else None
            if head.body_length(wire.method) == 0:
                body.skip(head)
            else:
                await body.read(head, _steady(answer.content, self._timeouts.read_seconds))
            if connection is not None and connection.get_write_buffer_size():
                connection.abort()  # answered before the upload was through: the rest is not wanted
            return head


class _Body:
    """Brings a body into the caller's memory; without a stated length it is gathered first, up to a limit."""

    def __init__(self, landing: Landing) -> None:
        self._landing = landing
        self.received = 0
        self.request_id = ""

    def failure(self, kind: FailureKind, text: str) -> ExchangeFailed:
        return ExchangeFailed(kind, text, received_bytes=self.received, request_id=self.request_id)

    def skip(self, head: ResponseHead) -> None:
        self._landing.take(head._replace(content_length=0), memoryview(b""))

    async def read(self, head: ResponseHead, content: AsyncIterator[bytes]) -> None:
        if head.content_length is None:
            gathered = await _gather(content)
            self._landing.take(head._replace(content_length=len(gathered)), memoryview(gathered))
            self.received = len(gathered)
            return
        view = self._landing.place(head)
        async for chunk in content:
            stop = self.received + len(chunk)
            if stop > len(view):
                raise OssProtocolError(f"more than the announced {len(view)} bytes")
            fill(view, self.received, memoryview(chunk))
            self.received = stop
        if self.received < len(view):
            raise self.failure("reset", f"{self.received} of {len(view)} bytes, then the end")


def _head(answer: aiohttp.ClientResponse) -> ResponseHead:
    """Return the head as the rest of the client knows it; aiohttp has parsed and framed it already."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    text = headers.get("content-length", "")
    length = int(text) if text.isdecimal() and text.isascii() and len(text) < 20 else None
    return ResponseHead(answer.status, headers, length, length is None, keep_alive=True)


async def _steady(content: aiohttp.StreamReader, patience_seconds: float) -> AsyncIterator[bytes]:
    """Yield a body as it comes; `asyncio.TimeoutError` if it drips."""
    loop = asyncio.get_running_loop()
    received, since = 0, loop.time()
    async for chunk in content.iter_any():
        yield chunk
        received += len(chunk)
        if received >= LEAST_PROGRESS_BYTES:
            received, since = 0, loop.time()
        elif loop.time() - since >= patience_seconds:
            raise aiohttp.SocketTimeoutError


async def _gather(content: AsyncIterator[bytes]) -> bytearray:
    gathered = bytearray()
    async for chunk in content:
        gathered += chunk
        if len(gathered) > MAX_UNSIZED_BODY_BYTES:
            raise OssProtocolError(f"an answer without a length, over {MAX_UNSIZED_BODY_BYTES} bytes")
    return gathered


async def _slices(body: tuple[Buffer, ...]) -> AsyncIterator[memoryview]:
    for part in body:
        view = memoryview(part).cast("B")
        for start in range(0, len(view), WRITE_SLICE_BYTES):
            yield view[start : start + WRITE_SLICE_BYTES]
