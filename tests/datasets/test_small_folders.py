"""Folders too small for the table of objects: a clear error, or another folder, and never a killed process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import NO_LOGS, ROOT

from osstorchconnector.testing import OssBucket

COUNT = 30_000  # of keys of more than 50 bytes: more than a mebibyte
HEAD = """
import contextlib, sys
from operator import attrgetter
from pathlib import Path
from torch.utils.data import DataLoader
from osstorchconnector import OssIterableDataset, OssMapDataset
from osstorchconnector.datapipes import OssObjectLister
from osstorchconnector.errors import OssError

folder, options = Path(sys.argv[1]), {options!r}

def error_of(work):
    try:
        return work()
    except OssError as error:
        return " ".join(f"{{type(error).__name__}}: {{error}}".split())
"""
LISTED = """
def main():
    found = OssMapDataset.from_prefix({uri!r}, **options)
    print(error_of(lambda: len(found)))
    sizes = OssObjectLister({uri!r}, **options).shard_oss_objects().map(attrgetter("size")).batch(1000)
    print(error_of(lambda: sum(map(sum, DataLoader(sizes, batch_size=None, num_workers=2)))))
"""
FULL = """
def main():
    dataset = OssIterableDataset.from_prefix({uri!r}, **options)
    with (folder / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(bytes(4096)):
            pass
    print(error_of(lambda: dataset.set_epoch(1)))
    print(error_of(lambda: next(iter(dataset))))
"""
END = """
if __name__ == "__main__":
    main()
"""


def small(folder: str, blocks: int = 1024) -> list[str]:
    """Return what to put before a command so that it finds `folder` on a file system of 1 MiB.

    Where mounting is not permitted, no file can be larger than `blocks` of 512 bytes or of 1 KiB instead.
    """
    mount = f'mount -t tmpfs -o size=1m tmpfs {folder} && exec "$@"'
    for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
        command = [*unshare, "sh", "-c", mount, "sh"]
        if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0:
            return command
    return ["sh", "-c", f'ulimit -f {blocks} && exec "$@"', "sh"]


@pytest.fixture
def bucket(oss_bucket: OssBucket) -> OssBucket:
    oss_bucket.server.fill(oss_bucket.name, "{:08}-a-picture-with-a-long-name-in-class-0042.jpeg", COUNT, b"x")
    return oss_bucket


def run(bucket: OssBucket, work: str, folder: Path, small_folder: str, **config: str) -> list[str]:
    """Run a program on a bucket where `small_folder` is small; return the lines that it prints."""
    path = folder / "config.json"
    path.write_text(json.dumps({**NO_LOGS, **config}))
    program = folder / "program.py"
    options = {**bucket.options, "config_path": str(path)}
    program.write_text((HEAD + work + END).format(uri=bucket.uri, options=options))
    done = subprocess.run(
        [*small(small_folder, 1 if work is FULL else 1024), sys.executable, program, small_folder],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize("work", [LISTED, FULL])
def test_a_table_that_does_not_fit_is_an_error_that_names_the_setting(
    bucket: OssBucket, tmp_path: Path, work: str
) -> None:
    tables = tmp_path / "tables"
    tables.mkdir()
    lines = run(bucket, work, tmp_path, str(tables), indexDir=str(tables))
    failed = [line for line in lines if line != "None"]
    # Without a small file system only large files fail, and that of the epoch's number is not.
    assert len(failed) == 2 or small(str(tables))[0] != "unshare"
    assert failed
    for line in failed:
        assert "indexDir" in line
        assert "No space left on device" in line or "File too large" in line


def test_a_small_shared_memory_is_left_alone(bucket: OssBucket, tmp_path: Path) -> None:
    prefix = small("/dev/shm")
    if prefix[0] == "unshare":
        assert run(bucket, LISTED, tmp_path, "/dev/shm") == [str(COUNT)] * 2
    else:
        assert all("indexDir" in line for line in run(bucket, LISTED, tmp_path, "/dev/shm"))
