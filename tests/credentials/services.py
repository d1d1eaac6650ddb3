"""A web service on loopback that answers as a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple


class Asked(NamedTuple):
    """A request that came; the names of headers are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Reply(NamedTuple):
    """What the service answers."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}


def document(number: int = 1, expires_at: str = "2100-01-01T00:00:00Z", **more: object) -> Reply:
    """Return credentials as the metadata server gives them."""
    fields = {"AccessKeyId": f"STS.{number}", "AccessKeySecret": "CANARY-SECRET", "SecurityToken": "CANARY-TOKEN"}
    return Reply(200, json.dumps({"Code": "Success", **fields, "Expiration": expires_at, **more}).encode())


def session(number: int = 1, expires_at: str = "2100-01-01T00:00:00Z") -> Reply:
    """Return credentials as STS gives them."""
    fields = json.loads(document(number, expires_at).body)
    fields.pop("Code")
    return Reply(200, json.dumps({"RequestId": "R", "Credentials": fields}).encode())


class Service:
    """The service; `url` is its address, `asked` what came so far."""

    def __init__(self, answer: Callable[[Asked], Reply]) -> None:
        self.answer, self.asked = answer, list[Asked]()
        service = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                request = Asked(
                    self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body
                )
                service.asked.append(request)
                reply = service.answer(request)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            do_GET = do_PUT = do_POST = handle_any

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[Service]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


class Instance:
    """Answers as the metadata server of an ECS instance whose role is `role`."""

    def __init__(self, role: str = "reader", *, gives_tokens: bool = True, wants_tokens: bool = True) -> None:
        self.role, self.gives_tokens, self.wants_tokens = role, gives_tokens, wants_tokens
        self.number = 1

    def __call__(self, asked: Asked) -> Reply:
        if asked.method == "PUT" and asked.target == "/latest/api/token":
            has_ttl = asked.headers.get("x-aliyun-ecs-metadata-token-ttl-seconds", "").isdecimal()
            return Reply(200, b"CANARY-METADATA-TOKEN") if self.gives_tokens and has_ttl else Reply(404)
        if self.wants_tokens and asked.headers.get("x-aliyun-ecs-metadata-token") != "CANARY-METADATA-TOKEN":
            return Reply(403)
        path = "/latest/meta-data/ram/security-credentials/"
        if asked.target == path:
            return Reply(200, self.role.encode()) if self.role else Reply(404)
        return document(self.number) if asked.target == f"{path}{self.role}" else Reply(404)
