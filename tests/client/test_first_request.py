"""What newcomers get wrong is told at once: after few requests and no long wait, with what to do."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from osstorchconnector import OssClient, OssConnectionError, OssError, OssNotFoundError
from osstorchconnector.client.traffic import shared
from osstorchconnector.client.transport.addresses import AddressBook, Addresses
from osstorchconnector.client.transport.base import Timeouts, Transport
from osstorchconnector.client.transport.direct import DirectTransport
from osstorchconnector.testing import OssBucket, ScriptedFailure, ScriptedTransport


class Resolver:
    """A resolver that knows no name, as a transport factory; it counts how often it was asked."""

    def __init__(self, number: int) -> None:
        self.asked, self._number = 0, number

    def __call__(self, timeouts: Timeouts, tls: ssl.SSLContext | None, /) -> Transport:
        return DirectTransport(timeouts, tls, addresses=Addresses(AddressBook(), self._look_up))

    def _look_up(self, host: str, port: int) -> NoReturn:
        self.asked += 1
        raise socket.gaierror(self._number, "the resolver's words")


Connect = Callable[..., OssClient]


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    """Return a function that makes a client with the usual settings, and those that are given."""
    clients = []
    (tmp_path / "keys").write_text(json.dumps({"AccessKeyId": "AK", "AccessKeySecret": "SK"}))

    def open_client(transport: Any, **settings: object) -> OssClient:
        (tmp_path / "config").write_text(json.dumps({"logPath": "", "auditPath": ""} | settings))
        paths = {"cred_path": str(tmp_path / "keys"), "config_path": str(tmp_path / "config")}
        clients.append(OssClient("https://oss-cn-test.example", region="cn-test", transport=transport, **paths))
        return clients[-1]

    shared.forget()
    yield open_client
    shared.forget()
    for client in clients:
        client.close()


def test_a_name_that_does_not_exist_is_looked_up_once(connect: Connect) -> None:
    resolver = Resolver(socket.EAI_NONAME)
    with pytest.raises(OssConnectionError) as caught:
        connect(resolver).get("oss://bucket/key")
    assert resolver.asked == 1
    assert str(caught.value) == (
        "GetObject oss://bucket/key: the host bucket.oss-cn-test.example is not known [1 attempt]; check endpoint= and "
        "the bucket's name, then this machine's DNS (docs/errors.md#unknownhost)"
    )


def test_a_resolver_that_fails_for_the_moment_is_asked_again_but_not_for_long(connect: Connect) -> None:
    # the first pause is drawn from an hour: longer than what is allowed
    resolver = Resolver(socket.EAI_AGAIN)
    with pytest.raises(OssConnectionError, match="nothing has ever answered there"):
        connect(resolver, retryBaseDelay=3600, retryMaxDelay=3600, operationTimeout=86400).get("oss://bucket/key")
    assert resolver.asked == 1
    resolver = Resolver(socket.EAI_AGAIN)
    with pytest.raises(OssConnectionError, match=r"the resolver's words \[20 attempts\]"):
        connect(resolver, retryBaseDelay=0.001, retryMaxDelay=0.001).get("oss://bucket/key")
    assert resolver.asked == 20


def test_a_connection_that_is_refused_at_first_is_an_error_that_names_the_cause(connect: Connect) -> None:
    transport = ScriptedTransport([ScriptedFailure("connect", "no connection to h:443: Connection refused")])
    client = connect(transport, retryBaseDelay=3600, retryMaxDelay=3600, operationTimeout=86400)
    with pytest.raises(OssConnectionError) as caught:
        client.get("oss://bucket/key")
    assert str(caught.value) == (
        "GetObject oss://bucket/key: no connection to h:443: Connection refused [1 attempt]; nothing has ever answered "
        "there: check endpoint= (an -internal one is reached from its own region only); check the network, the proxy "
        "and the firewall (docs/errors.md#noconnection)"
    )


def refused(bucket: OssBucket, uri: str = "", **changes: Any) -> OssError:
    """Return the error of the first request of a client that is made in a wrong way."""
    client = OssClient(**{**bucket.options, **changes})
    bucket.server.reset_counters()
    try:
        with pytest.raises(OssError) as caught:
            client.get(uri or f"{bucket.uri}key")
    finally:
        client.close()
    assert len(str(caught.value)) <= 400
    return caught.value


def requests_of(bucket: OssBucket) -> int:
    return len(bucket.server.counters().log)


@pytest.fixture
def keys(oss_bucket: OssBucket) -> dict[str, str]:
    return dict(json.loads(Path(oss_bucket.cred_path).read_text()))


def test_a_wrong_region_is_told_after_one_request(oss_bucket: OssBucket) -> None:
    error = str(refused(oss_bucket, region="cn-elsewhere"))
    assert "signed for cn-elsewhere, which is not the endpoint's (docs/errors.md#wrongregion)" in error
    assert requests_of(oss_bucket) == 1


@pytest.mark.parametrize(
    ("changes", "heading"),
    [({"AccessKeyId": "nobody"}, "invalidaccesskeyid"), ({"AccessKeySecret": "wrong"}, "signaturedoesnotmatch")],
)
def test_a_wrong_key_is_told_after_one_request(
    oss_bucket: OssBucket, keys: dict[str, str], tmp_path: Path, changes: dict[str, str], heading: str
) -> None:
    (tmp_path / "keys").write_text(json.dumps(keys | changes))
    assert f"(docs/errors.md#{heading})" in str(refused(oss_bucket, cred_path=str(tmp_path / "keys")))
    assert requests_of(oss_bucket) == 1


def test_a_missing_bucket_is_told_after_one_request(oss_bucket: OssBucket) -> None:
    error = refused(oss_bucket, "oss://no-such-bucket-at-all/key")
    assert isinstance(error, OssNotFoundError)
    assert "docs/errors.md#nosuchbucket" in str(error)
    assert requests_of(oss_bucket) == 1


def test_an_expired_token_that_nobody_renews_is_told_after_two_requests(oss_bucket: OssBucket) -> None:
    oss_bucket.server.fail("GetObject", "SecurityTokenExpired", bucket=oss_bucket.name)
    assert "docs/errors.md#securitytokenexpired" in str(refused(oss_bucket))
    assert requests_of(oss_bucket) == 2


def test_a_clock_that_is_off_costs_one_request_and_one_that_can_not_be_set_is_told(oss_bucket: OssBucket) -> None:
    oss_bucket.put("key", b"data")
    oss_bucket.server.set_clock(7200.0)
    oss_bucket.server.reset_counters()
    client = OssClient(**oss_bucket.options)
    assert client.get(f"{oss_bucket.uri}key").body == b"data"
    client.close()
    assert requests_of(oss_bucket) == 2
    oss_bucket.server.fail("GetObject", "RequestTimeTooSkewed", bucket=oss_bucket.name)
    assert "set this machine's clock (docs/errors.md#requesttimetooskewed)" in str(refused(oss_bucket))
    assert requests_of(oss_bucket) == 2
