"""What stands in for torch's DataPipes where torch has none, in a process without them."""

from __future__ import annotations

from pathlib import Path

from scripts import ROOT, run_python

PROGRAM = Path(__file__).with_name("without_torchs_pipes.py")


def test_everything_works_without_torchs_pipes() -> None:
    printed, _ = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", PROGRAM, folder=ROOT)
    assert " passed" in printed
    assert "skipped" not in printed
