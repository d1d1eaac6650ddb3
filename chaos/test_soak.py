"""A whole training job in bad weather: faults throughout, workers and the job killed, checkpoints saved and loaded.

`OSS_CHAOS_SEED` repeats a run, `OSS_CHAOS_ROUNDS` says how many epochs there are.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from faults.killing import kill_when

from osstorchconnector import OssCheckpoint, OssNotFoundError
from osstorchconnector.client.traffic import shared
from osstorchconnector.dcp import OssStorageReader, OssStorageWriter
from osstorchconnector.testing import OssBucket

pytestmark = [
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

SEED = int(os.environ["OSS_CHAOS_SEED"])
ROUNDS = int(os.environ.get("OSS_CHAOS_ROUNDS") or 3)
OBJECTS = 20_000
SHARE_OF_FAULTS = 0.05
WEATHER = "500 slow_down reset close reset_body truncate flip wrong_crc garbage lying_length".split()
JOB = Path(__file__).with_name("job.py")


def bad_weather(bucket: OssBucket, seed: int, operations: list[str]) -> None:
    """Let a twentieth of all requests fail, in every way; the operations' bodies are those that can be checked."""
    share = SHARE_OF_FAULTS / len(WEATHER)
    for operation in operations:
        for number, fault in enumerate(WEATHER):
            if fault in ("flip", "wrong_crc") and operation != "GetObject":
                continue
            bucket.server.fail(operation, fault, bucket=bucket.name, probability=share, seed=seed + number)


def configured(bucket: OssBucket, folder: Path) -> dict[str, str]:
    config = folder / "config.json"
    settings = {"retryBaseDelay": 0.01, "retryMaxDelay": 0.5, "auditPath": "", "partSize": 200 * 1024}
    config.write_text(json.dumps(settings))
    return {**bucket.options, "config_path": str(config)}


def test_every_epoch_sees_every_object_once_whatever_is_killed(
    oss_bucket: OssBucket, tmp_path: Path, summary: Callable[[str], None]
) -> None:
    dice = random.Random(SEED)
    oss_bucket.server.fill(oss_bucket.name, "samples/{:05}", OBJECTS, b"x" * 500)
    options = configured(oss_bucket, tmp_path)
    bad_weather(oss_bucket, SEED, ["GetObject", "ListObjectsV2"])
    kills = 0
    for epoch in range(ROUNDS):
        log, state = tmp_path / f"epoch{epoch}.log", tmp_path / f"epoch{epoch}.state"
        deaths = sorted(dice.uniform(0.2, 0.8) for _ in range(2))
        while True:
            plan = {"options": options, "uri": oss_bucket.uri + "samples/", "log": str(log), "state": str(state)}
            plan |= {"epoch": epoch, "die_at": int(deaths[0] * OBJECTS) if deaths else 0}
            plan |= {"victim": dice.choice(["worker", "job"])}
            done = subprocess.run(
                [sys.executable, str(JOB)], input=json.dumps(plan), text=True, check=False, timeout=600
            )
            if not deaths:
                assert done.returncode == 0
                break
            assert done.returncode != 0, "it was to die"
            kills += 1
            deaths.pop(0)
        seen = log.read_text().split()
        assert len(seen) == OBJECTS, f"seed {SEED}: {len(seen)} samples, {len(set(seen))} of them different"
        assert len(set(seen)) == OBJECTS, f"seed {SEED}: samples came twice"
    faults = oss_bucket.server.counters(with_log=False).faults.total()
    summary(f"soak, seed {SEED}: {ROUNDS} epochs of {OBJECTS}, each object once; {kills} kills, {faults} faults struck")


