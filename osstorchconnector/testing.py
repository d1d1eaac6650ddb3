"""For your own tests: an OSS server, as a pytest plugin, and a client without a network.

Nothing is started until it is used.

- `oss_server` (session): a running emulator, `osstorchconnector.emulator.Emulator`, with faults and counters
- `oss_bucket` (each test): a new, empty bucket on it, and what our classes need to get there

    def test_training_reads_every_image(oss_bucket):
        oss_bucket.put("images/1.png", PNG)
        dataset = OssIterableDataset.from_prefix(oss_bucket.uri + "images/", **oss_bucket.options)
        assert [item.size for item in dataset] == [len(PNG)]

- `ScriptedTransport`: a client with it sends nothing, and is answered as your script says

    def test_a_broken_connection_is_retried(credentials_file):
        transport = ScriptedTransport([ScriptedFailure("reset"), ScriptedAnswer.of_object(b"body")])
        client = OssClient("http://127.0.0.1", cred_path=credentials_file, transport=transport)
        assert client.get("oss://bucket/key").body == b"body"
        assert [request.attempt for request in transport.requests] == [1, 2]
"""

from __future__ import annotations

import base64
import itertools
import os
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Union

import pytest

if TYPE_CHECKING:
    from .client.transport.base import BodySink, WireRequest
    from .emulator import Emulator
    from .protocol.heads import ResponseHead

__all__ = [
    "OssBucket",
    "ScriptedAnswer",
    "ScriptedFailure",
    "ScriptedTransport",
    "SentRequest",
    "oss_bucket",
    "oss_server",
]

_REQUEST_ID = "5C3D9175B6FC201293AD4890"

_numbers = itertools.count(1)


@dataclass(frozen=True)
class OssBucket:
    """A bucket of a running emulator. Its methods go past signatures, faults and counters."""

    server: Emulator
    name: str
    cred_path: str

    @property
    def uri(self) -> str:
        """`oss://name/`: a key put behind it is an object's URI."""
        return f"oss://{self.name}/"

    @property
    def endpoint(self) -> str:
        """The server's address, `http://127.0.0.1:port`."""
        return self.server.endpoint

    @property
    def region(self) -> str:
        """The region that requests are signed for."""
        return self.server.region

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments with which our classes find the bucket: endpoint, credential file and region."""
        return {"endpoint": self.endpoint, "cred_path": self.cred_path, "region": self.region}

    def put(self, key: str, data: bytes | bytearray | memoryview) -> str:
        """Store an object and return its URI."""
        self.server.put(self.name, key, data)
        return self.uri + key

    def get(self, key: str) -> bytes:
        """Return an object's bytes; `KeyError` if there is no such object."""
        return self.server.get(self.name, key)

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        self.server.delete(self.name, key)

    def keys(self) -> list[str]:
        """Return all keys in UTF-8 byte order."""
        return self.server.keys(self.name)


@pytest.fixture(scope="session")
def oss_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """An emulated OSS server that lasts as long as the test run.

    From then on, classes without `config_path` use no settings of this machine and write no log files, unless the
    environment variable OSS_CONNECTOR_CONFIG is set.
    """
    from .config import CONFIG_VARIABLE
    from .emulator import serve

    settings = tmp_path_factory.mktemp("oss") / "config.json"
    settings.write_text('{"logPath": "", "auditPath": ""}')
    with pytest.MonkeyPatch.context() as environment, serve() as server:
        environment.setenv(CONFIG_VARIABLE, os.environ.get(CONFIG_VARIABLE) or str(settings))
        yield server


@pytest.fixture
def oss_bucket(oss_server: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OssBucket]:
    """A new, empty bucket; the server's faults, counters, clock, credentials and rules are as at its start.

    What this process has learnt of the server is forgotten, too: to ask it more slowly, to retry less, to have more
    requests in flight.
    """
    from .client.limiter import forget
    from .client.traffic import shared

    oss_server.reset()
    shared.forget()
    forget()
    name = f"test-{next(_numbers)}"
    oss_server.create_bucket(name)
    yield OssBucket(oss_server, name, oss_server.credentials_file(tmp_path_factory.mktemp("oss")))
    oss_server.remove_bucket(name)


# What a `ScriptedTransport` answers: an answer, or a failure before the whole answer has come.
Script = Union["ScriptedAnswer", "ScriptedFailure"]


@dataclass(frozen=True)
class SentRequest:
    """A request that a client sent through a `ScriptedTransport`.

    `operation` is OSS's name for it (`GetObject`), `key` is decoded, the names of `headers` are in lower case.
    `attempt` counts the tries of one operation, from 1.
    """

    operation: str
    bucket: str
    key: str
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    attempt: int

    @property
    def byte_range(self) -> tuple[int, int] | None:
        """First byte and end (not included) of what is asked for; None if that is the whole object."""
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        return None if found is None else (int(found[1]), int(found[2]) + 1)


