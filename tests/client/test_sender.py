"""What becomes of an operation whose requests fail: retries, remedies, budgets, and what the error says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from client.scripted_server import BODY, QUICK_SETTINGS, URI
from scripts import NO_LOGS

from osstorchconnector.client.client import OssClient
from osstorchconnector.client.traffic import shared
from osstorchconnector.errors import (
    OssConnectionError,
    OssError,
    OssNotFoundError,
    OssPermissionError,
    OssServiceError,
    OssThrottledError,
    OssTimeoutError,
)
from osstorchconnector.protocol.checksum import crc64
from osstorchconnector.protocol.values import UploadedPart
from osstorchconnector.testing import ScriptedAnswer, ScriptedFailure, ScriptedTransport, SentRequest

GOOD = ScriptedAnswer.of_object(BODY)
BUSY = ScriptedAnswer.refusal(503, "ServiceUnavailable")
BROKEN = ScriptedAnswer.refusal(500, "InternalError")
DELETED = ScriptedAnswer(204)
EXPIRED = ScriptedAnswer.refusal(403, "SecurityTokenExpired")

Script = Iterable[ScriptedAnswer | ScriptedFailure] | Callable[[SentRequest], ScriptedAnswer | ScriptedFailure]
Connect = Callable[..., tuple[OssClient, list[SentRequest]]]


@pytest.fixture
def connect(tmp_path: Path) -> Iterable[Connect]:
    """Return a function that makes a client of a script, and the list of the requests that it sends."""
    clients = []
    (tmp_path / "credentials").write_text(json.dumps({"AccessKeyId": "AK", "AccessKeySecret": "SK"}))

    def open_client(script: Script, endpoint: str = "http://127.0.0.1", **settings: Any) -> Any:
        (tmp_path / "config.json").write_text(json.dumps(NO_LOGS | QUICK_SETTINGS | settings))
        paths = {"cred_path": str(tmp_path / "credentials"), "config_path": str(tmp_path / "config.json")}
        transport = ScriptedTransport(script)
        clients.append(OssClient(endpoint, region="cn-test", transport=transport, **paths))
        return clients[-1], transport.requests

    shared.forget()
    yield open_client
    shared.forget()
    for client in clients:
        client.close()


def test_a_missing_object_is_a_file_not_found_with_the_whole_story(connect: Connect) -> None:
    xml = "<Error><Code>NoSuchKey</Code><Message>told so</Message><RequestId>REQ-1</RequestId><EC>26-1</EC></Error>"
    client, _ = connect([ScriptedAnswer(404, body=xml.encode())])
    with pytest.raises(OssNotFoundError) as caught:
        client.get(URI)
    assert isinstance(caught.value, FileNotFoundError)
    for part_of_story in ("GetObject", URI, "404", "NoSuchKey", "told so", "REQ-1", "EC 26-1", "check the key"):
        assert part_of_story in str(caught.value)
    assert (caught.value.status, caught.value.code, caught.value.request_id) == (404, "NoSuchKey", "REQ-1")


def test_what_passes_is_retried_and_what_stays_is_told_with_the_number_of_attempts(connect: Connect) -> None:
    client, requests = connect([BUSY, BROKEN, GOOD])
    assert client.get(URI).body == BODY
    assert [request.attempt for request in requests] == [1, 2, 3]
    with pytest.raises(OssThrottledError, match="503 ServiceUnavailable.*4 attempts"):
        connect([BUSY] * 4)[0].get(URI)
    with pytest.raises(OssPermissionError, match="AccessDenied"):
        connect([ScriptedAnswer.refusal(403, "AccessDenied")])[0].get(URI)


def test_broken_connections_are_retried_then_told_by_type(connect: Connect) -> None:
    client, requests = connect([ScriptedFailure("reset"), ScriptedFailure("timeout"), GOOD])
    assert client.get(URI).body == BODY
    assert len(requests) == 3
    with pytest.raises(OssConnectionError, match="GetObject oss://bucket/dir/key.*4 attempts"):
        connect([ScriptedFailure("reset")] * 4)[0].get(URI)
    with pytest.raises(OssTimeoutError, match="GetObject"):
        connect([ScriptedFailure("timeout")] * 4)[0].get(URI)


def test_a_skewed_clock_is_corrected_once(connect: Connect) -> None:
    refusal = ScriptedAnswer.refusal(403, "RequestTimeTooSkewed")
    late = ScriptedAnswer(403, {"Date": "Wed, 21 Oct 2105 07:28:00 GMT"}, refusal.body)
    client, requests = connect([late, GOOD])
    assert client.get(URI).body == BODY
    assert requests[1].headers["x-oss-date"].startswith("21051021T072")
    with pytest.raises(OssPermissionError, match="clock"):
        connect([late, late])[0].get(URI)


def test_an_expired_token_is_read_again_once(connect: Connect, tmp_path: Path) -> None:
    def renew(request: SentRequest) -> ScriptedAnswer:
        if request.attempt > 1:
            return GOOD
        renewed = {"AccessKeyId": "AK2", "AccessKeySecret": "SK2", "SecurityToken": "T2"}
        (tmp_path / "credentials").write_text(json.dumps(renewed))
        return EXPIRED

    client, requests = connect(renew)
    assert client.get(URI).body == BODY
    assert requests[1].headers["x-oss-security-token"] == "T2"
    with pytest.raises(OssPermissionError, match="SecurityTokenExpired"):
        connect([EXPIRED] * 2)[0].get(URI)


def test_a_failing_server_is_not_asked_more_often_than_the_budget_allows(connect: Connect) -> None:
    client, requests = connect([BROKEN] * 57, retryBudget=7)
    for _ in range(50):
        with pytest.raises(OssServiceError) as caught:
            client.delete(URI)
    assert len(requests) == 50 + 7
    assert "1 attempt]; " in str(caught.value)
    assert "; not tried again: this process has used up its retries (retryBudget) of this endpoint" in str(caught.value)


def test_an_operation_that_ran_out_of_time_says_so(connect: Connect) -> None:
    client, _ = connect(
        lambda request: ScriptedAnswer(500),
        operationTimeout=0.2,
        maxAttempts=1000,
        retryBaseDelay=0.05,
        retryMaxDelay=0.05,
    )
    with pytest.raises(OssError, match=r"attempts?\]; the time allowed, 0\.2 s \(operationTimeout\), "):
        client.delete(URI)


def test_a_server_that_is_not_there_costs_no_budget(connect: Connect) -> None:
    client, _ = connect([ScriptedFailure("connect")] * 4, retryBudget=0)
    with pytest.raises(OssConnectionError, match="4 attempts"):
        client.head(URI)
    assert shared.budget(client.endpoint).debt == 0


def test_an_endpoint_that_is_down_does_not_use_up_the_retries_of_another(connect: Connect) -> None:
    down, asked = connect([BROKEN] * 15, "http://127.0.0.1:1", retryBudget=4)
    up, _ = connect([BROKEN, DELETED, *[BROKEN] * 3, DELETED], "http://127.0.0.1:2", retryBudget=4)
    for _ in range(10):
        with pytest.raises(OssServiceError):
            down.delete(URI)
    assert len(asked) == 10 + 4
    up.delete(URI)
    up.delete(URI)
    with pytest.raises(OssServiceError, match="retryBudget"):
        down.delete(URI)


@pytest.mark.parametrize("trouble", [ScriptedFailure("reset"), ScriptedAnswer(200, body=b"no XML"), BROKEN])
def test_a_completion_whose_every_answer_is_lost_is_known_by_the_object(
    connect: Connect, trouble: ScriptedAnswer | ScriptedFailure
) -> None:
    part = UploadedPart(1, "E", len(BODY), crc64(BODY))
    client, requests = connect([*[trouble] * 4, GOOD, DELETED])
    assert client.complete_upload(URI, "id", [part]).crc64 == part.crc64
    assert [request.method for request in requests] == ["POST"] * 4 + ["HEAD", "DELETE"]


def test_a_completion_is_not_believed_when_the_object_is_another(connect: Connect) -> None:
    part = UploadedPart(1, "E", len(BODY), crc64(BODY))
    client, _ = connect([*[BROKEN] * 4, ScriptedAnswer.of_object(b"another")])
    with pytest.raises(OssServiceError, match=r"500.*4 attempts"):
        client.complete_upload(URI, "id", [part])
