"""Programs that end in the middle of an epoch, in each way there is: quietly, and leaving nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from scripts import NO_LOGS, run_python

from osstorchconnector.datasets import OssIterableDataset
from osstorchconnector.testing import OssBucket

HEAD = """
import gc, os, signal, sys
from torch.utils.data import DataLoader
from osstorchconnector import OssIterableDataset

def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start what runs in the background without
    dataset = OssIterableDataset.from_prefix({uri!r}, **{options!r}, shuffle=True)
    dataset.set_epoch(1)
    context = sys.argv[2] if len(sys.argv) > 2 else None
    loader = DataLoader(dataset, batch_size=None, num_workers=int(sys.argv[1]), multiprocessing_context=context)
    items = iter(loader)
    next(items)
    print("begun", flush=True)
"""
WAYS = {
    "exit": "    sys.exit(0)\n",
    "break": "    del items\n    gc.collect()\n",
    "abandon": "    globals().update(locals())\n",
}


@pytest.fixture
def tables(tmp_path: Path) -> Path:
    folder = tmp_path / "tables"
    folder.mkdir()
    return folder


def program(bucket: OssBucket, tables: Path, way: str) -> Path:
    config = tables.with_name("config.json")
    config.write_text(json.dumps({**NO_LOGS, "indexDir": str(tables)}))
    bucket.server.fill(bucket.name, "many/{:05}", 3000, b"data")
    path = tables.with_name("program.py")
    head = HEAD.format(uri=bucket.uri, options={**bucket.options, "config_path": str(config)})
    path.write_text(f'{head}{way}\nif __name__ == "__main__":\n    main()\n')
    return path


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_program_that_ends_in_an_epoch_says_nothing_and_leaves_nothing(
    oss_bucket: OssBucket, tables: Path, way: str, workers: int
) -> None:
    printed, shown = run_python(program(oss_bucket, tables, WAYS[way]), str(workers))
    assert (printed, shown) == ("begun\n", "")
    assert list(tables.iterdir()) == []


def start(path: Path, workers: int, *context: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(path), str(workers), *context],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


WAIT = "    import threading\n    threading.Event().wait()\n"
READ = "    for item in items:\n        item.read()\n"


@pytest.mark.parametrize("way", [WAIT, READ + WAIT])
@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_ends_an_epoch_at_once(oss_bucket: OssBucket, tables: Path, workers: int, way: str) -> None:
    process = start(program(oss_bucket, tables, way), workers)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: workers get it as well
    _, shown = process.communicate(timeout=200)
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" in shown
    if "exited unexpectedly" not in shown:  # what torch adds where a worker that had the signal too was gone first
        assert shown.rstrip().endswith("KeyboardInterrupt")
        assert "Traceback" not in shown.partition("KeyboardInterrupt")[2]
    assert list(tables.iterdir()) == []


@pytest.mark.parametrize("context", ["fork", "forkserver"])
def test_what_a_killed_program_left_is_removed_by_the_next_one(
    oss_bucket: OssBucket, tables: Path, context: str
) -> None:
    process = start(program(oss_bucket, tables, WAIT), 1, context)
    process.kill()
    process.communicate(timeout=200)  # its worker notices, and ends too
    assert len(list(tables.iterdir())) == 2
    options: dict[str, Any] = {**oss_bucket.options, "config_path": str(tables.with_name("config.json"))}
    dataset = OssIterableDataset.from_prefix(oss_bucket.uri, **options)
    next(iter(dataset))
    assert len(list(tables.iterdir())) == 1
    del dataset
    for thread in threading.enumerate():
        if thread.name == "oss-index":
            thread.join()
    assert list(tables.iterdir()) == []
