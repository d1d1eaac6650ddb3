"""TLS sessions that are taken up again: see `ResumingContext`."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import trustme

from osstorchconnector import OssClient, emulator
from osstorchconnector.client.transport import base
from osstorchconnector.client.transport.base import ResumingContext, tls_context
from osstorchconnector.emulator import Emulator

URI, DATA = "oss://photos/cat.jpg", b"x" * 1000
Handshakes = list[ssl.SSLObject]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("127.0.0.1", "localhost").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder


@pytest.fixture
def oss(certificates: Path) -> Iterator[Emulator]:
    """A server that closes each connection after its answer."""
    with emulator.serve(buckets=["photos"], certfile=str(certificates / "server.pem")) as oss:
        oss.put("photos", "cat.jpg", DATA)
        oss.fail("GetObject", "close_after", announced=True)
        yield oss


@pytest.fixture
def handshakes(monkeypatch: pytest.MonkeyPatch) -> Handshakes:
    """The TLS connections that were begun."""
    begun: Handshakes = []
    original = ResumingContext.wrap_bio

    def noted(self: ResumingContext, *arguments: object, **options: object) -> ssl.SSLObject:
        begun.append(original(self, *arguments, **options))  # type: ignore[arg-type]
        return begun[-1]

    monkeypatch.setattr(ResumingContext, "wrap_bio", noted)
    return begun


def client_of(oss: Emulator, certificates: Path, folder: Path, **settings: str) -> OssClient:
    config = folder / "config.json"
    config.write_text(json.dumps({"caFile": str(certificates / "ca.pem"), "logPath": "", "auditPath": "", **settings}))
    return OssClient(oss.endpoint, region=oss.region, cred_path=oss.credentials_file(folder), config_path=str(config))


@pytest.mark.parametrize("transport", ["direct", "aiohttp"])
def test_one_handshake_is_whole_and_the_next_ones_are_short(
    oss: Emulator, certificates: Path, tmp_path: Path, handshakes: Handshakes, transport: str
) -> None:
    client = client_of(oss, certificates, tmp_path, transport=transport)
    assert [client.get(URI).body for _ in range(6)] == [DATA] * 6
    done = [each.session_reused for each in handshakes if each.version() is not None]
    assert len(done) >= 6
    assert done[0] is False
    assert done.count(False) < len(done) / 2
    client.close()


def test_a_server_that_has_forgotten_the_session_makes_a_new_one(
    oss: Emulator, certificates: Path, tmp_path: Path, handshakes: Handshakes
) -> None:
    client = client_of(oss, certificates, tmp_path)
    for _ in range(2):
        assert client.get(URI).body == DATA
    oss.restart()  # with another key for its tickets
    begun = len(handshakes)
    assert client.get(URI).body == DATA
    assert handshakes[begun].session_reused is False
    client.close()


def pair(context: ssl.SSLContext, name: str, server: ssl.SSLContext) -> ssl.SSLObject:
    """Return the client's side of a connection over which a byte has come, without any socket."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours, theirs = context.wrap_bio(down, up, server_hostname=name), server.wrap_bio(up, down, server_side=True)
    for side in (ours, theirs, ours, theirs):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            pass
    theirs.write(b"!")
    assert ours.read() == b"!"
    return ours


@pytest.fixture
def server(certificates: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.pem")
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_taken_up_for_the_same_host_by_the_same_thread_only(
    certificates: Path, server: ssl.SSLContext, version: ssl.TLSVersion
) -> None:
    context = tls_context(str(certificates / "ca.pem"))
    server.maximum_version = version
    names = ["localhost", "localhost", "127.0.0.1", "localhost", "127.0.0.1"]
    assert [pair(context, name, server).session_reused for name in names] == [False, True, False, True, True]
    with ThreadPoolExecutor(1) as thread:
        reused = [thread.submit(pair, context, "localhost", server).result().session_reused for _ in range(2)]
    assert reused == [False, True]


def test_a_connection_that_was_never_made_leaves_the_session_of_the_one_before(
    certificates: Path, server: ssl.SSLContext
) -> None:
    context = tls_context(str(certificates / "ca.pem"))
    pair(context, "localhost", server)
    for _ in range(3):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    assert pair(context, "localhost", server).session_reused


def test_the_number_of_sessions_is_limited(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "MAX_SESSIONS", 3)
    context = tls_context(str(certificates / "ca.pem"))
    assert isinstance(context, ResumingContext)
    for number in range(10):
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=f"host-{number}")
    assert len(context.earlier) <= 3


def test_a_context_that_resumes_checks_what_any_other_checks(certificates: Path) -> None:
    context, other = tls_context(""), ssl.create_default_context()
    names = ("check_hostname", "verify_mode", "verify_flags", "options", "minimum_version", "maximum_version")
    assert [getattr(context, name) for name in names] == [getattr(other, name) for name in names]


def test_a_session_that_can_not_be_copied_yet_is_not_taken_up(certificates: Path) -> None:
    """In the middle of some handshakes OpenSSL says "i2d() failed" when it is asked for the session."""

    class InHandshake:
        @property
        def session(self) -> ssl.SSLSession:
            raise ValueError("i2d() failed")

    context = tls_context(str(certificates / "ca.pem"))
    assert isinstance(context, ResumingContext)
    context.earlier[threading.get_ident(), "localhost"] = InHandshake(), None  # type: ignore[assignment]
    made = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="localhost")
    assert context.earlier[threading.get_ident(), "localhost"] == (made, None)
