"""A job is killed while its workers have more to hand over than their pipes hold."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from scripts import ROOT

from osstorchconnector.datapipes import job
from osstorchconnector.testing import OssBucket

PROGRAM = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
import torch.utils.data._utils.worker as worker
from torch.utils.data import DataLoader
from osstorchconnector import OssIterableDataset, OssMapDataset

worker.MP_STATUS_CHECK_INTERVAL = 0.2  # how often a worker looks whether its job lives
kind, batch_size, context, uri, options = json.loads(sys.argv[1])
if __name__ == "__main__":
    dataset = {"iterable": OssIterableDataset, "map": OssMapDataset}[kind].from_prefix(uri, **options)
    loader = DataLoader(dataset, batch_size=batch_size, num_workers=2, collate_fn=list, multiprocessing_context=context)
    items = iter(loader)
    next(items)
    print("reads", flush=True)
    os.read(0, 1)
"""


@pytest.mark.parametrize(
    ("kind", "batch_size", "context"),
    [
        ("iterable", 4, "fork"),
        ("map", 4, "fork"),
        ("map", None, "fork"),
        ("iterable", 4, "spawn"),
        ("iterable", 4, "forkserver"),
        ("map", None, "forkserver"),
    ],
)
def test_workers_end_when_their_job_is_killed(
    oss_bucket: OssBucket, kind: str, batch_size: int | None, context: str
) -> None:
    oss_bucket.server.fill(oss_bucket.name, "{:03}", 100, bytes(100_000))
    plan = json.dumps([kind, batch_size, context, oss_bucket.uri, oss_bucket.options])
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, plan],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"reads\n"
        os.kill(program.pid, signal.SIGKILL)
        assert program.stdout.read() == b""  # ends when the last process that has it open has ended


def test_a_worker_that_is_a_thread_of_the_job_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "get_worker_info", object)
    monkeypatch.setattr(job, "_watched_in", 0)
    monkeypatch.setattr(job, "Finalize", lambda *_, **__: pytest.fail("it would end the job with an exit code of 1"))
    job.exit_when_job_is_killed()
