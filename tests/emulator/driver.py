"""Drives the server's front end without a network: a request's bytes in, an answer's values out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from osstorchconnector.credentials import Credentials
from osstorchconnector.emulator.blobs import BlobSpan
from osstorchconnector.emulator.faults import Rule
from osstorchconnector.emulator.frontend import Frontend
from osstorchconnector.emulator.wire import Early, Hangup, Pause, Step
from osstorchconnector.protocol.heads import encode_head, parse_request_head, parse_response_head
from osstorchconnector.protocol.signing import V1Signer, V4Signer, encode_key, encode_query
from osstorchconnector.protocol.values import Request

Pairs = Sequence[tuple[str, str]]
CREDENTIALS = Credentials(access_key_id="key-id", access_key_secret="key-secret")
MOST_STEPS = 1000
DATA = bytes(range(256)) * 500  # 128000 bytes: large enough to be sent as a file
RESET, CLOSE = Hangup(with_reset=True), Hangup(with_reset=False)


@dataclass(frozen=True)
class Answer:
    """What came back; `steps` are what a connection would have done, files read."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    steps: tuple[Step | Early, ...] = ()

    @property
    def xml(self) -> Element:
        return ElementTree.fromstring(self.body)

    @property
    def code(self) -> str:
        return self.xml.findtext("Code", "")

    def texts(self, path: str) -> list[str]:
        """Return the texts of all elements at `path`."""
        return [element.text or "" for element in self.xml.findall(path)]


class Driver:
    """Sends signed requests to a front end."""

    def __init__(self, frontend: Frontend, credentials: Credentials = CREDENTIALS) -> None:
        self.frontend = frontend
        self.credentials = credentials
        self.version = "v4"

    def __call__(
        self,
        method: str,
        bucket: str = "",
        key: str = "",
        query: Pairs = (),
        body: bytes = b"",
        headers: Pairs = (),
        *,
        is_signed: bool = True,
        host: str = "127.0.0.1:9000",
    ) -> Answer:
        request = Request("", method, bucket, key, tuple(query), tuple(headers))
        lines = [("host", host), *headers, *(self._signature(request) if is_signed else ())]
        if method in ("PUT", "POST") and not any(name == "transfer-encoding" for name, _ in headers):
            lines.append(("content-length", str(len(body))))
        path = f"/{bucket}/{encode_key(key)}" if bucket else "/"
        target = f"{path}?{encode_query(query)}" if query else path
        return self.send(encode_head(method, target, lines), body)

    def send(self, head: bytes, body: bytes = b"") -> Answer:
        """Send a request's bytes as they are."""
        parsed = parse_request_head(head, len(head))
        assert parsed is not None
        work = self.frontend.begin(parsed[0])
        if body:
            stop = work.receive(memoryview(body))
            if stop is not None:
                work.ended(0)
                return Answer(steps=(stop,))
        steps = tuple(self._read(islice(work.answer(), MOST_STEPS)))
        sent = b"".join(step for step in steps if isinstance(step, bytes))
        work.ended(len(sent))
        if not sent.startswith(b"HTTP/1.1") or b"\r\n\r\n" not in sent:
            return Answer(steps=steps)
        answered = parse_response_head(sent, len(sent))
        assert answered is not None
        return Answer(answered[0].status, answered[0].headers, sent[answered[1] :], steps)

    def _signature(self, request: Request) -> list[tuple[str, str]]:
        now = int(self.frontend.service.now())
        if self.version == "v1":
            return V1Signer(self.credentials).sign(request, now)
        return V4Signer(self.credentials, self.frontend.service.policy.region).sign(request, now)

    def _read(self, steps: Iterable[Step]) -> Iterable[Step]:
        for step in steps:
            yield self.frontend.service.blobs.read([step]) if isinstance(step, BlobSpan) else step


def fail(send: Driver, fault: str, operation: str = "GetObject", **options: object) -> None:
    """Let this fault strike from now on, and no other."""
    send.frontend.faults.clear()
    send.frontend.faults.add(Rule(fault=fault, operation=operation, options=options))


def get(send: Driver, *headers: tuple[str, str]) -> Answer:
    return send("GET", "photos", "k", headers=headers)


def pauses(answer: Answer) -> list[float]:
    return [step.seconds for step in answer.steps if isinstance(step, Pause)]


def hangups(answer: Answer) -> list[Hangup]:
    return [step for step in answer.steps if isinstance(step, Hangup)]


def signed_head(send: Driver, method: str, path: str, *lines: tuple[str, str]) -> bytes:
    """Return the head of a request for oss://photos/k, whatever its path and headers are."""
    signed = V4Signer(send.credentials, "cn-test").sign(
        Request("", method, "photos", "k"), int(send.frontend.service.now())
    )
    return encode_head(method, path, [*lines, *signed])
