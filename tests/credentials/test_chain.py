"""Where credentials are looked for, in which order, and the names by which a user picks a place."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from credentials.services import Asked, Instance, Reply, Service, document, session

from osstorchconnector import OssClient
from osstorchconnector.credentials import (
    DefaultCredentials,
    ProfileCredentials,
    Role,
    chain,
    credentials_source,
    remote,
)
from osstorchconnector.errors import OssCredentialsError, OssPermissionError
from osstorchconnector.testing import OssBucket
from osstorchconnector.uri import OssUri

ARN = "acs:ram::1:role/training"
Serve = Callable[[Callable[[Asked], Reply]], Service]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home, in which there is nothing yet."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_ECS_METADATA_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def write_everything(home: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Furnish all places; return the environment that names those that the environment names."""
    sts = serve(lambda asked: session(7 if b"OIDCToken" in asked.body else 8))
    monkeypatch.setattr(Role, "endpoint", lambda self: f"{sts.url}/")
    monkeypatch.setattr(remote, "METADATA_SERVER", serve(Instance()).url)
    (home / ".alibabacloud").mkdir()
    (home / ".aliyun").mkdir()
    (home / "token").write_text("token")
    (home / ".alibabacloud/credentials").write_text('{"AccessKeyId": "file", "AccessKeySecret": "s"}')
    profile = {"name": "default", "mode": "AK", "access_key_id": "cli", "access_key_secret": "s"}
    (home / ".aliyun/config.json").write_text(json.dumps({"current": "default", "profiles": [profile]}))
    (home / ".alibabacloud/credentials.ini").write_text(
        "[default]\ntype=access_key\naccess_key_id=ini\naccess_key_secret=s\n"
        "[b]\ntype=access_key\naccess_key_id=ini-b\naccess_key_secret=s\n"
    )
    (home / ".ossutilconfig").write_text("[Credentials]\naccessKeyID=ossutil\naccessKeySecret=s\n")
    return {
        "OSS_ACCESS_KEY_ID": "oss",
        "OSS_ACCESS_KEY_SECRET": "s",
        "ALIBABA_CLOUD_ACCESS_KEY_ID": "alibaba",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "s",
        "ALIBABA_CLOUD_ROLE_ARN": ARN,
        "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": "p",
        "ALIBABA_CLOUD_OIDC_TOKEN_FILE": str(home / "token"),
        "ALIBABA_CLOUD_CREDENTIALS_URI": serve(lambda asked: document(9)).url,
    }


