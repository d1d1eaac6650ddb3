"""Roles: assumed at a scripted STS, with keys, with other roles, and with the token of a pod."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from credentials.services import Asked, Reply, Service, session

from osstorchconnector.credentials import (
    EnvironmentCredentials,
    FileCredentials,
    OidcCredentials,
    Role,
    RoleCredentials,
)
from osstorchconnector.errors import OssCredentialsError

ARN = "acs:ram::1234567890123456:role/training"
KEYS = {"OSS_ACCESS_KEY_ID": "LTAI", "OSS_ACCESS_KEY_SECRET": "CANARY-SECRET"}
Serve = Callable[[Callable[[Asked], Reply]], Service]


def form(asked: Asked) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(asked.body.decode()).items()}


def role(service: Service) -> Role:
    return Role(arn=ARN, sts_endpoint=f"{service.url}/")


def test_a_role_is_assumed_with_other_credentials(serve: Serve) -> None:
    sts = serve(lambda asked: session())
    credentials = RoleCredentials(EnvironmentCredentials(KEYS), role(sts)).fetch()
    assert (credentials.access_key_id, credentials.expires_at) == ("STS.1", 4102444800)
    (asked,) = sts.asked
    assert (asked.method, form(asked)["RoleArn"]) == ("POST", ARN)
    assert "AccessKeyId=LTAI" in asked.target


def test_a_role_is_assumed_with_another_role(serve: Serve) -> None:
    sts = serve(lambda asked: session(2 if "STS.1" in asked.target else 1))
    first = RoleCredentials(EnvironmentCredentials(KEYS), role(sts))
    second = RoleCredentials(first, Role(arn=f"{ARN}-2", sts_endpoint=f"{sts.url}/"))
    assert second.fetch().access_key_id == "STS.2"
    assert form(sts.asked[1])["SecurityToken"] == "CANARY-TOKEN"
    assert str(second) == f"the role {ARN}-2 (assumed with {first})"
    assert str(first) == f"the role {ARN} (assumed with the environment variables OSS_ACCESS_KEY_ID, ...)"


def test_the_token_of_a_pod_is_read_anew_each_time(serve: Serve, tmp_path: Path) -> None:
    sts, token = serve(lambda asked: session(int(form(asked)["OIDCToken"]))), tmp_path / "token"
    source = OidcCredentials(role(sts), "acs:ram::1:oidc-provider/ack", token)
    for number in (1, 2):
        token.write_text(f"{number}\n")
        assert source.fetch().access_key_id == f"STS.{number}"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "No such file or directory"), (b" \n", "is empty"), (b"\xff", "UnicodeDecodeError")],
)
def test_a_token_file_that_is_no_good_is_named(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    token = tmp_path / "token"
    if content is not None:
        token.write_bytes(content)
    with pytest.raises(OssCredentialsError, match=f"{token}.*{complaint}"):
        OidcCredentials(ARN, "acs:ram::1:oidc-provider/ack", token).fetch()


@pytest.mark.parametrize(
    ("reply", "complaint"),
    [
        (Reply(403, b'{"Code": "NoPermission", "RequestId": "R-1"}'), "NoPermission .*request id R-1.*trust policy"),
        (Reply(500, b"CANARY"), "HTTP status 500"),
        (Reply(200, b"x" * (1 << 19)), "longer than 262144 bytes"),
        (Reply(302, b"", {"Location": "http://127.0.0.1:1/"}), "HTTP status 302"),
    ],
)
def test_a_refusal_names_role_and_service_and_shows_no_secret(serve: Serve, reply: Reply, complaint: str) -> None:
    sts = serve(lambda asked: reply)
    with pytest.raises(OssCredentialsError, match=f"{ARN}.*{complaint}") as caught:
        RoleCredentials(EnvironmentCredentials(KEYS), role(sts)).fetch()
    assert "CANARY" not in str(caught.value)
    assert len(sts.asked) == 1


def test_a_service_that_is_not_there_is_named() -> None:
    nowhere = Role(arn=ARN, sts_endpoint="http://127.0.0.1:1/")
    with pytest.raises(OssCredentialsError, match="can't reach http://127.0.0.1:1/: Connection refused"):
        RoleCredentials(EnvironmentCredentials(KEYS), nowhere).fetch()


def test_the_pickle_of_a_role_is_its_recipe(serve: Serve, tmp_path: Path) -> None:
    sts = serve(lambda asked: session())
    path = tmp_path / "credentials"
    path.write_text('{"AccessKeyId": "LTAI", "AccessKeySecret": "CANARY-SECRET"}')
    source = RoleCredentials(FileCredentials(path), role(sts))
    source.fetch()
    text = pickle.dumps(source)
    assert b"CANARY" not in text
    assert pickle.loads(text).fetch().access_key_id == "STS.1"
    token = tmp_path / "token"
    token.write_text("CANARY-TOKEN")
    text = pickle.dumps(OidcCredentials(role(sts), "acs:ram::1:oidc-provider/ack", token))
    assert b"CANARY" not in text
    assert pickle.loads(text).fetch().access_key_id == "STS.1"


def test_what_crosses_by_name_takes_no_secret_of_its_base(serve: Serve) -> None:
    sts = serve(lambda asked: session())
    by_file = RoleCredentials(FileCredentials("/nowhere"), role(sts))
    assert by_file.by_name() is by_file
