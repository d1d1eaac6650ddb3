"""Both servers, each driven by every client: tests ask for `server` and `client` and run on all combinations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import oracle
import oss2
import pytest
from contract.clients import CLIENTS, Client, Oss2, Ours, Server, our_client, wire_to
from oracle.messages import Account
from oracle.process import DEFAULT_ACCOUNT
from oracle.signed_http import SignedHttp

from osstorchconnector import emulator
from osstorchconnector.credentials import Credentials

SESSION = Account("session-key-id", "session-key-secret", "a-token/with+plus=and%20==")

_bucket_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def oracle_server() -> Iterator[Server]:
    """moto's semantics."""
    with oracle.serve(accounts=(DEFAULT_ACCOUNT, SESSION)) as running:
        yield running


@pytest.fixture(scope="session")
def emulator_server() -> Iterator[Server]:
    """Ours."""
    with emulator.serve() as running:
        running.accept(Credentials(**SESSION._asdict()))
        yield running


@pytest.fixture(scope="session", params=["oracle", "emulator"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each server in turn."""
    running: Server = request.getfixturevalue(f"{request.param}_server")
    return running


@pytest.fixture(scope="session")
def make_client(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, str], Client]]:
    """Return a client by its name and that of a bucket; connections are kept for the whole session."""
    session = oss2.Session()
    session.session.trust_env = False  # no proxy, and no looking for one before each request
    folder = tmp_path_factory.mktemp("config")
    ours = {
        name: our_client(server, server.credentials, folder, name.split()[-1]) for name in CLIENTS if name != "oss2"
    }

    def make(name: str, bucket: str) -> Client:
        return Oss2(server, session, bucket) if name == "oss2" else Ours(ours[name], bucket)

    yield make
    session.session.close()
    for client in ours.values():
        client.close()


@pytest.fixture
def bucket(server: Server) -> str:
    """The name of a new, empty bucket."""
    name = f"contract-{next(_bucket_numbers)}"
    server.create_bucket(name)
    return name


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest, make_client: Callable[[str, str], Client], bucket: str) -> Client:
    """Each client in turn, on a new bucket."""
    return make_client(request.param, bucket)


@pytest.fixture
def sdk(make_client: Callable[[str, str], Client], bucket: str) -> Client:
    """oss2 on a new bucket, for what only a foreign client can tell."""
    return make_client("oss2", bucket)


@pytest.fixture
def session_account(server: Server) -> Account:
    """Credentials that both servers take only together with their security token."""
    return SESSION


@pytest.fixture
def wire(server: Server) -> SignedHttp:
    """A client that shows requests and answers as they are."""
    return wire_to(server)


@pytest.fixture(scope="session")
def crowded_bucket(server: Server, make_client: Callable[[str, str], Client]) -> str:
    """A bucket with more objects than a page holds: `crowd/0000` to `crowd/1000`."""
    server.create_bucket("contract-crowd")
    client = make_client("ours over direct", "contract-crowd")
    for number in range(1001):
        client.put(f"crowd/{number:04}", b"")
    return "contract-crowd"