def test_the_places_are_taken_in_the_order_of_the_documentation(
    home: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = write_everything(home, serve, monkeypatch)
    found = []
    for gone in (
        "",
        "OSS_ACCESS_KEY_ID OSS_ACCESS_KEY_SECRET",
        "ALIBABA_CLOUD_ACCESS_KEY_ID ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        "ALIBABA_CLOUD_OIDC_TOKEN_FILE",
        "ALIBABA_CLOUD_CREDENTIALS_URI",
        ".alibabacloud/credentials",
        ".aliyun/config.json",
        ".alibabacloud/credentials.ini",
        ".ossutilconfig",
    ):
        for name in gone.split():
            if environ.pop(name, None) is None:
                (home / name).unlink()
        found.append(DefaultCredentials(environ).fetch().access_key_id)
    assert found == ["oss", "alibaba", "STS.7", "STS.9", "file", "cli", "ini", "ossutil", "STS.1"]
    environ["ALIBABA_CLOUD_ECS_METADATA_DISABLED"] = "true"
    with pytest.raises(OssCredentialsError, match="no credentials: give cred_path="):
        DefaultCredentials(environ).fetch()


def test_a_role_is_assumed_with_keys_in_the_environment(
    home: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = write_everything(home, serve, monkeypatch)
    del environ["ALIBABA_CLOUD_OIDC_TOKEN_FILE"]
    source = DefaultCredentials(environ)
    assert source.fetch().access_key_id == "STS.8"
    assert str(source) == f"the role {ARN} (assumed with the environment variables OSS_ACCESS_KEY_ID, ...)"


def test_a_place_that_is_there_and_fails_is_an_error_and_the_next_one_is_not_asked(
    home: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = write_everything(home, serve, monkeypatch)
    for name in list(environ):
        if "ACCESS_KEY" in name:
            del environ[name]
    (home / "token").unlink()
    with pytest.raises(OssCredentialsError, match="can't read the token file"):
        DefaultCredentials(environ).fetch()


def test_no_metadata_server_is_told_with_everything_that_can_be_given(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "METADATA_SERVER", "http://127.0.0.1:1")
    with pytest.raises(OssCredentialsError, match="give cred_path= .*asked last: .*this seems to be no ECS instance"):
        DefaultCredentials({}).fetch()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("environment", "oss"),
        ("oidc", "STS.7"),
        ("uri", "STS.9"),
        ("file", "file"),
        ("profile", "cli"),
        ("ecs", "STS.1"),
        ("ecs:reader", "STS.1"),
        ("file:~/.alibabacloud/credentials", "file"),
        ("anonymous", ""),
    ],
)
def test_a_place_can_be_picked_by_name(
    home: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch, name: str, key: str
) -> None:
    for variable, value in write_everything(home, serve, monkeypatch).items():
        monkeypatch.setenv(variable, value)
    source = credentials_source(cred_provider=name)
    assert source.fetch().access_key_id == key
    assert pickle.loads(pickle.dumps(source)).fetch().access_key_id == key
    assert str(source) == f"the source {name!r}"


def test_a_profile_is_picked_by_name_and_from_a_file_of_choice(
    home: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_everything(home, serve, monkeypatch)
    ini = str(home / ".alibabacloud/credentials.ini")
    monkeypatch.setenv("ALIBABA_CLOUD_CREDENTIALS_FILE", ini)
    assert credentials_source(cred_provider="profile:b").fetch().access_key_id == "ini-b"
    monkeypatch.setenv("ALIBABA_CLOUD_PROFILE", "b")
    assert credentials_source(cred_provider="profile").fetch().access_key_id == "ini-b"
    assert DefaultCredentials({"ALIBABA_CLOUD_PROFILE": "b", "ALIBABA_CLOUD_CREDENTIALS_FILE": ini}).mark() is not None


@pytest.mark.parametrize("name", ["environment", "oidc", "uri", "file", "profile"])
def test_a_picked_place_where_nothing_is_fails_and_no_other_is_asked(home: Path, name: str) -> None:
    source = credentials_source(cred_provider=name)
    with pytest.raises(OssCredentialsError, match=f"the source '{name}': there are none"):
        source.fetch()
    assert source.mark() == "nothing"


@pytest.mark.parametrize("name", ["s3", "uri:x", "profiles"])
def test_an_unknown_name_is_refused_at_once(name: str) -> None:
    with pytest.raises(OssCredentialsError, match="one of environment, oidc, uri, file, profile, ecs, anonymous"):
        credentials_source(cred_provider=name)
    with pytest.raises(OssCredentialsError, match="^the config key cred must be one of environment"):
        credentials_source(configured=name)


def test_a_place_that_the_config_names_is_taken_unless_an_argument_says_otherwise(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text('{"AccessKeyId": "K", "AccessKeySecret": "S"}')
    configured = f"file:{tmp_path}/keys.json"
    assert credentials_source(configured=configured).fetch().access_key_id == "K"
    assert credentials_source(anonymous=True, configured=configured).fetch().is_anonymous
    assert credentials_source(cred_provider="anonymous", configured=configured).fetch().is_anonymous
    assert credentials_source(tmp_path / "keys.json", configured="anonymous").fetch().access_key_id == "K"


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"cred_path": "keys.json", "anonymous": True}, "cred_path= and anonymous="),
        ({"cred_provider": "ecs", "anonymous": True}, "cred_provider= and anonymous="),
        ({"cred_path": "keys.json", "cred_provider": "ecs"}, "cred_path= and cred_provider="),
    ],
)
def test_two_answers_to_whose_credentials_are_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(OssCredentialsError, match=f"^{named} are given, each of which says whose credentials"):
        credentials_source(**given)


def test_a_profile_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "credentials.ini"
    source = ProfileCredentials(path)
    assert (source.exists(), isinstance(source.mark(), tuple)) == (False, False)
    marks = set()
    for key in ("first", "another"):
        path.write_text(f"[default]\naccess_key_id={key}\naccess_key_secret=CANARY\n")
        assert pickle.loads(pickle.dumps(source)).fetch().access_key_id == source.fetch().access_key_id == key
        marks.add(source.mark())
    assert len(marks) == 2
    path.write_text("[default]\nmode=EcsRamRole\n")
    assert source.mark() is None
    assert "CANARY" not in repr(vars(source))


@pytest.mark.parametrize(("content", "complaint"), [(None, "No such file"), (b"#" * (1 << 20) + b"#", "longer than")])
def test_a_profile_file_that_can_not_be_read_is_named(tmp_path: Path, content: bytes | None, complaint: str) -> None:
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OssCredentialsError, match=f"profile a in {path}: {complaint}"):
        ProfileCredentials(path, "a").fetch()


def test_public_objects_are_read_without_a_signature(oss_bucket: OssBucket) -> None:
    oss_bucket.put("key", b"data")
    client = OssClient(oss_bucket.endpoint, region=oss_bucket.region, cred_provider="anonymous")
    with pytest.raises(OssPermissionError):
        client.get(f"{oss_bucket.uri}key")
    with pytest.raises(OssCredentialsError, match="no key to sign with"):
        client.submit(lambda operations: operations.signed_url(OssUri(oss_bucket.name, "key"), seconds=60)).result()


def test_the_places_are_those_of_the_documentation() -> None:
    assert chain.PROFILE_PATHS == ("~/.aliyun/config.json", "~/.alibabacloud/credentials.ini", "~/.ossutilconfig")
