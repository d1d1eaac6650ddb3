"""Secrets in a file: for their owner only, while their process lives, and swept up after one that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from osstorchconnector.credentials.providers import HandoverFile, receive_handover, remove_orphaned_handovers
from osstorchconnector.errors import OssCredentialsError


def in_an_hour() -> float:
    return time.time() + 3600


def test_what_is_handed_over_is_received_until_it_is_removed(handovers: Path) -> None:
    handover = HandoverFile(b"CANARY")
    assert receive_handover(handover.path) == receive_handover(handover.path) == b"CANARY"
    handover.remove()
    assert list(handovers.iterdir()) == []
    with pytest.raises(OssCredentialsError, match="No such file"):
        receive_handover(handover.path)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660])
def test_a_file_that_others_may_touch_is_not_trusted(handovers: Path, mode: int) -> None:
    handover = HandoverFile(b"CANARY")
    Path(handover.path).chmod(mode)
    with pytest.raises(OssCredentialsError, match="not a file that only this user can read"):
        receive_handover(handover.path)


def test_a_link_or_a_folder_in_place_of_the_file_is_not_trusted(handovers: Path) -> None:
    link = handovers / "link"
    link.symlink_to(HandoverFile(b"CANARY").path)
    with pytest.raises(OssCredentialsError, match=r"link: Too many levels of symbolic links"):
        receive_handover(str(link))
    with pytest.raises(OssCredentialsError, match=r"Is a directory|not a file"):
        receive_handover(str(handovers))


def test_a_file_in_use_is_not_swept_up(handovers: Path) -> None:
    handover = HandoverFile(b"CANARY")
    remove_orphaned_handovers(clock=in_an_hour)
    assert receive_handover(handover.path) == b"CANARY"


def test_what_is_not_ours_is_not_swept_up(handovers: Path) -> None:
    others = [handovers / name for name in ("osstorchconnector-x.credentials", "other.credentials", "readme")]
    for path in others:
        path.write_text("not ours")
        path.chmod(0o644)
    (handovers / "osstorchconnector-y.credentials").mkdir()
    remove_orphaned_handovers(clock=in_an_hour)
    assert len(list(handovers.iterdir())) == len(others) + 1


LEFT_BEHIND = """
import os, signal
from osstorchconnector.credentials.providers import HandoverFile
HandoverFile(b"CANARY")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_swept_up_a_minute_later(handovers: Path) -> None:
    run = subprocess.run([sys.executable, "-c", LEFT_BEHIND], timeout=200, check=False)
    assert run.returncode == -signal.SIGKILL
    (orphan,) = handovers.iterdir()
    HandoverFile(b"another")
    assert orphan.exists()
    os.utime(orphan, (time.time() - 61,) * 2)
    HandoverFile(b"another")
    assert not orphan.exists()


def test_without_locks_nothing_is_swept_up_and_the_rest_works(handovers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    handover = HandoverFile(b"CANARY")
    remove_orphaned_handovers(clock=in_an_hour)
    assert receive_handover(handover.path) == b"CANARY"
    handover.remove()
    assert list(handovers.iterdir()) == []


def test_a_link_is_not_followed_when_sweeping(handovers: Path) -> None:
    (handovers / "target").touch(0o600)
    (handovers / "osstorchconnector-link.credentials").symlink_to(handovers / "target")
    remove_orphaned_handovers(clock=in_an_hour)
    assert len(list(handovers.iterdir())) == 2
