"""Non-blocking sockets, plain and TLS, with one interface.

`receive` and `send` return None if the socket is not ready, and raise `OSError` if the connection is lost.
"""

from __future__ import annotations

import socket
import ssl
import struct
import sys

_RECORD_BYTES = 16 * 1024  # the largest TLS record
_HAS_SENDMSG = hasattr(socket.socket, "sendmsg")
_ON_LINUX = sys.platform == "linux"
_ESTABLISHED, _CLOSED = 1, 7
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Channel:
    """One accepted connection."""

    __slots__ = ("_socket",)

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock

    def fileno(self) -> int:
        return self._socket.fileno()

    def has_pending(self) -> bool:
        """Whether bytes can be received that the loop does not report."""
        return False

    def is_abandoned(self) -> bool:
        """Whether the peer has closed its end, found out without reading; works on Linux only."""
        return self._state() != _ESTABLISHED

    def is_lost(self) -> bool:
        """Whether the peer has reset the connection; works on Linux only."""
        return self._state() == _CLOSED

    def _state(self) -> int:
        if not _ON_LINUX:  # pragma: no cover - not available elsewhere
            return _ESTABLISHED
        return self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]

    def receive(self, into: memoryview) -> int | None:
        """Return the number of bytes received, 0 at the end of the stream."""
        try:
            return self._socket.recv_into(into)
        except BlockingIOError:
            return None

    def send(self, data: bytes | memoryview) -> int | None:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return None

    def send_both(self, data: bytes | memoryview, piece: memoryview) -> int | None:
        """Send two blocks with one call; return the number of bytes sent."""
        if not _HAS_SENDMSG:  # pragma: no cover - Windows sends them one by one
            return self.send(data)
        try:
            return self._socket.sendmsg((data, piece))
        except BlockingIOError:
            return None

    def end(self) -> None:
        """Close our sending side; receiving still works."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self, *, with_reset: bool = False) -> None:
        """Close, also for forked processes that hold a copy of the socket; with a reset (RST) if asked."""
        sock = self._socket
        try:
            if with_reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            else:
                sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the peer closed first
        sock.close()


class SecureChannel(Channel):
    """An accepted TLS connection; reads and writes do the handshake."""

    __slots__ = ("_tls",)

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._tls = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self._socket = self._tls

    def has_pending(self) -> bool:
        return self._tls.pending() > 0

    def receive(self, into: memoryview) -> int | None:
        try:
            return self._tls.recv_into(into)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def send(self, data: bytes | memoryview) -> int | None:
        try:
            return self._tls.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None

    def send_both(self, data: bytes | memoryview, piece: memoryview) -> int | None:
        return self.send(b"".join((data, piece[:_RECORD_BYTES])))


def endpoint_of(scheme: str, host: str, port: int) -> str:
    """Return the endpoint, for clients on this machine, of a server that listens on `host`."""
    host = loopback_of(host)
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def loopback_of(host: str) -> str:
    """Return the loopback address if `host` means all addresses, else `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
