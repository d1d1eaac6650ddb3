"""checkpoint ls, verify, rm, to-file."""

from __future__ import annotations

import json
from pathlib import Path

import pexpect
import pytest
import torch
import torch.distributed.checkpoint as dcp
from cli.conftest import Run
from cli.test_objects import in_a_terminal
from loaders import needs_torch

from osstorchconnector import OssCheckpoint, OssCheckpointManager
from osstorchconnector.testing import OssBucket

pytestmark = needs_torch(2, 3)

STATE = {"model": {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(3)}, "step": 7}


@pytest.fixture
def run_uri(oss_bucket: OssBucket) -> str:
    """The folder of a run with three checkpoints."""
    manager = OssCheckpointManager(f"{oss_bucket.uri}run", **oss_bucket.options)
    for step in (1, 2, 3):
        manager.save(step, {**STATE, "step": step})
    return f"{oss_bucket.uri}run"


def data_key(bucket: OssBucket, step: int) -> str:
    (found,) = [key for key in list(bucket.keys()) if key.startswith(f"run/step-{step:010}/__0_0")]
    return found


def test_checkpoints_of_a_run_are_listed(run: Run, run_uri: str) -> None:
    out = run("checkpoint", "ls", run_uri).out.splitlines()
    assert [line.endswith("(latest)") for line in out] == [False, False, True]
    found = [json.loads(line) for line in run("checkpoint", "ls", "--json", run_uri).out.splitlines()]
    assert [(each["step"], each["latest"]) for each in found] == [(1, False), (2, False), (3, True)]
    assert found[2]["uri"] == f"{run_uri}/step-0000000003"
    assert all(each["bytes"] > 0 for each in found)


def test_what_a_checkpoint_holds_is_listed(run: Run, run_uri: str) -> None:
    lines = run("checkpoint", "ls", f"{run_uri}/step-0000000002").out.splitlines()
    assert [line.split() for line in lines] == [
        ["12", "B", "float32", "3", "model.bias"],
        ["24", "B", "float32", "2", "x", "3", "model.weight"],
        ["object", "step"],
    ]
    found = [
        json.loads(line) for line in run("checkpoint", "ls", "--json", f"{run_uri}/step-0000000002").out.splitlines()
    ]
    assert found[1] == {"name": "model.weight", "dtype": "float32", "shape": [2, 3], "bytes": 24}


def test_where_there_is_no_checkpoint_that_is_an_error(run: Run, oss_bucket: OssBucket) -> None:
    for command in ("ls", "verify"):
        status, out, err = run("checkpoint", command, f"{oss_bucket.uri}nothing")
        assert (status, out, "there is no checkpoint at" in err) == (1, "", True)


def test_a_whole_checkpoint_is_verified(run: Run, run_uri: str, oss_bucket: OssBucket) -> None:
    status, out, err = run("checkpoint", "verify", "--step", "-1", run_uri)
    assert (status, err) == (0, "3 items in 1 files: all can be read\n")
    assert out.startswith("ok ")
    (report,) = map(json.loads, run("checkpoint", "verify", "--json", f"{run_uri}/step-0000000001").out.splitlines())
    size = len(oss_bucket.get(data_key(oss_bucket, 1)))
    assert (report["bytes"], report["items"], report["problem"]) == (size, 3, "")


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [("missing", "it is missing"), ("short", "the metadata says that it has"), ("flipped", "CRC-32")],
)
def test_damage_is_found(run: Run, run_uri: str, oss_bucket: OssBucket, damage: str, complaint: str) -> None:
    key = data_key(oss_bucket, 2)
    data = bytearray(oss_bucket.get(key))
    place = data.index(STATE["model"]["weight"].numpy().tobytes())
    data[place] ^= 1
    if damage == "missing":
        oss_bucket.delete(key)
    else:
        oss_bucket.put(key, data if damage == "flipped" else data[:-1])
    status, out, err = run("checkpoint", "verify", "--step", "2", run_uri)
    assert (status, err) == (1, "3 items in 1 files: 1 can not be read\n")
    assert out.startswith(f"fail  {key.rpartition('/')[2]}: ")
    assert complaint in out


def test_a_run_is_no_checkpoint(run: Run, run_uri: str) -> None:
    for command in (["verify"], ["rm", "-y"]):
        status, _, err = run("checkpoint", *command, run_uri)
        assert (status, "is a run with 3 checkpoints: name one of them, or give --step 3" in err) == (1, True)


