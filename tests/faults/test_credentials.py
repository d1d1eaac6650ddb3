"""Credentials that change, expire, or are not to be had, while a program works."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from faults.users import CREDENTIALS, SAMPLES, Site, furnish

from osstorchconnector import OssClient, OssCredentialsError, OssIterableDataset, OssPermissionError
from osstorchconnector.credentials import Credentials
from osstorchconnector.emulator.handle import write_credentials
from osstorchconnector.testing import OssBucket

NEW = Credentials(access_key_id="LTAI-NEW", access_key_secret="another-secret")


@pytest.fixture
def site(oss_bucket: OssBucket, tmp_path: Path) -> Site:
    return furnish(oss_bucket, tmp_path)


def dataset(site: Site) -> OssIterableDataset:
    return OssIterableDataset.from_prefix(site.uri("samples/"), **site.options)


def rotate(site: Site, *, new: Credentials = NEW) -> None:
    """Put new keys into the file, and have the server refuse the old ones from now on."""
    site.bucket.server.accept(new)
    write_credentials(Path(site.bucket.cred_path), new)
    site.bucket.server.revoke(CREDENTIALS.access_key_id)


def test_a_file_that_is_replaced_mid_epoch_is_not_noticed(site: Site) -> None:
    site.configure(datasetConfig={"prefetchConcurrency": 2})
    found: dict[str, bytes] = {}
    for item in dataset(site):
        if len(found) == 3:
            rotate(site)
        found[item.key] = item.read()
    assert list(found.values()) == list(SAMPLES.values())
    assert site.bucket.server.counters().errors["GetObject"] >= 1  # refused, and sent again with the new ones


def test_keys_that_are_refused_and_not_replaced_are_an_error_at_once(site: Site) -> None:
    client = site.client()
    client.head(site.uri("data"))
    site.bucket.server.revoke(CREDENTIALS.access_key_id)
    site.bucket.server.reset_counters()
    with pytest.raises(OssPermissionError, match="InvalidAccessKeyId.*1 attempt"):
        client.head(site.uri("data"))
    assert site.bucket.server.counters().requests["HeadObject"] == 1


def test_an_expired_token_is_read_again_and_tried_once_more(site: Site) -> None:
    old = Credentials(access_key_id="STS.OLD", access_key_secret="old-secret", security_token="old-token")
    site.bucket.server.accept(old)
    write_credentials(Path(site.bucket.cred_path), old)
    client = site.client()
    client.head(site.uri("data"))
    expired = Credentials(
        access_key_id="STS.OLD", access_key_secret="old-secret", security_token="old-token", expires_at=time.time() - 60
    )
    site.bucket.server.accept(expired)
    with pytest.raises(OssPermissionError, match="SecurityTokenExpired.*2 attempts.*renew"):
        client.head(site.uri("data"))
    site.bucket.server.accept(NEW)
    write_credentials(Path(site.bucket.cred_path), NEW)
    assert client.head(site.uri("data")).size > 0


class Provider:
    """An oss2 provider that fails now and then."""

    def __init__(self, credentials: Credentials) -> None:
        self.credentials, self.is_broken = credentials, False

    def get_credentials(self) -> Any:
        if self.is_broken:
            raise RuntimeError("the metadata service is away")
        return self

    def get_access_key_id(self) -> str:
        return self.credentials.access_key_id

    def get_access_key_secret(self) -> str:
        return self.credentials.access_key_secret

    def get_security_token(self) -> str:
        return self.credentials.security_token


def test_a_provider_that_raises_is_a_clear_error_and_comes_back(site: Site) -> None:
    provider = Provider(site.bucket.server.credentials)
    provider.is_broken = True
    client = OssClient(
        site.bucket.endpoint, cred_provider=provider, region=site.bucket.region, config_path=str(site.config)
    )
    with pytest.raises(OssCredentialsError, match="Provider.*the metadata service is away"):
        client.head(site.uri("data"))
    provider.is_broken = False
    assert client.head(site.uri("data")).size > 0


@pytest.mark.parametrize("torn", ["", "{", '{"AccessKeyId": "LTAI-NEW", "AccessKeySec'])
def test_a_file_half_written_when_it_is_read_does_no_harm(site: Site, torn: str) -> None:
    path = Path(site.bucket.cred_path)
    whole = path.read_text()
    client = site.client()
    client.head(site.uri("data"))
    path.write_text(torn)
    os.utime(path, (1, 1))
    site.bucket.server.fail("HeadObject", "expired_token", times=1)  # makes it be read
    assert client.head(site.uri("data")).size > 0
    path.write_text(json.dumps(json.loads(whole)))
    assert client.head(site.uri("data")).size > 0
