"""A client named to another process inside an item: found there, or made again; no secret travels, nothing fails."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import oss2
import pytest
import trustme
from scripts import NO_LOGS

from osstorchconnector.client.client import OssClient
from osstorchconnector.credentials import Credentials, CredentialsSource
from osstorchconnector.errors import OssConfigError, OssCredentialsError

ENDPOINT = "http://127.0.0.1:1"


class Broken(CredentialsSource):
    """A source of the user's that can't be pickled."""

    def fetch(self) -> Credentials:
        return Credentials(access_key_id="LTAI", access_key_secret="CANARY")

    def __str__(self) -> str:
        return "a safe"

    def __reduce__(self) -> Any:
        raise RuntimeError("CANARY")


def static() -> Any:
    return oss2.credentials.StaticCredentialsProvider("LTAI", "CANARY")


def unnamed() -> Any:
    return lambda: Credentials(access_key_id="LTAI", access_key_secret="CANARY")


def made(provider: Any = None, **options: str) -> OssClient:
    return OssClient(ENDPOINT, cred_provider=provider, **options) if provider else OssClient(ENDPOINT, **options)


@pytest.mark.parametrize("provider", [None, static(), unnamed(), Broken()])
def test_who_has_the_client_finds_it(provider: Any) -> None:
    client = made(provider)
    pickled = pickle.dumps(client.reference())
    assert b"CANARY" not in pickled
    assert pickle.loads(pickled).resolve() is client


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda client: pickle.loads(pickle.dumps(client))])
def test_a_copy_stands_in_for_a_client_that_is_gone(duplicate: Any) -> None:
    client = made()
    reference, other = client.reference(), duplicate(client)
    assert other.identity == client.identity
    assert made().identity != client.identity
    del client
    assert reference.resolve() is other


def test_who_has_not_makes_one_and_keeps_it(tmp_path: Path) -> None:
    client = made(cred_path=str(tmp_path / "missing"))
    reference = client.reference()
    del client
    found = reference.resolve()
    assert found.endpoint == ENDPOINT
    assert reference.resolve() is found
    with pytest.raises(OssCredentialsError, match="missing"):
        found.get("oss://bucket/key")


@pytest.mark.parametrize("provider", [static(), unnamed(), Broken()])
def test_credentials_that_stayed_behind_are_an_error_of_the_first_request(provider: Any) -> None:
    client = made(provider)
    reference = client.reference()
    del client
    found = reference.resolve()
    with pytest.raises(OssCredentialsError, match="did not reach this process.*cred_path") as error:
        found.get("oss://bucket/key")
    assert "CANARY" not in str(error.value)


def test_what_is_missing_where_a_client_arrives_is_an_error_of_its_first_use(tmp_path: Path) -> None:
    authority, config = tmp_path / "ca.pem", tmp_path / "config.json"
    trustme.CA().cert_pem.write_to_path(str(authority))
    config.write_text(json.dumps({**NO_LOGS, "caFile": str(authority)}))
    pickled = pickle.dumps(OssClient("https://oss-cn-beijing.aliyuncs.com", config_path=str(config)))
    authority.unlink()
    arrived = pickle.loads(pickled)
    with pytest.raises(OssConfigError, match="caFile"):
        arrived.get("oss://bucket/key")
