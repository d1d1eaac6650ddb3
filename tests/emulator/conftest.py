"""A service in a folder, its front end, and a way to send it requests, all within the test's process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from emulator.driver import CREDENTIALS, DATA, Driver

from osstorchconnector import emulator
from osstorchconnector.emulator import Emulator
from osstorchconnector.emulator.frontend import Frontend
from osstorchconnector.emulator.routing import Hosts
from osstorchconnector.emulator.service import Service

BUCKET = "photos"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """A service with one empty bucket, `photos`."""
    service = Service.open(tmp_path / "root", CREDENTIALS)
    service.create_bucket(BUCKET)
    yield service
    service.close()


@pytest.fixture
def send(service: Service) -> Driver:
    return Driver(Frontend(service, Hosts(["oss.test"], {"cdn.test": BUCKET})))


@pytest.fixture
def filled(send: Driver) -> Driver:
    """The same, with the object `k`, which holds `DATA`."""
    send("PUT", "photos", "k", body=DATA)
    return send


@pytest.fixture(scope="session")
def running() -> Iterator[Emulator]:
    """An emulator in its own process, for all tests."""
    with emulator.serve(domains=["oss.test"]) as oss:
        yield oss


@pytest.fixture
def oss(running: Emulator) -> Iterator[Emulator]:
    """The same, with one empty bucket `photos` and nothing switched on."""
    running.reset()
    running.create_bucket(BUCKET)
    yield running
    running.remove_bucket(BUCKET)
