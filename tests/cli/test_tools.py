"""emulator, completion."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from cli.conftest import Run

PROGRAM = [sys.executable, "-m", "osstorchconnector"]


def test_the_emulator_has_its_own_options(run: Run) -> None:
    ended = run("emulator", "--help", access=False)
    assert (ended.status, "--root" in ended.out) == (0, True)


def test_other_commands_do_not_wait_for_torch() -> None:
    program = "import sys, osstorchconnector.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=120).returncode == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_that_the_shell_takes(run: Run, shell: str) -> None:
    status, script, _ = run("completion", shell, access=False)
    assert (status, "_OSSTORCH_COMPLETE=complete_" in script) == (0, True)
    assert "_OSSTORCH_COMPLETE" not in os.environ
    if (found := shutil.which(shell)) is not None:
        assert subprocess.run([found, "-n"], input=script.encode(), check=False, timeout=240).returncode == 0


def test_what_the_script_asks_for_is_answered() -> None:
    asked = {"_OSSTORCH_COMPLETE": "complete_bash", "COMP_WORDS": "osstorch comp", "COMP_CWORD": "1"}
    answer = subprocess.check_output(PROGRAM, env={**os.environ, **asked}, text=True, timeout=120)
    assert answer.split() == ["completion"]


def test_a_shell_that_is_not_known_is_told(run: Run) -> None:
    status, _, err = run("completion", "csh", access=False)
    assert (status, "csh" in err) == (2, True)
