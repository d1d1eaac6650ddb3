"""The short way of GETs: it is taken when nothing is unusual, and all that can be seen of it is as on the long way."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from client.scripted_server import BODY, URI, ScriptedServer, close, first, part, refused, whole
from scripts import NO_LOGS

from osstorchconnector.client.client import OssClient
from osstorchconnector.client.steady import SteadyGets
from osstorchconnector.client.traffic import shared
from osstorchconnector.errors import OssIntegrityError, OssNotFoundError, OssProtocolError
from osstorchconnector.logs import audit_log
from osstorchconnector.protocol.values import ByteSpan

WHOLE = ByteSpan(0, len(BODY))
WITHIN = ByteSpan(50, 90)


class Asking:
    """A client of a scripted server, which notes how often the short way was tried and taken."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        (folder / "credentials").write_text(json.dumps({"AccessKeyId": "AK", "AccessKeySecret": "SK"}))
        chosen = {**NO_LOGS, "auditPath": str(folder / "audit"), "retryBaseDelay": 0.001, "maxAttempts": 3, **settings}
        (folder / "config.json").write_text(json.dumps(chosen))
        self._paths = {"cred_path": str(folder / "credentials"), "config_path": str(folder / "config.json")}
        self._audit = folder / "audit"
        self.short: list[bool] = []
        exchange = SteadyGets.exchange

        async def noted(steady: SteadyGets, *arguments: Any) -> Any:
            self.short.append(True)
            head = await exchange(steady, *arguments)
            self.short[-1] = head is not None
            return head

        monkeypatch.setattr(SteadyGets, "exchange", noted)

    def client(self, server: ScriptedServer) -> OssClient:
        return OssClient(server.endpoint, region="cn-test", **self._paths)

    def audited(self) -> list[dict[str, Any]]:
        """Return the lines of the audit log, without what differs from request to request."""
        log = audit_log(OssClient("http://127.0.0.1", region="cn-test", **self._paths).config)
        assert log is not None
        log.flush()
        lines = [json.loads(line) for line in self._audit.read_text().splitlines()]
        return [{name: line[name] for name in line if name not in ("pid", "time", "seconds")} for line in lines]


@pytest.fixture
def asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asking:
    shared.forget()
    return Asking(tmp_path, monkeypatch)


def unsigned(head: bytes) -> bytes:
    """Return the head of a request without its time and signature."""
    return re.sub(rb"(x-oss-date: |Signature=)[0-9a-zA-Z]+", rb"\1", head)


@pytest.mark.parametrize(
    ("span", "reply"), [(WHOLE, part(0, len(BODY))), (WITHIN, part(50, 90)), (ByteSpan(0, 1000), whole())]
)
def test_both_ways_send_the_same_and_get_the_same(asking: Asking, span: ByteSpan, reply: bytes) -> None:
    with ScriptedServer([reply, reply]) as server:
        client = asking.client(server)
        download = client.get(URI, span)  # there is no connection yet
        assert client.get(URI, span) == download
        client.close()
    assert asking.short == [True]  # the first one opened the transport
    assert unsigned(server.heads[0]) == unsigned(server.heads[1])
    long, short = asking.audited()
    assert long == short
    assert long["status"] in (200, 206)


def test_what_is_not_a_plain_get_of_a_span_goes_the_long_way(asking: Asking) -> None:
    with ScriptedServer([whole(), whole(), part(50, 90), part(50, 90)]) as server:
        client = asking.client(server)
        for span, etag in ((None, ""), (None, ""), (WITHIN, "E1"), (WITHIN, "")):
            client.get(URI, span, if_match=etag)
        client.close()
    assert asking.short == [False, False, True]
    assert [b"if-match" in head for head in server.heads] == [False, False, True, False]


def test_a_refusal_on_the_short_way_is_told_as_on_the_long_one(asking: Asking) -> None:
    missing = refused("404 Not Found", "NoSuchKey")
    told = []
    with ScriptedServer([missing, missing]) as server:
        client = asking.client(server)
        for _ in range(2):
            with pytest.raises(OssNotFoundError) as caught:
                client.get(URI, WHOLE)
            told.append((str(caught.value), caught.value.code, caught.value.request_id))
        client.close()
    assert asking.short == [True]
    assert told[0] == told[1]
    long, short = asking.audited()
    assert long == short


def test_bytes_that_are_wrong_are_fetched_again_the_long_way(asking: Asking) -> None:
    wrong = part(0, len(BODY), x_oss_hash_crc64ecma="1")
    good = part(0, len(BODY))
    with ScriptedServer([good, wrong, good, wrong, wrong, wrong]) as server:
        client = asking.client(server)
        assert client.get(URI, WHOLE).body == client.get(URI, WHOLE).body == BODY
        assert client.retries == 1
        with pytest.raises(OssIntegrityError, match="3 attempts"):
            client.get(URI, WHOLE)
        client.close()
    assert asking.short == [True, True]
    assert [line["attempt"] for line in asking.audited()] == [1, 1, 2, 1, 2, 3]


def test_what_breaks_off_on_the_short_way_is_resumed_on_the_long_one(asking: Asking) -> None:
    begun = part(0, len(BODY))[:-80]
    with ScriptedServer([part(0, len(BODY)), first(begun, close)], [part(120, len(BODY))]) as server:
        client = asking.client(server)
        assert client.get(URI, WHOLE).body == client.get(URI, WHOLE).body == BODY
        client.close()
    assert asking.short == [True]
    assert b"range: bytes=120-199" in server.heads[2]
    assert [line.get("error", "") for line in asking.audited()] == ["", "reset", ""]


def test_an_answer_that_is_not_oss_s_is_asked_for_again(asking: Asking) -> None:
    login = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlogin"
    with ScriptedServer.in_turn(whole(), login, login, login) as server:
        client = asking.client(server)
        client.get(URI, WHOLE)
        with pytest.raises(OssProtocolError, match="3 attempts"):
            client.get(URI, WHOLE)
        client.close()
    assert asking.short == [True]


def test_while_the_server_is_overloaded_requests_wait_for_their_turn_on_the_long_way(asking: Asking) -> None:
    busy = refused("503 Service Unavailable", "ServiceUnavailable")
    with ScriptedServer([whole(), busy, whole(), whole()]) as server:
        client = asking.client(server)
        for _ in range(3):
            assert client.get(URI, WHOLE).body == BODY
        client.close()
    assert asking.short == [True, False]
    assert [line["status"] for line in asking.audited()] == [200, 503, 200, 200]


def test_version_1_goes_the_long_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asking = Asking(tmp_path, monkeypatch, signatureVersion="v1")
    with ScriptedServer([whole(), whole()]) as server:
        client = asking.client(server)
        assert client.get(URI, WHOLE) == client.get(URI, WHOLE)
        client.close()
    assert asking.short == [False]
