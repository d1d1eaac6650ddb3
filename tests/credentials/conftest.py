"""Folders of their own for files that hold secrets, here and in processes that a test starts; services on loopback."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from credentials.services import Asked, Reply, Service


@pytest.fixture
def handovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "handovers"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[Asked], Reply]], Service]]:
    """Start services on loopback: `serve(answer)` returns one."""
    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(Service(answer).running())


@pytest.fixture(autouse=True)
def own_folder_for_temporary_credentials(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Let no test find what another one has kept."""
    folder = str(tmp_path_factory.mktemp("temporary"))
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", None)
