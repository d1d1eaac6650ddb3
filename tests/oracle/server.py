"""HTTP/1.1 in front of the facade: reads a request, writes the answer, keeps the connection."""

from __future__ import annotations

import socketserver
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from .facade import Facade
from .messages import OssRequest, Reply, read_target

BODILESS_STATUSES = (204, 304)


class OssServer(socketserver.ThreadingTCPServer):
    """A thread for each connection, on a port of 127.0.0.1 that the system chooses."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, facade: Facade) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.facade = facade

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: OssServer

    def answer(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        bucket, key, query = read_target(headers.get("host", ""), self.requestline.split()[1])
        body, has_length = self._read_body(headers), "content-length" in headers or "transfer-encoding" in headers
        request = OssRequest(self.command, bucket, key, query, headers, body, has_length)
        self.wfile.write(encoded(self.server.facade.answer(request), self.command))

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

    def _read_body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return self._read_chunks()
        return self.rfile.read(int(headers.get("content-length", "0")))

    def _read_chunks(self) -> bytes:
        chunks = bytearray()
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return bytes(chunks)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: the tests say what went wrong."""


def encoded(reply: Reply, method: str) -> bytes:
    """Return an answer as it goes on the wire."""
    headers = {**reply.headers, "connection": "keep-alive"}
    if reply.status not in BODILESS_STATUSES:
        headers["content-length"] = str(len(reply.body) if reply.length is None else reply.length)
    lines = [f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}"]
    lines += [
        f"{name.title()}: {value}" if not name.startswith("x-") else f"{name}: {value}"
        for name, value in headers.items()
    ]
    head = "\r\n".join([*lines, "", ""]).encode("latin-1")
    return head if method == "HEAD" else head + reply.body
