"""Requests as bytes on sockets: what well-behaved HTTP clients would never send."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from osstorchconnector.emulator import Emulator
from osstorchconnector.protocol.heads import ResponseHead, encode_head, parse_response_head
from osstorchconnector.protocol.signing import V4Signer, encode_key, encode_query
from osstorchconnector.protocol.values import Request


def request(
    oss: Emulator,
    method: str,
    key: str = "",
    query: Sequence[tuple[str, str]] = (),
    headers: Sequence[tuple[str, str]] = (),
    *,
    bucket: str = "photos",
) -> bytes:
    """Return the head of a signed request; lengths are up to the caller."""
    wanted = Request("", method, bucket, key, tuple(query), tuple(headers))
    signed = V4Signer(oss.credentials, oss.region).sign(wanted, int(time.time()))
    target = f"/{bucket}/{encode_key(key)}" + (f"?{encode_query(query)}" if query else "")
    return encode_head(method, target, [("host", f"127.0.0.1:{oss.port}"), *headers, *signed])


def put(oss: Emulator, key: str, length: int) -> bytes:
    return request(oss, "PUT", key, headers=[("content-length", str(length))])


@contextmanager
def connected(oss: Emulator, *, receive_buffer: int = 0) -> Iterator[Peer]:
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(200)
    sock.connect(("127.0.0.1", oss.port))
    with sock:
        yield Peer(sock)


class Peer:
    """The client's end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._seen = bytearray()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def head(self) -> ResponseHead:
        """Return the next answer's head."""
        while True:
            parsed = parse_response_head(self._seen, len(self._seen))
            if parsed is not None:
                del self._seen[: parsed[1]]
                return parsed[0]
            self._receive()

    def answer(self, method: str = "GET") -> tuple[ResponseHead, bytes]:
        """Return the next answer."""
        head = self.head()
        length = head.body_length(method)
        assert length is not None
        return head, self.take(length)

    def take(self, count: int) -> bytes:
        while len(self._seen) < count:
            self._receive()
        data = bytes(self._seen[:count])
        del self._seen[:count]
        return data

    def skip(self, count: int) -> None:
        """Receive `count` bytes and keep none of them."""
        count -= len(self.take(min(count, len(self._seen))))
        into = memoryview(bytearray(1024 * 1024))
        while count:
            received = self.socket.recv_into(into[: min(count, len(into))])
            assert received, f"closed with {count} bytes to come"
            count -= received

    def rest(self) -> bytes:
        """Return everything until the server closes."""
        while data := self.socket.recv(65536):
            self._seen += data
        return bytes(self._seen)

    def _receive(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(f"closed after {bytes(self._seen[:200])!r}")
        self._seen += data
