"""Many readers in one process, forks while they read, and processes that end while they read and write."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from chaos.soak import ROOT
from chaos.weather import configured
from osstorchconnector import OssCheckpoint
from osstorchconnector.testing import OssBucket

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

SEED = int(os.environ["OSS_CHAOS_SEED"])


def test_100_readers_in_threads_and_forks_in_the_middle(oss_bucket: OssBucket, tmp_path: Path) -> None:
    data = random.Random(SEED).randbytes(1 << 20)
    oss_bucket.put("large", data)
    options = configured(oss_bucket, tmp_path, readTimeout=30)
    checkpoint = OssCheckpoint(**options)
    wrong: list[int] = []
    begun = threading.Barrier(101)

    def read(number: int) -> None:
        with checkpoint.reader(oss_bucket.uri + "large") as reader:
            first = reader.read(1000)
            begun.wait(60)
            if first + reader.read() != data:
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    begun.wait(60)
    children = []
    for _ in range(4):  # while the threads download
        pid = os.fork()
        if not pid:
            with checkpoint.reader(oss_bucket.uri + "large") as reader:
                os._exit(0 if reader.read() == data else 1)
        children.append(pid)
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4


@pytest.mark.parametrize("end", ["exit", "SIGTERM", "SIGINT"])
def test_an_interpreter_ends_in_the_middle_of_everything(oss_bucket: OssBucket, tmp_path: Path, end: str) -> None:
    oss_bucket.server.fill(oss_bucket.name, "samples/{:05}", 5000, b"x" * 500)
    plan = {"options": configured(oss_bucket, tmp_path), "uri": oss_bucket.uri, "end": end}
    done = subprocess.run(
        [sys.executable, "-m", "chaos.job"],
        cwd=ROOT,
        input=json.dumps(plan),
        text=True,
        check=False,
        timeout=60,
        capture_output=True,
    )
    assert done.returncode == {"exit": 3, "SIGTERM": -signal.SIGTERM, "SIGINT": -signal.SIGINT}[end]
    assert "half" not in oss_bucket.keys()  # noqa: SIM118
    if end == "exit":
        assert oss_bucket.server.uploads(oss_bucket.name) == []
        assert "Error" not in done.stderr
