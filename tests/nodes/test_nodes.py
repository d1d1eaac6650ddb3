"""The nodes, with the torchdata that has them: it stands beside the one that has DataLoader2, and is used apart."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from scripts import ROOT, run_python

from osstorchconnector.errors import OssConfigError
from osstorchconnector.nodes import OssLister

TORCHDATA = Path(sys.prefix, "torchdata-0.11")
PROGRAM = Path(__file__).with_name("with_torchdata_0_11.py")


@pytest.mark.timeout(600)
def test_nodes_and_stateful_dataloader_of_torchdata_0_11() -> None:
    assert TORCHDATA.is_dir(), (
        f"install torchdata 0.11 there: pip install --no-deps --target {TORCHDATA} torchdata==0.11.0"
    )
    printed, _ = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", PROGRAM, folder=ROOT, path=[TORCHDATA])
    assert " passed" in printed


def test_an_older_torchdata_has_no_nodes() -> None:
    pytest.importorskip("torchdata.datapipes")  # which is the older one
    with pytest.raises(OssConfigError, match=r"pip install 'torchdata>=0\.10'"):
        OssLister("oss://bucket/", "http://127.0.0.1:1")
