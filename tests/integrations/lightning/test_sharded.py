"""Each of two ranks stores its part of a model in OSS, and finds it again: by a Trainer and by Fabric."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from loaders import needs_torch
from scripts import run_python

from osstorchconnector.testing import OssBucket

pytest.importorskip("lightning", minversion="2.6")

HERE = Path(__file__).parent


@needs_torch(2, 6)  # fully_shard
@pytest.mark.timeout(600)
@pytest.mark.parametrize("program", ["trainer_on_ranks.py", "fabric_on_ranks.py"])
def test_two_ranks_save_and_go_on(oss_bucket: OssBucket, program: str, tmp_path: Path) -> None:
    job = {"uri": oss_bucket.uri, "options": oss_bucket.options}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {"JOB": json.dumps(job), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    place, environment["COPIED"] = tmp_path / "place", str(tmp_path / "copied")
    place.mkdir()
    printed, _ = run_python(*launcher, HERE / program, environment=environment, folder=place, seconds=280)
    lines = [line for line in printed.splitlines() if line.startswith("rank 0")]
    assert lines == ["rank 0 went on"]
    assert list(place.iterdir()) == []  # no folder `oss:`
    parts = [key.rpartition(".")[2] for key in list(oss_bucket.keys()) if key.startswith("run/last.ckpt/")]
    assert sorted(parts) == ["distcp", "distcp", "metadata", "pt"]
