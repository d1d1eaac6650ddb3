"""The same through https."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import oss2
import pytest
import trustme
from emulator.raw import Peer, connected, put, request

from osstorchconnector import emulator
from osstorchconnector.emulator import Emulator

DATA = os.urandom(3_000_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority's certificate and one for this machine."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder


@pytest.fixture(scope="module")
def secure(folder: Path) -> Iterator[Emulator]:
    with emulator.serve(certfile=str(folder / "server.pem"), buckets=["photos"]) as oss:
        yield oss


def test_the_endpoint_says_https(secure: Emulator) -> None:
    assert secure.endpoint == f"https://127.0.0.1:{secure.port}"
    secure.put("photos", "k", b"x")
    assert secure.get("photos", "k") == b"x"


def test_oss2_reads_and_writes_through_tls(secure: Emulator, folder: Path) -> None:
    session = oss2.Session()
    session.session.trust_env = False
    session.session.verify = str(folder / "ca.pem")
    auth = oss2.AuthV4(secure.credentials.access_key_id, secure.credentials.access_key_secret)
    bucket = oss2.Bucket(auth, secure.endpoint, "photos", region=secure.region, session=session)
    bucket.put_object("large", DATA)
    assert bucket.get_object("large").read() == DATA
    assert bucket.get_object("large", byte_range=(10, 2_000_000)).read() == DATA[10:2_000_001]
    session.session.close()


def wrapped(peer: Peer, folder: Path) -> Peer:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    return Peer(context.wrap_socket(peer.socket, server_hostname="127.0.0.1", suppress_ragged_eofs=False))


def test_requests_may_share_a_record(secure: Emulator, folder: Path) -> None:
    with connected(secure) as plain:
        peer = wrapped(plain, folder)
        peer.send(put(secure, "k", 200_000) + DATA[:200_000] + request(secure, "GET", "k") * 3)
        assert peer.answer()[0].status == 200
        assert [peer.answer()[1] == DATA[:200_000] for _ in range(3)] == [True] * 3
        peer.socket.close()


def test_who_does_not_speak_tls_is_hung_up_on(secure: Emulator) -> None:
    with connected(secure) as peer:
        peer.send(request(secure, "GET", "k"))
        assert not peer.rest().startswith(b"HTTP/")
    secure.put("photos", "k", b"x")
    assert secure.get("photos", "k") == b"x"


def test_who_speaks_tls_to_a_server_of_plain_http_is_told_so_and_hung_up_on(oss: Emulator) -> None:
    with connected(oss) as peer:
        peer.send(b"\x16\x03\x01\x02\x00\x01")  # and then waits for an answer
        assert peer.head().status == 400
        assert peer.rest() == b""


def test_a_body_breaks_off_through_tls(secure: Emulator, folder: Path) -> None:
    secure.put("photos", "large", DATA)
    secure.fail("GetObject", "reset_body", at=1000)
    with connected(secure) as plain:
        peer = wrapped(plain, folder)
        peer.send(request(secure, "GET", "large"))
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            peer.rest()
        peer.socket.close()
    secure.reset()
