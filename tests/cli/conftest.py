"""Runs commands in this process, against an empty bucket."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from osstorchconnector.cli import main
from osstorchconnector.testing import OssBucket


class Ended(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str


Run = Callable[..., Ended]


@pytest.fixture
def run(oss_bucket: OssBucket, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Run:
    """`run("ls", uri)` runs a command as a user of this bucket."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str, access: bool = True) -> Ended:
        common = ["-e", oss_bucket.endpoint, "--region", oss_bucket.region, "--cred-path", oss_bucket.cred_path]
        status = main([*arguments, *(common if access else [])])
        captured = capsysbinary.readouterr()
        return Ended(status, captured.out.decode("utf-8", "replace"), captured.err.decode())

    return call
