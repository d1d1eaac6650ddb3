"""A folder of its own for the files that hand secrets over, here and in processes that a test starts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest


@pytest.fixture
def handovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "handovers"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder
