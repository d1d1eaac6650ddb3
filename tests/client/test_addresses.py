"""Our client over each way to write an endpoint: http and https, path, CNAME and virtual-hosted style."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme
from scripts import NO_LOGS

from osstorchconnector import emulator
from osstorchconnector.client.client import OssClient
from osstorchconnector.emulator import Emulator
from osstorchconnector.errors import OssConnectionError
from osstorchconnector.protocol.values import ByteSpan

DATA = os.urandom(300_000)
PHOTOS = "oss://photos/"

MakeClient = Callable[..., OssClient]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority's certificate, and one that it issued for this machine."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    authority.issue_cert("elsewhere.test").private_key_and_cert_chain_pem.write_to_path(folder / "other.pem")
    return folder


@pytest.fixture(scope="module")
def servers(certificates: Path) -> Iterator[dict[str, Emulator]]:
    """The same server by http and by https; to it, localhost is the bucket's own name."""
    with (
        emulator.serve(buckets=["photos"], cnames={"localhost": "photos"}) as http,
        emulator.serve(
            buckets=["photos"], cnames={"localhost": "photos"}, certfile=str(certificates / "server.pem")
        ) as https,
    ):
        yield {"http": http, "https": https}


@pytest.fixture
def client_of(tmp_path: Path) -> Iterator[MakeClient]:
    """Make a client of a server at another of its addresses, with settings of its own."""
    clients: list[OssClient] = []

    def make(oss: Emulator, endpoint: str, **settings: object) -> OssClient:
        config = tmp_path / f"config-{len(clients)}.json"
        config.write_text(json.dumps({**NO_LOGS, **settings}))
        cred_path = oss.credentials_file(tmp_path)
        clients.append(OssClient(endpoint, region=oss.region, cred_path=cred_path, config_path=str(config)))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def use(client: OssClient) -> None:
    """Do once what a client does, with a key that must be quoted."""
    uri = PHOTOS + "a b/ü+%"
    client.put(uri, DATA)
    assert client.get(uri).body == DATA
    assert client.get(uri, ByteSpan(5, 200_000)).body == DATA[5:200_000]
    assert client.head(uri).size == len(DATA)
    client.copy(uri, PHOTOS + "copy")
    upload = client.create_upload(PHOTOS + "parts")
    part = client.upload_part(PHOTOS + "parts", upload, 1, DATA)
    client.complete_upload(PHOTOS + "parts", upload, [part])
    assert [found.key for found in client.list(PHOTOS)] == ["a b/ü+%", "copy", "parts"]
    client.delete(uri)
    client.delete_many("photos", ["copy", "parts"])
    assert list(client.list(PHOTOS)) == []


@pytest.mark.parametrize("signature_version", ["v1", "v4"])
@pytest.mark.parametrize("transport", ["direct", "aiohttp"])
@pytest.mark.parametrize(("host", "addressing"), [("127.0.0.1", "path"), ("localhost", "cname")])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_every_operation_reaches_its_bucket(
    scheme: str,
    host: str,
    addressing: str,
    transport: str,
    signature_version: str,
    servers: dict[str, Emulator],
    certificates: Path,
    client_of: MakeClient,
) -> None:
    oss = servers[scheme]
    settings = {"addressing": addressing, "transport": transport, "signatureVersion": signature_version}
    use(client_of(oss, f"{scheme}://{host}:{oss.port}", caFile=str(certificates / "ca.pem"), **settings))
    assert not oss.counters().errors.total()


@pytest.mark.parametrize("signature_version", ["v1", "v4"])
def test_a_bucket_before_the_hosts_name_is_found(
    signature_version: str, servers: dict[str, Emulator], client_of: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nobody here resolves photos.oss.test, but a proxy is sent the name as it stands, and the emulator can be one.
    with emulator.serve(buckets=["photos"], domains=["oss.test"]) as oss:
        monkeypatch.setenv("http_proxy", oss.endpoint)
        monkeypatch.delenv("no_proxy", raising=False)
        use(client_of(oss, "http://oss.test", signatureVersion=signature_version))
        assert not oss.counters().errors.total()


@pytest.mark.parametrize("transport", ["direct", "aiohttp"])
def test_a_certificate_that_nobody_vouches_for_is_refused_and_the_setting_named(
    transport: str, servers: dict[str, Emulator], client_of: MakeClient
) -> None:
    oss = servers["https"]
    with pytest.raises(OssConnectionError, match=r"not trusted.*\[1 attempt\].*caFile"):
        client_of(oss, oss.endpoint, transport=transport).put(PHOTOS + "k", DATA)


@pytest.mark.parametrize("transport", ["direct", "aiohttp"])
def test_a_certificate_of_another_host_is_refused(transport: str, certificates: Path, client_of: MakeClient) -> None:
    with emulator.serve(buckets=["photos"], certfile=str(certificates / "other.pem")) as oss:
        client = client_of(oss, oss.endpoint, transport=transport, caFile=str(certificates / "ca.pem"))
        with pytest.raises(OssConnectionError, match="127.0.0.1"):
            client.put(PHOTOS + "k", DATA)
        assert oss.counters().requests.total() == 0


@pytest.mark.parametrize("transport", ["direct", "aiohttp"])
def test_https_to_a_server_of_plain_http_fails_at_once_and_says_what_to_write(
    transport: str, servers: dict[str, Emulator], client_of: MakeClient
) -> None:
    oss = servers["http"]
    with pytest.raises(OssConnectionError, match=r"does not speak TLS \[1 attempt\].*http://"):
        client_of(oss, f"https://127.0.0.1:{oss.port}", transport=transport).put(PHOTOS + "k", DATA)
