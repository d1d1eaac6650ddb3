"""The nodes, with the torchdata that has them: it stands beside the one that has DataLoader2, and is used apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from osstorchconnector.errors import OssConfigError
from osstorchconnector.nodes import OssLister

TORCHDATA = Path(sys.prefix, "torchdata-0.11")
PROGRAM = Path(__file__).with_name("with_torchdata_0_11.py")


@pytest.mark.timeout(180)
def test_nodes_and_stateful_dataloader_of_torchdata_0_11() -> None:
    assert TORCHDATA.is_dir(), (
        f"install torchdata 0.11 there: pip install --no-deps --target {TORCHDATA} torchdata==0.11.0"
    )
    environment = {**os.environ, "PYTHONPATH": str(TORCHDATA)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(PROGRAM)],
        cwd=PROGRAM.parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


def test_an_older_torchdata_has_no_nodes() -> None:
    with pytest.raises(OssConfigError, match=r"torchdata 0\.10"):
        OssLister("oss://bucket/", "http://127.0.0.1:1")
