"""A `Bucket` of oss2 as an endpoint, and its auth as a provider."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import oss2
import pytest

from osstorchconnector import OssClient, OssConfigError, OssCredentialsError, OssIterableDataset, OssPermissionError
from osstorchconnector.client import opening
from osstorchconnector.client.sender import Session
from osstorchconnector.credentials import credentials_source
from osstorchconnector.testing import OssBucket

KEYS = ("id", "CANARY-SECRET")
STATIC = oss2.StaticCredentialsProvider(*KEYS)
HANGZHOU = "https://oss-cn-hangzhou.aliyuncs.com"
AUTHS = {
    "Auth": oss2.Auth(*KEYS),
    "AuthV2": oss2.AuthV2(*KEYS),
    "AuthV4": oss2.AuthV4(*KEYS),
    "ProviderAuth": oss2.ProviderAuth(STATIC),
    "ProviderAuthV4": oss2.ProviderAuthV4(STATIC),
    "StsAuth": oss2.StsAuth(*KEYS, "CANARY-TOKEN"),
    "StsAuth of V4": oss2.StsAuth(*KEYS, "CANARY-TOKEN", auth_version="v4"),
}


@pytest.mark.parametrize("name", AUTHS)
def test_each_auth_gives_its_credentials(name: str) -> None:
    found = credentials_source(cred_provider=AUTHS[name]).fetch()
    assert (found.access_key_id, found.access_key_secret) == KEYS
    assert found.security_token == ("CANARY-TOKEN" if "Sts" in name else "")


def test_the_anonymous_auth_signs_nothing(oss_bucket: OssBucket) -> None:
    assert credentials_source(cred_provider=oss2.AnonymousAuth()).fetch().is_anonymous
    bucket = oss2.Bucket(oss2.AnonymousAuth(), oss_bucket.endpoint, oss_bucket.name)
    with pytest.raises(OssPermissionError, match="Anonymous access is forbidden"):
        OssClient(bucket).put(oss_bucket.uri + "key", b"bytes")
    owner = oss2.Bucket(oss2.Auth(*keys_of(oss_bucket)), oss_bucket.endpoint, oss_bucket.name)
    owner.put_object("public", b"bytes", headers={"x-oss-object-acl": "public-read"})
    assert OssClient(bucket).get(oss_bucket.uri + "public").body == b"bytes"


def test_an_auth_of_another_kind_is_refused() -> None:
    class Signing:
        def _sign_request(self) -> None:
            raise AssertionError

    with pytest.raises(OssCredentialsError, match="the Signing has no credentials provider"):
        credentials_source(cred_provider=Signing())


def test_the_class_of_an_auth_is_no_auth() -> None:
    with pytest.raises(OssCredentialsError, match="give an instance"):
        credentials_source(cred_provider=oss2.Auth)


@pytest.mark.parametrize("auth", [oss2.Auth, oss2.AuthV2, oss2.AuthV4])
def test_a_bucket_is_an_endpoint(auth: Any, oss_bucket: OssBucket) -> None:
    region = oss_bucket.region if auth is oss2.AuthV4 else None
    bucket = oss2.Bucket(auth(*keys_of(oss_bucket)), oss_bucket.endpoint, oss_bucket.name, region=region)
    client = OssClient(bucket)
    client.put(oss_bucket.uri + "key", b"bytes")
    assert pickle.loads(pickle.dumps(client)).get(oss_bucket.uri + "key").body == b"bytes"
    assert [item.read() for item in OssIterableDataset.from_prefix(oss_bucket.uri, bucket)] == [b"bytes"]


def test_a_service_is_an_endpoint_too(oss_bucket: OssBucket) -> None:
    client = OssClient(oss2.Service(oss2.Auth(*keys_of(oss_bucket)), oss_bucket.endpoint))
    client.put(oss_bucket.uri + "key", b"bytes")
    assert oss_bucket.get("key") == b"bytes"


def keys_of(bucket: OssBucket) -> tuple[str, str]:
    credentials = bucket.server.credentials
    return credentials.access_key_id, credentials.access_key_secret


def session_of(client: OssClient) -> Session:
    return opening._session(client._recipe, client._shared, None)


def signing(client: OssClient) -> tuple[str, str]:
    plan = session_of(client).signing
    return plan.version, plan.region


def test_version_4_signs_where_a_region_is_known() -> None:
    assert signing(OssClient(oss2.Bucket(AUTHS["Auth"], HANGZHOU, "photos"))) == ("v4", "cn-hangzhou")
    named = oss2.Bucket(AUTHS["AuthV4"], "https://oss.example.com", "photos", region="cn-beijing")
    assert signing(OssClient(named)) == ("v4", "cn-beijing")
    assert signing(OssClient(named, region="cn-shanghai")) == ("v4", "cn-shanghai")


def test_an_auth_of_version_1_needs_no_region() -> None:
    assert signing(OssClient(oss2.Bucket(AUTHS["Auth"], "https://oss.example.com", "photos"))) == ("v1", "")
    with pytest.raises(OssConfigError, match="region="):
        OssClient(oss2.Bucket(AUTHS["AuthV4"], "https://oss.example.com", "photos"))


@pytest.mark.parametrize(("option", "style"), [("is_cname", "cname"), ("is_path_style", "path"), ("", "virtual")])
def test_a_bucket_says_how_it_is_addressed(option: str, style: str, tmp_path: Path) -> None:
    bucket = oss2.Bucket(AUTHS["Auth"], HANGZHOU, "photos", **{option: True} if option else {})
    assert session_of(OssClient(bucket)).endpoint.style == style
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"addressing": "virtual", "logPath": "", "auditPath": ""}))
    assert session_of(OssClient(bucket, config_path=str(config))).endpoint.style == "virtual"


def test_a_provider_beside_a_bucket_counts_more(oss_bucket: OssBucket) -> None:
    bucket = oss2.Bucket(oss2.AnonymousAuth(), oss_bucket.endpoint, oss_bucket.name)
    client = OssClient(bucket, cred_provider=lambda: oss_bucket.server.credentials)
    client.put(oss_bucket.uri + "key", b"bytes")
    assert oss_bucket.get("key") == b"bytes"


def test_a_cloud_box_is_refused() -> None:
    with pytest.raises(OssConfigError, match="cloud box"):
        OssClient(oss2.Bucket(AUTHS["AuthV4"], HANGZHOU, "photos", cloudbox_id="cb-1", region="cn-hangzhou"))
