"""What the environment says to programs in general, and what of it is meant for us: proxies are, logins are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripts import NO_LOGS

from osstorchconnector import emulator
from osstorchconnector.client.client import OssClient
from osstorchconnector.errors import OssConnectionError
from osstorchconnector.testing import OssBucket


@pytest.fixture
def client(oss_bucket: OssBucket) -> OssClient:
    return OssClient(**oss_bucket.options)


def test_a_login_in_netrc_is_not_used(
    client: OssClient, oss_bucket: OssBucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login somebody password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    oss_bucket.put("key", b"data")
    assert [listed.key for listed in client.list(oss_bucket.uri)] == ["key"]
    client.close()


def test_requests_go_through_the_proxy_that_the_environment_names(
    oss_bucket: OssBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the emulator takes requests for any host, with the whole URL in the first line or not: it can be the proxy
    monkeypatch.setenv("http_proxy", oss_bucket.endpoint)
    monkeypatch.delenv("no_proxy", raising=False)
    options = {**oss_bucket.options, "endpoint": "http://192.0.2.1:9"}
    client = OssClient(**options)
    oss_bucket.put("key", b"data")
    try:
        assert client.get(oss_bucket.uri + "key").body == b"data"
    finally:
        client.close()


def test_this_machine_is_asked_directly_whatever_the_proxy(
    oss_bucket: OssBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.2:9")
    monkeypatch.delenv("no_proxy", raising=False)
    client = OssClient(**oss_bucket.options)
    oss_bucket.put("key", b"data")
    assert client.get(oss_bucket.uri + "key").body == b"data"
    assert [listed.key for listed in client.list(oss_bucket.uri)] == ["key"]
    client.close()


@pytest.mark.parametrize("first", ["near", "far"])
def test_no_proxy_is_asked_about_each_bucket_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    # Nobody resolves these names: only the proxy, which the emulator can be, reaches a bucket.
    with emulator.serve(buckets=["near", "far"], domains=["oss.invalid"]) as oss:
        monkeypatch.setenv("http_proxy", oss.endpoint)
        monkeypatch.setenv("no_proxy", "near.oss.invalid")
        config = tmp_path / "config.json"
        config.write_text(json.dumps(NO_LOGS | {"maxAttempts": 1}))
        cred_path = oss.credentials_file(tmp_path)
        client = OssClient("http://oss.invalid", region=oss.region, cred_path=cred_path, config_path=str(config))
        for bucket in (first, "near", "far"):
            if bucket == "far":
                client.put("oss://far/key", b"data")
                assert client.get("oss://far/key").body == b"data"
            else:
                with pytest.raises(OssConnectionError):
                    client.get("oss://near/key")
        client.close()
        assert set(oss.counters().requests) == {"PutObject", "GetObject"}
        assert not oss.counters().errors.total()
