"""A server that plays a script: for each connection, what to answer to its first request, its second, and so on."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator

from osstorchconnector.protocol.checksum import crc64

URI = "oss://bucket/dir/key"
BODY = bytes(range(200))
# Patient: a busy machine may answer late. A test whose server says nothing gives a short `readTimeout` of its own.
QUICK_SETTINGS = {"retryBaseDelay": 0.001, "retryMaxDelay": 0.002, "maxAttempts": 4, "readTimeout": 30}
REQUEST_ID = "5C3D9175B6FC201293AD4890"
Step = bytes | Callable[["Visit"], None]


class Visit:
    """One request on one connection, while it is answered."""

    def __init__(self, server: ScriptedServer, connection: socket.socket, head: bytes) -> None:
        self.server, self.connection, self.head = server, connection, head

    def send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def read_body(self) -> bytes:
        length = int(
            next(line.split(b":")[1] for line in self.head.split(b"\r\n") if line.startswith(b"Content-Length"))
        )
        body = b""
        while len(body) < length:
            body += self.connection.recv(length - len(body))
        return body


def hang(visit: Visit) -> None:
    """Say nothing until the test is over."""
    visit.server.over.wait(100)


def close(visit: Visit) -> None:
    """Close in order, in the middle of whatever it is."""
    visit.connection.close()


def reset(visit: Visit) -> None:
    """Break the connection hard (RST)."""
    visit.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    visit.connection.close()


def first(data: bytes, then: Step) -> Step:
    """Send `data`, then do something else."""

    def step(visit: Visit) -> None:
        visit.send(data)
        if isinstance(then, bytes):
            visit.send(then)
        else:
            then(visit)

    return step


def answer(body: bytes = b"", *, status: str = "200 OK", length: int | None = None, **headers: str) -> bytes:
    """Return an answer of OSS; header names with underscores for hyphens, those with an empty value are left out."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    headers = {"x_oss_request_id": REQUEST_ID, "ETag": '"ETAG"', **headers}
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def whole(body=BODY, **headers):
    return answer(body, **{"ETag": '"E1"', "x_oss_hash_crc64ecma": str(crc64(body))} | headers)


def part(start, stop, body=BODY, length=None, **headers):
    shown = {"ETag": '"E1"', "Content_Range": f"bytes {start}-{stop - 1}/{len(body)}"}
    shown["x_oss_hash_crc64ecma"] = str(crc64(body))
    return answer(body[start:stop], status="206 Partial Content", length=length, **shown | headers)


def refused(status, code, message="told so"):
    xml = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>REQ-1</RequestId><EC>26-1</EC></Error>"
    return answer(xml.encode(), status=status)


class ScriptedServer:
    """Context manager: serves each connection with the next list of steps, then closes the connection."""

    def __init__(self, *connections: Iterable[Step], host: str = "127.0.0.1") -> None:
        self._scripts: Iterable[Iterator[Step]] = [iter(list(steps)) for steps in connections]
        self._listener = socket.create_server((host, 0))
        self.host = host
        self.port: int = self._listener.getsockname()[1]
        self.endpoint = f"http://{host}:{self.port}"
        self.over = threading.Event()
        self.heads: list[bytes] = []
        self._threads: list[threading.Thread] = []
        self._connections: list[socket.socket] = []

    @property
    def accepted(self) -> int:
        """How many connections were made to it."""
        return len(self._connections)

    @classmethod
    def in_turn(cls, *steps: Step) -> ScriptedServer:
        """A server that answers request after request with `steps`, whatever connection they come on."""
        server = cls()
        server._scripts = itertools.repeat(iter(steps))
        return server

    def __enter__(self) -> ScriptedServer:
        self._start(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        self.over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(100)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        for steps in self._scripts:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            self._start(self._serve, connection, steps)

    def _serve(self, connection: socket.socket, steps: Iterator[Step]) -> None:
        with connection, contextlib.suppress(OSError):
            while head := self._read_head(connection):
                self.heads.append(head)
                step = next(steps, None)
                if step is None:
                    return
                visit = Visit(self, connection, head)
                if isinstance(step, bytes):
                    visit.send(step)
                else:
                    step(visit)

    @staticmethod
    def _read_head(connection: socket.socket) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head:
            byte = connection.recv(1)
            if not byte:
                return b""
            head += byte
        return head