@dataclass(frozen=True)
class ScriptedAnswer:
    """An answer of OSS. A request id and the length of the body are added to the headers if they are missing.

    With `cut_off_after` the connection breaks after this many bytes of the body.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_off_after: int | None = None

    @classmethod
    def of_object(
        cls, data: bytes, byte_range: tuple[int, int] | None = None, *, cut_off_after: int | None = None
    ) -> ScriptedAnswer:
        """Answer a GET or HEAD of an object that holds `data`; of a part of it with `SentRequest.byte_range`."""
        headers = _object_headers(data)
        if byte_range is None:
            return cls(200, headers, data, cut_off_after)
        start, stop = byte_range[0], min(byte_range[1], len(data))
        headers["content-range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        return cls(206, headers, data[start:stop], cut_off_after)

    @classmethod
    def of_upload(cls, data: bytes) -> ScriptedAnswer:
        """Answer a request that stored `data`: an object, or a part of an upload."""
        return cls(200, _object_headers(data))

    @classmethod
    def refusal(cls, status: int, code: str, message: str = "") -> ScriptedAnswer:
        """Refuse a request as OSS does, `refusal(404, "NoSuchKey")`."""
        text = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{_REQUEST_ID}</RequestId></Error>"
        headers = {"content-type": "application/xml", "x-oss-err": base64.b64encode(text.encode()).decode()}  # for HEAD
        return cls(status, headers, text.encode())


@dataclass(frozen=True)
class ScriptedFailure:
    """No answer: "connect" and "connect_timeout" before there was a connection, "reset" and "timeout" after.

    "protocol" is an answer that is not HTTP. "setup" is what no repeat can mend, such as a host that does not exist.
    `reused`: the connection had been idle.
    """

    kind: Literal["setup", "connect", "connect_timeout", "reset", "timeout", "protocol"] = "reset"
    text: str = "as the script says"
    reused: bool = False


class ScriptedTransport:
    """A transport without a network: `OssClient(endpoint, transport=ScriptedTransport(script))`.

    `script` has an answer for each request, in the order in which they are sent (retries included), or is a function
    that takes a `SentRequest` and returns the answer. `requests` has those that were sent so far. A request for which
    the script has no answer left is an `AssertionError`. One object may serve several clients and threads. It goes to
    another process if its script does, as a copy.
    """

    def __init__(self, script: Iterable[Script] | Callable[[SentRequest], Script]) -> None:
        self.requests: list[SentRequest] = []
        self._script = script if callable(script) else deque(script)

    def __call__(self, _timeouts: object, _tls: object, /) -> ScriptedTransport:
        """Be the transport of one event loop: it keeps nothing that belongs to one."""
        return self

    async def exchange(
        self, wire: WireRequest, sink: BodySink, deadline: float, *, on_new_connection: bool = False
    ) -> ResponseHead:
        """Answer as the script says."""
        from .client.memory import fill
        from .client.transport.base import ExchangeFailed
        from .protocol.heads import ResponseHead

        answer = self._answer(wire)
        if isinstance(answer, ScriptedFailure):
            raise ExchangeFailed(answer.kind, answer.text, reused=answer.reused)
        headers = {"x-oss-request-id": _REQUEST_ID, "content-length": str(len(answer.body))}
        headers |= {name.lower(): value for name, value in answer.headers.items()}
        head = ResponseHead(answer.status, headers, int(headers["content-length"]), chunked=False, keep_alive=True)
        if wire.method == "HEAD" or not answer.body:
            sink.accept_whole(head._replace(content_length=0), memoryview(b""))
            return head
        body = memoryview(answer.body)[: answer.cut_off_after]
        fill(sink.buffer_for(head), 0, body)
        sink.progressed(len(body))
        if answer.cut_off_after is not None:
            raise ExchangeFailed("reset", "cut off, as the script says", received_bytes=len(body))
        return head

    async def aclose(self) -> None:
        """Nothing is open."""

    def _answer(self, wire: WireRequest) -> Script:
        request = SentRequest(
            wire.operation,
            wire.bucket,
            wire.key,
            wire.method,
            wire.target,
            {name.lower(): value for name, value in wire.headers},
            b"".join(wire.body),
            wire.attempt,
        )
        self.requests.append(request)
        if callable(self._script):
            return self._script(request)
        try:
            return self._script.popleft()
        except IndexError:
            place = f"{request.operation} oss://{request.bucket}/{request.key}"
            raise AssertionError(f"the script has no answer for request {len(self.requests)}, {place}") from None


def _object_headers(data: bytes) -> dict[str, str]:
    from .protocol.checksum import crc64

    return {"etag": f'"{zlib.crc32(data):08X}"', "x-oss-hash-crc64ecma": str(crc64(data))}