def test_every_checkpoint_that_claims_to_exist_loads_bit_identical(
    oss_bucket: OssBucket, tmp_path: Path, summary: Callable[[str], None]
) -> None:
    dice = random.Random(SEED)
    options = configured(oss_bucket, tmp_path)
    bad_weather(oss_bucket, SEED, ["PutObject", "UploadPart", "CompleteMultipartUpload", "GetObject", "HeadObject"])
    existing = 0
    for number in range(ROUNDS * 5):
        uri, model = f"{oss_bucket.uri}step-{number}", f"{oss_bucket.uri}model-{number}"
        state = {f"layer{n}": torch.randn(50_000, generator=torch.Generator().manual_seed(number)) for n in range(6)}
        moment = dice.randrange(24)
        seen = oss_bucket.server.counters(with_log=False).requests.total()

        def save() -> None:
            dcp.save(dict(state), storage_writer=OssStorageWriter(uri, **options), no_dist=True)  # noqa: B023

        kill_when(save, lambda: oss_bucket.server.counters(with_log=False).requests.total() >= seen + moment)  # noqa: B023
        found = {name: torch.zeros(50_000) for name in state}
        if f"step-{number}/.metadata" in oss_bucket.keys():  # noqa: SIM118
            existing += 1
            dcp.load(found, storage_reader=OssStorageReader(uri, **options), no_dist=True)
            assert all(torch.equal(found[name], state[name]) for name in state), f"seed {SEED}"
        with OssCheckpoint(**options).writer(model) as writer:
            torch.save(state, writer)
        with OssCheckpoint(**options).reader(model) as reader:
            again = torch.load(reader, weights_only=True)
        assert all(torch.equal(again[name], state[name]) for name in state), f"seed {SEED}"
    summary(f"checkpoints, seed {SEED}: {ROUNDS * 5} DCP saves killed at random, {existing} exist and load the same")


def test_100_readers_in_threads_and_forks_in_the_middle(oss_bucket: OssBucket, tmp_path: Path) -> None:
    data = random.Random(SEED).randbytes(1 << 20)
    oss_bucket.put("large", data)
    options = configured(oss_bucket, tmp_path)
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
        [sys.executable, str(JOB)], input=json.dumps(plan), text=True, check=False, timeout=60, capture_output=True
    )
    assert done.returncode == {"exit": 3, "SIGTERM": -signal.SIGTERM, "SIGINT": -signal.SIGINT}[end]
    assert "half" not in oss_bucket.keys()  # noqa: SIM118
    if end == "exit":
        assert oss_bucket.server.uploads(oss_bucket.name) == []
        assert "Error" not in done.stderr


def test_memory_threads_sockets_and_files_are_where_they_began(
    oss_bucket: OssBucket, tmp_path: Path, summary: Callable[[str], None]
) -> None:
    import gc
    import resource

    from osstorchconnector import OssIterableDataset

    oss_bucket.server.fill(oss_bucket.name, "samples/{:05}", 500, b"x" * 5000)
    options = configured(oss_bucket, tmp_path)
    bad_weather(oss_bucket, SEED, ["GetObject"])

    def work() -> None:
        assert sum(1 for _ in OssIterableDataset.from_prefix(oss_bucket.uri + "samples/", **options)) == 500
        with pytest.raises(OssNotFoundError):
            OssCheckpoint(**options).reader(oss_bucket.uri + "missing").read()
        gc.collect()

    def held() -> tuple[int, int, int]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return (
            sum(1 for _ in Path("/proc/self/fd").iterdir()),
            threading.active_count(),
            pages * resource.getpagesize() >> 20,
        )

    for _ in range(5):
        work()
    before = held()
    for _ in range(20):
        work()
        shared.forget()
    deadline = time.monotonic() + 10
    while held()[0] > before[0] + 4 and time.monotonic() < deadline:
        time.sleep(0.1)  # connections of dropped clients are closed on their loops
    after = held()
    summary(
        f"before and after 20 epochs: {before[0]}/{after[0]} files, {before[1]}/{after[1]} threads, "
        f"{before[2]}/{after[2]} MiB"
    )
    assert after[0] <= before[0] + 4
    assert after[1] <= before[1]
    assert after[2] <= before[2] + 20
