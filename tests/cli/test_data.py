"""index, tar, checkpoints, emulator."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import torch
from cli.conftest import Run

from osstorchconnector import OssCheckpointManager, OssMapDataset
from osstorchconnector.testing import OssBucket

FILES = {"a/1": b"one", "a/2": b"", "b": b"two"}


def fill(bucket: OssBucket) -> None:
    for name, data in FILES.items():
        bucket.put(f"in/{name}", data)


def test_an_index_is_saved_from_which_a_dataset_begins(run: Run, oss_bucket: OssBucket, tmp_path: Path) -> None:
    fill(oss_bucket)
    for target in (f"{oss_bucket.uri}saved.index", f"{tmp_path}/saved.index"):
        assert run("index", f"{oss_bucket.uri}in/", target).err == f"3 objects in {target}\n"
        dataset = OssMapDataset.from_index(target, **oss_bucket.options)
        assert [dataset[number].read() for number in range(len(dataset))] == list(FILES.values())


def test_a_prefix_is_packed_into_tars(run: Run, oss_bucket: OssBucket, tmp_path: Path) -> None:
    fill(oss_bucket)
    target = tmp_path / "out.tar"
    assert run("tar", f"{oss_bucket.uri}in/", f"{target}").status == 0
    with tarfile.open(target) as archive:
        assert [member.size for member in archive] == [3, 0, 3]
    (tmp_path / "out.tar.idx").unlink()
    assert run("tar", "--index-only", f"{oss_bucket.uri}in/", f"{target}").status == 0
    assert (tmp_path / "out.tar.idx").exists()
    assert run("tar", "--shard-bytes", "1", "--resume", f"{oss_bucket.uri}in/", f"{oss_bucket.uri}s.tar").status == 0
    assert "s-00000.tar.idx" in set(oss_bucket.keys())


def test_nothing_to_pack_is_an_error(run: Run, oss_bucket: OssBucket, tmp_path: Path) -> None:
    status, _, err = run("tar", f"{oss_bucket.uri}in/", f"{tmp_path}/out.tar")
    assert status == 1
    assert "nothing to pack" in err


def test_checkpoints_of_a_run_are_listed(run: Run, oss_bucket: OssBucket) -> None:
    status, _, err = run("checkpoints", f"{oss_bucket.uri}run")
    assert (status, "no whole checkpoint" in err) == (1, True)
    options = oss_bucket.options
    manager = OssCheckpointManager(f"{oss_bucket.uri}run", **options)
    for step in (1, 2):
        manager.save(step, {"weight": torch.ones(3)})
    out = run("checkpoints", f"{oss_bucket.uri}run").out.splitlines()
    assert [line.endswith("(latest)") for line in out] == [False, True]
    found = [json.loads(line) for line in run("checkpoints", "--json", f"{oss_bucket.uri}run").out.splitlines()]
    assert [(each["step"], each["latest"]) for each in found] == [(1, False), (2, True)]
    assert found[1]["uri"] == manager.uri(2)
    assert found[1]["bytes"] > 0


def test_the_emulator_has_its_own_options(run: Run) -> None:
    ended = run("emulator", "--help", access=False)
    assert (ended.status, "--root" in ended.out) == (0, True)


def test_other_commands_do_not_wait_for_torch() -> None:
    program = "import sys, osstorchconnector.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=120).returncode == 0
