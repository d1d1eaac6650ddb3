"""What errors and logs tell of requests and answers: nothing secret, and nothing without an end."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from client.scripted_server import ScriptedServer, Visit, answer
from exposure import assert_nothing_exposed
from scripts import NO_LOGS

from osstorchconnector import OssClient
from osstorchconnector.errors import OssPermissionError, OssServiceError
from osstorchconnector.logs import audit_log
from osstorchconnector.protocol.heads import encode_head
from osstorchconnector.redaction import Secret
from osstorchconnector.testing import OssBucket

URI = "oss://bucket/dir/key"
KEYS = {"AccessKeyId": "AK", "AccessKeySecret": "CANARY-SECRET", "SecurityToken": "CANARY-TOKEN"}

Connect = Callable[..., OssClient]


@pytest.fixture(params=["direct", "aiohttp"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Connect]:
    """Return a function that opens a client for a scripted server; all are closed in the end."""
    clients = []
    (tmp_path / "credentials").write_text(json.dumps(KEYS))

    def open_client(server: ScriptedServer, **settings: object) -> OssClient:
        config = NO_LOGS | {"transport": request.param, "maxAttempts": 1} | settings
        (tmp_path / "config.json").write_text(json.dumps(config))
        paths = {"cred_path": str(tmp_path / "credentials"), "config_path": str(tmp_path / "config.json")}
        clients.append(OssClient(server.endpoint, region="cn-test", **paths))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()


def refused(code: str, message: str) -> bytes:
    xml = f"<Error><Code>{code}</Code><Message>{message}</Message><RequestId>REQ-1</RequestId></Error>"
    return answer(xml.encode(), status="403 Forbidden")


def test_endless_answers_are_cut_in_the_error_and_in_the_audit_log(connect: Connect, tmp_path: Path) -> None:
    words = "w" * 20_000
    answers = [refused(words, words), answer(status="403 Forbidden", x_oss_request_id=words[:5000])]
    with ScriptedServer.in_turn(*answers) as server:
        client = connect(server, auditPath=str(tmp_path / "audit.log"))
        for _ in answers:
            with pytest.raises(OssPermissionError) as caught:
                client.get(URI)
            assert len(str(caught.value)) < 1000
            assert max(len(caught.value.request_id), len(caught.value.code)) <= 100
    log = audit_log(client.config)
    assert log is not None
    log.flush()
    assert max(map(len, (tmp_path / "audit.log").read_text().splitlines())) < 500


def test_who_echoes_what_was_sent_gets_none_of_it_into_the_error(connect: Connect) -> None:
    def echo(visit: Visit) -> None:
        lines = visit.head.decode().split("\r\n")
        sent = [line for line in lines if line.lower().startswith(("authorization", "x-oss-security-token"))]
        visit.send(refused("Denied", f"you sent {sent[0]}, {sent[1]}, signed {' '.join(sent).rpartition('=')[2]}"))

    with ScriptedServer.in_turn(echo) as server:
        client = connect(server)
        with pytest.raises(OssPermissionError, match=r"you sent.*\*\*\*.*\*\*\*.*signed \*\*\*") as caught:
            client.get(URI)
    assert_nothing_exposed(caught.value, ["CANARY-SECRET", "CANARY-TOKEN"])


def test_the_document_in_which_oss_tells_what_was_signed_is_not_shown(connect: Connect) -> None:
    signed = f"x-oss-security-token:{KEYS['SecurityToken']}"
    document = f"<Error><Code>Denied</Code><StringToSign>{signed}</StringToSign></Error>".encode()
    with ScriptedServer.in_turn(*[answer(document, status="403 Forbidden")] * 3) as server:
        client = connect(server)
        for call in (
            lambda: client.get(URI),
            lambda: client.put(URI, b"x"),
            lambda: list(client.list("oss://bucket/")),
        ):
            with pytest.raises(OssPermissionError) as caught:
                call()
            assert_nothing_exposed(caught.value, ["CANARY-SECRET", "CANARY-TOKEN"])


def test_nor_is_it_where_the_answer_to_a_head_request_has_it_in_a_header(connect: Connect) -> None:
    document = (
        b"<Error><Code>SignatureDoesNotMatch</Code><StringToSign>x-oss-security-token:CANARY-TOKEN</StringToSign>"
    )
    hidden = base64.b64encode(document + b"<RequestId>REQ-1</RequestId></Error>").decode()
    with ScriptedServer.in_turn(answer(status="403 Forbidden", x_oss_err=hidden)) as server:
        with pytest.raises(OssPermissionError) as caught:
            connect(server).head(URI)
        assert "SignatureDoesNotMatch" in str(caught.value)
        assert_nothing_exposed(caught.value, ["CANARY-TOKEN", "CANARY-SECRET", hidden])


def test_a_request_that_can_not_be_written_shows_nothing_of_its_head() -> None:
    with pytest.raises(ValueError, match="line end") as caught:
        encode_head("GET", "/", [("authorization", Secret("CANARY-SECRET")), ("x", "a\nb")])
    assert_nothing_exposed(caught.value, ["CANARY-SECRET", "CANARY-TOKEN"])


def elsewhere(inside: str, status: str, **headers: str) -> bytes:
    xml = f"<Error><Code>AccessDenied</Code><Message>M</Message><RequestId>R</RequestId>{inside}</Error>"
    return answer(xml.encode(), status=status, x_oss_request_id="R", **headers)


@pytest.mark.parametrize(
    "refusal",
    [
        elsewhere("<Endpoint>oss-cn-shanghai.aliyuncs.com</Endpoint>", "403 Forbidden"),
        elsewhere("<Endpoint>oss-cn-shanghai.aliyuncs.com</Endpoint>", "307 Temporary Redirect"),
        elsewhere("", "307 Temporary Redirect", Location="http://bucket.oss-cn-shanghai.aliyuncs.com/dir/key"),
        elsewhere("", "301 Moved", Location="https://bucket.oss-cn-shanghai.aliyuncs.com/dir/key"),
    ],
    ids=["403", "307", "307 by its location", "301"],
)
def test_the_endpoint_that_oss_names_stands_in_the_error(connect: Connect, refusal: bytes) -> None:
    with ScriptedServer.in_turn(refusal) as server:
        client = connect(server)
        with pytest.raises(OssServiceError, match=r"elsewhere: pass endpoint='https://oss-cn-shanghai\.aliyuncs\.com'"):
            client.get(URI)


@pytest.mark.parametrize("named", ["a b", "x&#10;y", "h" * 300, "", "http://evil.test/"])
def test_what_can_be_no_endpoint_is_not_passed_on(connect: Connect, named: str) -> None:
    with ScriptedServer.in_turn(elsewhere(f"<Endpoint>{named}</Endpoint>", "403 Forbidden")) as server:
        client = connect(server)
        with pytest.raises(OssPermissionError) as caught:
            client.get(URI)
    assert "pass endpoint=" not in str(caught.value)


def test_a_wrong_region_is_told_with_the_one_that_was_signed_for(oss_bucket: OssBucket) -> None:
    client = OssClient(**{**oss_bucket.options, "region": "cn-elsewhere"})
    with pytest.raises(OssServiceError, match=r"check region=: the request was signed for cn-elsewhere"):
        client.get(oss_bucket.uri + "key")


def test_where_version_1_is_refused_the_error_names_the_region_to_pass(connect: Connect) -> None:
    with ScriptedServer.in_turn(elsewhere("<EC>0002-00000080</EC>", "403 Forbidden")) as server:
        client = connect(server)
        with pytest.raises(OssPermissionError, match=r"version 1 here: pass region='cn-\.\.\.', the bucket's"):
            client.get(URI)
