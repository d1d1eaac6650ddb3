"""The server: a listening socket, its connections, and their event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import signal
import socket
import ssl
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from ..credentials import Credentials
from ..protocol.heads import RequestHead
from .connection import RECEIVE_BYTES, ServerConnection, Work
from .control import PREFIX, Control
from .distance import Distance, Link
from .frontend import Frontend
from .network import Network
from .routing import Hosts
from .service import Policy, Service
from .sockets import Channel, SecureChannel, endpoint_of
from .wakeups import wake_ups_of

# A small send buffer stays in the processor's cache. With the megabytes that the system allows, a large object takes
# more than twice the time on loopback (measured). Receiving needs no such limit.
SEND_BUFFER_BYTES = 512 * 1024

_BACKLOG = 1024
_ACCEPTS_A_TURN = 64
_PATIENCE_SECONDS = 0.1
# How often to look for lost connections.
_LOOK_SECONDS = 1.0
_QUIET_PORTS = range(15_000, 30_000)
_ATTEMPTS = 20


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """All settings of a server. Its secrets are never written to `root`."""

    root: Path
    is_temporary: bool = False
    host: str = "127.0.0.1"
    port: int = 0
    identities: tuple[Credentials, ...] = ()
    policy: Policy = field(default_factory=Policy)
    domains: tuple[str, ...] = ()
    cnames: dict[str, str] = field(default_factory=dict)
    buckets: tuple[str, ...] = ()
    control_token: str = field(default="", repr=False)
    certfile: str = ""
    keyfile: str = ""
    network: Network | None = None

    @property
    def scheme(self) -> str:
        return "https" if self.certfile else "http"


class Server:
    """One emulator; `start` opens the port, `close` closes all connections."""

    def __init__(self, settings: ServerSettings, loop: asyncio.AbstractEventLoop) -> None:
        self.settings, self.loop = settings, loop
        self._tls = _tls_context(settings)
        self.service = Service.open(settings.root, *settings.identities, policy=settings.policy)
        self.frontend = Frontend(self.service, Hosts(settings.domains, settings.cnames))
        self._control = Control(
            self.frontend,
            settings.control_token,
            end_stalls=self._end_stalls,
            network=settings.network,
            set_network=self._set_network,
        )
        self._distance: Distance | None = None
        self._set_network(settings.network)
        self._wake_ups = wake_ups_of(loop)
        self._connections: set[ServerConnection] = set()
        self._scratch = memoryview(bytearray(RECEIVE_BYTES))
        self._listener: socket.socket | None = None

    def start(self) -> int:
        """Listen, and return the port."""
        settings = self.settings
        for name in settings.buckets:
            self.service.ensure_bucket(name)
        listener = listen(settings.host, settings.port)
        listener.setblocking(False)
        self._listener = listener
        self.loop.add_reader(listener.fileno(), self._accept)
        self._close_lost()
        port: int = listener.getsockname()[1]
        self.service.endpoint = endpoint_of(settings.scheme, settings.host, port)
        return port

    def close(self) -> None:
        if self._listener is not None:
            self.loop.remove_reader(self._listener.fileno())
            self._listener.close()
        for connection in list(self._connections):
            connection.close()
        self._wake_ups.close()
        self.service.close()

    def _accept(self) -> None:
        assert self._listener is not None
        for _ in range(_ACCEPTS_A_TURN):
            try:
                sock, _address = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:
                self._pause_accepting()
                return
            self._adopt(sock)

    def _pause_accepting(self) -> None:
        """Stop accepting for a moment after an error (too many open files): retries would keep the loop busy."""
        assert self._listener is not None
        self.loop.remove_reader(self._listener.fileno())
        self.loop.call_later(_PATIENCE_SECONDS, self.loop.add_reader, self._listener.fileno(), self._accept)

    def _adopt(self, sock: socket.socket) -> None:
        channel = Channel(sock) if self._tls is None else SecureChannel(sock, self._tls)
        self.frontend.recorder.connected()
        self._connections.add(
            ServerConnection(
                channel,
                loop=self.loop,
                wake_ups=self._wake_ups,
                usable_at=0.0 if self._distance is None else self._distance.usable_at(is_secure=self._tls is not None),
                begin=partial(self._begin, Link()),
                forget=self._forget,
                blobs=self.service.blobs,
                scratch=self._scratch,
            )
        )

    def _begin(self, link: Link, head: RequestHead) -> Work:
        if head.path.startswith(PREFIX):
            return self._control.begin(head)
        work = self.frontend.begin(head)
        return work if self._distance is None else link.carry(work, self._distance)

    def _set_network(self, network: Network | None) -> None:
        """Put the server behind a network from the next request on; None means behind none."""
        self._distance = None if network is None else Distance(network)

    def _end_stalls(self) -> None:
        for connection in list(self._connections):
            if connection.is_paused:
                connection.close()

    def _close_lost(self) -> None:
        """Close connections that were reset; uvloop does not report all of them."""
        for connection in list(self._connections):
            connection.close_if_lost()
        self.loop.call_later(_LOOK_SECONDS, self._close_lost)

    def _forget(self, connection: ServerConnection) -> None:
        self._connections.discard(connection)
        self.frontend.recorder.disconnected()


def run(settings: ServerSettings, *, announce: Callable[[int], None], stop_at_end_of: int | None = None) -> bool:
    """Serve until SIGTERM, SIGINT, or the end of the file `stop_at_end_of`; return whether that end stopped it.

    Calls `announce` with the port when the server accepts connections.
    """
    raise_file_limit()
    ended: list[int] = []
    with contextlib.closing(new_loop()) as loop, contextlib.closing(Server(settings, loop)) as server:
        port = server.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, loop.stop)
        if stop_at_end_of is not None:
            loop.add_reader(stop_at_end_of, _stop_at_end, loop, stop_at_end_of, ended)
        # Announced by the running loop, because a signal that arrives earlier may be lost.
        loop.call_soon(announce, port)
        # The records just loaded stay, perhaps a million of them: the collector need not scan them.
        gc.freeze()
        # Each request leaves a few dozen objects in the log, so the usual thresholds would scan all of it too often.
        gc.set_threshold(50_000, 20, 20)
        loop.run_forever()
    return bool(ended)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 means a free port outside the range of outgoing connections.

    While a server in that range restarts, a client that keeps connecting to it can be given this very port: then it is
    connected to itself, and the server can't have its port back.
    """
    listener = _bound(host, port)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # accepted sockets inherit it
    return listener


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if port == 0:
        for candidate in random.sample(_QUIET_PORTS, _ATTEMPTS):
            with contextlib.suppress(OSError):
                return socket.create_server((host, candidate), family=family, backlog=_BACKLOG)
    return socket.create_server((host, port), family=family, backlog=_BACKLOG)


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of uvloop, if it is installed."""
    try:
        import uvloop
    except ImportError:  # pragma: no cover - where there is no uvloop
        return asyncio.SelectorEventLoop()
    return uvloop.new_event_loop()


def raise_file_limit() -> None:
    """Raise the limit of open files as far as allowed: each connection is one, and each object being read."""
    if sys.platform == "win32":  # pragma: no cover - no such limit there
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _stop_at_end(loop: asyncio.AbstractEventLoop, descriptor: int, ended: list[int]) -> None:
    if not os.read(descriptor, 4096):
        ended.append(descriptor)
        loop.remove_reader(descriptor)
        loop.stop()


def _tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    if not settings.certfile:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.certfile, settings.keyfile or None)
    except OSError as error:
        files = " and ".join(filter(None, (settings.certfile, settings.keyfile)))
        raise OSError(f"no certificate and key in {files}: {error}") from error
    return context
