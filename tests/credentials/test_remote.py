"""The metadata server of ECS, a credentials URI and a command, scripted on loopback."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from credentials.services import Asked, Instance, Reply, Service, document

from osstorchconnector.credentials import EcsRoleCredentials, UriCredentials
from osstorchconnector.credentials.remote import CommandCredentials
from osstorchconnector.errors import OssCredentialsError

Serve = Callable[[Callable[[Asked], Reply]], Service]


def test_the_instance_tells_its_role_and_its_credentials_for_a_token(serve: Serve) -> None:
    server = serve(Instance())
    credentials = EcsRoleCredentials(server=server.url).fetch()
    assert (credentials.access_key_id, credentials.expires_at) == ("STS.1", 4102444800)
    assert [asked.method for asked in server.asked] == ["PUT", "GET", "GET"]


def test_a_named_role_saves_a_request(serve: Serve) -> None:
    server = serve(Instance())
    assert EcsRoleCredentials("reader", server=server.url).fetch().access_key_id == "STS.1"
    assert len(server.asked) == 2


def test_a_server_without_tokens_is_asked_without_unless_that_is_forbidden(serve: Serve) -> None:
    server = serve(Instance(gives_tokens=False, wants_tokens=False))
    assert EcsRoleCredentials(server=server.url).fetch().access_key_id == "STS.1"
    with pytest.raises(OssCredentialsError, match=r"the metadata server gave no token \(HTTP status 404\)"):
        EcsRoleCredentials("other", server=server.url, requires_token=True).fetch()


@pytest.mark.parametrize(
    ("answer", "name", "complaint"),
    [
        (Instance(role=""), "", "the instance has no RAM role"),
        (Instance(), "writer", "the instance has no role writer"),
        (Instance(gives_tokens=False), "", r"\(HTTP status 403\) is no name of a role"),
        (Instance(role="a/b"), "", "is no name of a role"),
        (lambda asked: Reply(500), "reader", "answered with HTTP status 500"),
        (lambda asked: Reply(200, b"<html>"), "reader", "gave an answer that can't be used: not valid JSON"),
        (lambda asked: Reply(200, b'{"Code": "Failed"}'), "reader", "answered Failed instead of credentials"),
        (lambda asked: document(AccessKeySecret=""), "reader", "AccessKeySecret is missing"),
    ],
)
def test_any_other_answer_is_named(serve: Serve, answer: Callable[[Asked], Reply], name: str, complaint: str) -> None:
    server = serve(answer)
    with pytest.raises(OssCredentialsError, match=complaint) as caught:
        EcsRoleCredentials(name, server=server.url).fetch()
    assert "CANARY" not in str(caught.value)


def test_a_machine_that_is_no_instance_is_told_so() -> None:
    with pytest.raises(OssCredentialsError, match="no metadata server at http://127.0.0.1:1 .*no ECS instance"):
        EcsRoleCredentials(server="http://127.0.0.1:1").fetch()


def test_no_proxy_is_asked(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server, proxy = serve(Instance()), serve(lambda asked: Reply(200, b"CANARY"))
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    assert EcsRoleCredentials(server=server.url).fetch().access_key_id == "STS.1"
    assert UriCredentials(f"{server.url}/latest/meta-data/ram/security-credentials/nobody").ask  # made, not asked
    assert proxy.asked == []


def test_a_credentials_uri_is_asked_and_named_without_its_query(serve: Serve) -> None:
    server = serve(lambda asked: document() if "key=CANARY" in asked.target else Reply(403))
    assert UriCredentials(f"{server.url}/give?key=CANARY").fetch().access_key_id == "STS.1"
    with pytest.raises(OssCredentialsError, match="answered with HTTP status 403") as caught:
        UriCredentials(f"{server.url}/give?key=CANAR").fetch()
    assert f"the credentials URI {server.url}/..." in str(caught.value)
    with pytest.raises(OssCredentialsError, match="Connection refused"):
        UriCredentials("http://127.0.0.1:1/give").fetch()
    with pytest.raises(OssCredentialsError, match="begins with http"):
        UriCredentials("file:///etc/passwd")


def test_a_uri_that_may_hold_a_secret_is_not_pickled(serve: Serve) -> None:
    server = serve(lambda asked: document())
    assert pickle.loads(pickle.dumps(UriCredentials(f"{server.url}/give"))).fetch().access_key_id == "STS.1"
    with pytest.raises(OssCredentialsError, match="ALIBABA_CLOUD_CREDENTIALS_URI"):
        pickle.dumps(UriCredentials(f"{server.url}/give?key=CANARY"))


def command(tmp_path: Path, program: str) -> CommandCredentials:
    path = tmp_path / "program.py"
    path.write_text(program)
    return CommandCredentials(f"{sys.executable} {path}")


PRINTS = """
import json
print(json.dumps({"mode": "StsToken", "access_key_id": "STS.1", "access_key_secret": "CANARY-SECRET",
                  "sts_token": "CANARY-TOKEN", "expiration": "2100-01-01T00:00:00Z"}))
"""


def test_a_command_prints_credentials(tmp_path: Path) -> None:
    source = command(tmp_path, PRINTS)
    credentials = source.fetch()
    assert (credentials.access_key_id, credentials.security_token) == ("STS.1", "CANARY-TOKEN")
    assert pickle.loads(pickle.dumps(source)).fetch() == credentials
    assert str(source) == f"the command {sys.executable} of a profile"


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        ("raise SystemExit('who are you?')", "ended with status 1: who are you"),
        ("raise SystemExit(3)", "ended with status 3: it said nothing"),
        ("print('CANARY')", "its output is not valid JSON"),
        ("print('{}')", "access_key_id is missing or empty"),
    ],
)
def test_a_command_that_gives_none_is_named(tmp_path: Path, program: str, complaint: str) -> None:
    with pytest.raises(OssCredentialsError, match=complaint) as caught:
        command(tmp_path, program).fetch()
    assert "CANARY" not in str(caught.value)


@pytest.mark.parametrize("wrong", ["/nowhere/at/all", "'unclosed"])
def test_a_command_that_can_not_be_run_is_named(wrong: str) -> None:
    with pytest.raises(OssCredentialsError, match="it can't be run"):
        CommandCredentials(wrong).fetch()
