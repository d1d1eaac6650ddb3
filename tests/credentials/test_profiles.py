"""Profile files of aliyun CLI, of Alibaba Cloud's SDKs and of ossutil."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from osstorchconnector.credentials.profiles import read_profiles
from osstorchconnector.errors import OssCredentialsError
from osstorchconnector.redaction import SecretBytes

ARN = "acs:ram::1:role/training"
KEYS = {"access_key_id": "LTAI", "access_key_secret": "CANARY-SECRET"}


def cli(*profiles: Mapping[str, object], current: str = "default") -> SecretBytes:
    return SecretBytes(json.dumps({"current": current, "profiles": profiles}).encode())


def named(text: SecretBytes | str, name: str = "") -> str:
    """Return the text of what the profile stands for."""
    return str(read_profiles(SecretBytes(text.encode()) if isinstance(text, str) else text).source(name))


@pytest.mark.parametrize(
    ("profile", "stands_for"),
    [
        ({"mode": "AK", **KEYS}, "the key in the profile"),
        ({"mode": "StsToken", **KEYS, "sts_token": "CANARY"}, "the key in the profile"),
        ({"mode": "RamRoleArn", **KEYS, "ram_role_arn": ARN}, f"the role {ARN} (assumed with the key in the profile)"),
        ({"mode": "EcsRamRole", "ram_role_name": "reader"}, "the RAM role reader of this ECS instance"),
        (
            {"mode": "OIDC", "ram_role_arn": ARN, "oidc_provider_arn": "p", "oidc_token_file": "/token"},
            f"the role {ARN} (assumed with the OIDC token of this pod)",
        ),
        ({"mode": "External", "process_command": "give-keys --now"}, "the command give-keys of a profile"),
        (
            {"mode": "CredentialsURI", "credentials_uri": "http://localhost:8080/a?b=CANARY"},
            "the credentials URI http://localhost:8080/...",
        ),
    ],
)
def test_every_mode_of_the_command_line_is_known(profile: dict[str, object], stands_for: str) -> None:
    assert named(cli({"name": "default", **profile})) == stands_for


def test_a_profile_may_be_assumed_with_another_one() -> None:
    chained = {"name": "a", "mode": "ChainableRamRoleArn", "source_profile": "b", "ram_role_arn": ARN}
    text = cli(chained, {"name": "b", "mode": "EcsRamRole"}, current="a")
    assert named(text) == f"the role {ARN} (assumed with the RAM role of this ECS instance)"
    with pytest.raises(OssCredentialsError, match="too long a chain"):
        named(cli({**chained, "source_profile": "a"}), "a")


def test_the_files_own_profile_is_taken_unless_one_is_named() -> None:
    text = cli({"name": "a", "mode": "AK", **KEYS}, {"name": "b", "mode": "EcsRamRole"}, current="b")
    assert named(text) == "the RAM role of this ECS instance"
    assert named(text, "a") == "the key in the profile"


INI = f"""
[default]
type = access_key            # the SDKs' names
access_key_id = LTAI
access_key_secret = CANARY-SECRET

[role]
type = ram_role_arn
access_key_id = LTAI
access_key_secret = CANARY-SECRET
role_arn = {ARN}
role_session_name = s

[pod]
type = oidc_role_arn
role_arn = {ARN}
oidc_provider_arn = p
oidc_token_file_path = /token

[instance]
type = ecs_ram_role
role_name = reader
"""


def test_the_sdks_ini_file_is_read() -> None:
    assert named(INI) == "the key in the profile"
    assert named(INI, "role") == f"the role {ARN} (assumed with the key in the profile)"
    assert named(INI, "pod") == f"the role {ARN} (assumed with the OIDC token of this pod)"
    assert named(INI, "instance") == "the RAM role reader of this ECS instance"


def test_ossutils_file_is_read_in_both_versions() -> None:
    old = (
        "[Credentials]\nlanguage=EN\nendpoint=oss-cn-beijing.aliyuncs.com\naccessKeyID=LTAI\naccessKeySecret=CANARY%1\n"
    )
    new = "[default]\naccessKeyID=LTAI\naccessKeySecret=CANARY\nregion=cn-beijing\n[profile b]\nmode=EcsRamRole\n"
    credentials = read_profiles(SecretBytes(old.encode())).source().fetch()
    assert (credentials.access_key_id, credentials.access_key_secret) == ("LTAI", "CANARY%1")
    assert named(new) == "the key in the profile"
    assert named(new, "b") == "the RAM role of this ECS instance"
    assert named("[Credentials]\nstsToken=t\naccessKeyID=a\naccessKeySecret=b") == "the key in the profile"
    assert named("[default]\nmode=Anonymous") == "no source (anonymous access)"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not valid JSON"),
        ("{}", "profiles must be a list of JSON objects"),
        ('{"profiles": [1]}', "profiles must be a list of JSON objects"),
        ("access_key_id=1", "no INI file"),
        ("\udcff", "not UTF-8"),
        ("[a]\nmode=AK", r"there is no profile Credentials \(there are: a\)"),
        ("[default]\nmode=AK", "sts_token|access_key_id is missing"),
        ("[default]\nmode=OAuth", "the mode oauth is not supported"),
        (f"[default]\nmode=RamRoleArn\naccess_key_id=a\naccess_key_secret=b\nram_role_arn={ARN[4:]}", "ARN of a role"),
        ("[default]\nmode=CredentialsURI", "begins with http"),
    ],
)
def test_a_file_or_profile_that_is_no_good_is_told(text: str, complaint: str) -> None:
    with pytest.raises(OssCredentialsError, match=complaint):
        read_profiles(SecretBytes(text.encode("utf-8", "surrogateescape"))).source()


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: f"[default]\n{text}".encode()))
def test_any_bytes_give_a_source_or_an_error_of_ours(data: bytes) -> None:
    with contextlib.suppress(OssCredentialsError):
        assert str(read_profiles(SecretBytes(data)).source())