def test_a_checkpoint_is_removed(run: Run, run_uri: str, oss_bucket: OssBucket) -> None:
    ended = run("checkpoint", "rm", "--step", "2", "--yes", run_uri)
    assert (ended.out, ended.err) == (f"{run_uri}/step-0000000002\n", "1 removed\n")
    assert [key for key in list(oss_bucket.keys()) if "step-0000000002" in key] == []
    assert len(run("checkpoint", "ls", run_uri).out.splitlines()) == 2


def test_the_newest_checkpoints_of_a_run_are_kept(run: Run, run_uri: str) -> None:
    assert run("checkpoint", "rm", "--keep", "3", "-y", run_uri).err == f"{run_uri} has no more checkpoints than that\n"
    assert run("checkpoint", "rm", "--keep", "1", "-y", run_uri).err == "2 removed\n"
    (line,) = run("checkpoint", "ls", run_uri).out.splitlines()
    assert line.endswith("step-0000000003  (latest)")
    status, _, err = run("checkpoint", "rm", "--keep", "1", "--step", "3", "-y", run_uri)
    assert (status, "give one of them" in err) == (1, True)


@pytest.mark.parametrize(("answer", "left"), [("n", 3), ("y", 2)])
def test_rm_asks_in_a_terminal(run: Run, run_uri: str, oss_bucket: OssBucket, answer: str, left: int) -> None:
    child = in_a_terminal(oss_bucket, "checkpoint", "rm", f"{run_uri}/step-0000000001")
    child.expect_exact("Remove this checkpoint?")
    child.sendline(answer)
    child.expect(pexpect.EOF)
    child.close()
    assert len(run("checkpoint", "ls", run_uri).out.splitlines()) == left


def test_a_checkpoint_becomes_one_file(run: Run, run_uri: str, oss_bucket: OssBucket, tmp_path: Path) -> None:
    assert run("checkpoint", "to-file", f"{run_uri}/step-0000000001", f"{tmp_path}/model.pt").status == 0
    local = torch.load(tmp_path / "model.pt", weights_only=True)
    target = f"{oss_bucket.uri}model.pt"
    assert run("checkpoint", "to-file", "--step", "-1", run_uri, target).err.endswith(f"is in {target}\n")
    with OssCheckpoint(**oss_bucket.options).reader(target) as file:
        remote = torch.load(file, weights_only=True)
    assert (local["step"], remote["step"]) == (1, 3)
    for loaded in (local, remote):
        assert torch.equal(loaded["model"]["weight"], STATE["model"]["weight"])


def test_a_file_of_half_a_checkpoint_is_not_written(
    run: Run, run_uri: str, oss_bucket: OssBucket, tmp_path: Path
) -> None:
    oss_bucket.delete(data_key(oss_bucket, 1))
    for target in (f"{tmp_path}/model.pt", f"{oss_bucket.uri}model.pt"):
        assert run("checkpoint", "to-file", f"{run_uri}/step-0000000001", target).status == 1
    assert (list(tmp_path.glob("model*")), "model.pt" in set(oss_bucket.keys())) == ([], False)
    status, _, err = run("checkpoint", "to-file", f"{run_uri}/step-0000000002", f"{tmp_path}")
    assert (status, "is a folder" in err) == (1, True)


def test_ctrl_c_leaves_no_file(run_uri: str, oss_bucket: OssBucket, tmp_path: Path) -> None:
    oss_bucket.server.fail("GetObject", "stall", key=data_key(oss_bucket, 1), at=10)
    child = in_a_terminal(oss_bucket, "checkpoint", "to-file", f"{run_uri}/step-0000000001", f"{tmp_path}/model.pt")
    child.expect_exact("reading")
    while not oss_bucket.server.counters().faults["stall"]:
        child.expect([pexpect.TIMEOUT, "."], timeout=0.05)
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, list(tmp_path.glob("model*"))) == (130, [])


def test_checkpoints_of_torch_are_verified_too(run: Run, oss_bucket: OssBucket, tmp_path: Path) -> None:
    dcp.save(STATE, checkpoint_id=tmp_path / "dcp")
    for path in (tmp_path / "dcp").iterdir():
        oss_bucket.put(f"theirs/{path.name}", path.read_bytes())
    assert run("checkpoint", "verify", f"{oss_bucket.uri}theirs").err == "3 items in 1 files: all can be read\n"
