"""Runs the training job until it has done all its epochs, and kills it at random moments."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from chaos.checkpoints import Checkpoints, is_same, weights
from chaos.held import Held, held_by
from osstorchconnector.dcp import OssDCPFileSystem
from osstorchconnector.testing import OssBucket

SAMPLE = b"x" * 500
VICTIMS = ("worker", "job", "save")
WRITES = ("InitiateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject")
MOST_WRITES_OF_A_SAVE = 24
PATIENCE_SECONDS = 600.0
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Scale:
    """The size of a job: samples, samples per batch, workers, and samples between two saves of its state."""

    objects: int = 20_000
    batch: int = 50
    workers: int = 4
    save_every: int = 1000


@dataclass(frozen=True)
class Death:
    """Which process to kill, and when: after this many samples, and during a save after this many requests."""

    epoch: int
    done: int
    victim: str
    requests: int


def deaths(dice: random.Random, epochs: int, objects: int, victims: Sequence[str] = VICTIMS) -> list[Death]:
    """Return the deaths of a run: in each epoch a worker, the job between two batches, the job during a DCP save."""
    found = []
    for epoch in range(epochs):
        moments = sorted(dice.sample(range(objects // 10, objects * 9 // 10), len(victims)))
        for done, victim in zip(moments, dice.sample(victims, len(victims)), strict=True):
            found.append(Death(epoch, done, victim, dice.randrange(MOST_WRITES_OF_A_SAVE)))
    return found


@dataclass
class Round:
    """What happened in an epoch."""

    seconds: float = 0.0
    killed: list[str] = field(default_factory=list)
    saved: list[str] = field(default_factory=list)
    requests: int = 0
    faults: int = 0


class Moment(NamedTuple):
    """What the processes of a job hold at a save: the job itself first, then its workers of that epoch."""

    epoch: int
    held: list[Held]


class Soak:
    """One run of all epochs. `held` has what the processes of each started job held at each of its saves."""

    def __init__(
        self,
        bucket: OssBucket,
        folder: Path,
        options: dict[str, Any],
        *,
        seed: int,
        epochs: int,
        scale: Scale = Scale(),
    ) -> None:
        self._bucket, self._folder, self._options = bucket, folder, options
        self._seed, self._epochs, self._scale = seed, epochs, scale
        self.rounds = [Round() for _ in range(epochs)]
        self.held: list[list[Moment]] = []
        self.doomed: list[Death] = []

    def run(self, victims: Sequence[str] = VICTIMS) -> None:
        """Fill the bucket, and run the job until it is done."""
        (self._folder / "tmp").mkdir()
        self._bucket.server.fill(self._bucket.name, "samples/{:05}", self._scale.objects, SAMPLE)
        waiting = deaths(random.Random(self._seed), self._epochs, self._scale.objects, victims)
        while waiting:
            self._run_job(waiting.pop(0))
        self._run_job(None)

    def _run_job(self, death: Death | None) -> None:
        plan = {
            "uri": self._bucket.uri,
            "options": self._options,
            "folder": str(self._folder),
            "seed": self._seed,
            "epochs": self._epochs,
            "sample_bytes": len(SAMPLE),
            "scale": asdict(self._scale),
            "death": death and {"at": [death.epoch, death.done], "victim": death.victim},
        }
        with (self._folder / "stderr").open("w+") as stderr:
            job = subprocess.Popen(
                [sys.executable, "-m", "chaos.job"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "TMPDIR": str(self._folder / "tmp")},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
            patience = threading.Timer(PATIENCE_SECONDS, job.kill)
            patience.start()
            try:
                with job:
                    self._follow(job, plan, death)
            finally:
                patience.cancel()
                job.kill()
            stderr.seek(0)
            self._check_end(job.returncode, death, stderr.read())

    def _follow(self, job: subprocess.Popen[str], plan: dict[str, Any], death: Death | None) -> None:
        assert job.stdin is not None
        json.dump(plan, job.stdin)
        job.stdin.close()
        self.held.append([])
        epoch = 0
        begun, counted = time.monotonic(), self._counted()
        for facts in self._facts(job):
            epoch = max(epoch, min(facts.get("epoch", epoch), self._epochs - 1))
            this = self.rounds[epoch]
            if facts["event"] == "saved":
                this.saved.append(facts["uri"])
                epoch = min(int(facts["uri"].rpartition("/")[2].partition("-")[0]), self._epochs - 1)
            elif facts["event"] == "holds":
                self.held[-1].append(Moment(facts["epoch"], [Held(*held) for held in facts["held"]]))
            elif facts["event"] == "dies":
                assert death is not None
                this.killed.append(f"{death.victim} at {facts['done']}")
                if death.victim == "save":
                    self.doomed.append(Death(epoch, facts["done"], death.victim, death.requests))
                    self._kill_in_save(job, death.requests)
            now, then = self._counted(), time.monotonic()
            this.requests += now["requests"] - counted["requests"]
            this.faults += now["faults"] - counted["faults"]
            this.seconds += then - begun
            begun, counted = then, now

    def _facts(self, job: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
        assert job.stdout is not None
        for line in job.stdout:
            yield json.loads(line)

    def _kill_in_save(self, job: subprocess.Popen[str], requests: int) -> None:
        """Kill the job when it has sent this many write requests, or has saved."""
        start = self._writes()
        patience = time.monotonic() + 60
        while self._writes() < start + requests and time.monotonic() < patience and not _has_saved(job):
            time.sleep(0.001)
        os.kill(job.pid, signal.SIGKILL)

    def _writes(self) -> int:
        requests = self._bucket.server.counters(with_log=False).requests
        return sum(requests[operation] for operation in WRITES)

    def _counted(self) -> Counter[str]:
        counters = self._bucket.server.counters(with_log=False)
        return Counter(requests=counters.requests.total(), faults=counters.faults.total())

    def _check_end(self, code: int, death: Death | None, stderr: str) -> None:
        told = f"seed {self._seed}: the job ended with {code}, {death} was planned:\n{stderr[-4000:]}"
        if death is None:
            assert code == 0, told
        elif death.victim == "worker":
            assert code == 1, told
            assert "DataLoader worker" in stderr, told
            assert "killed by signal: Killed" in stderr or "exited unexpectedly" in stderr, told
        else:
            assert code == -signal.SIGKILL, told


def check_each_object_once(folder: Path, *, epochs: int, objects: int) -> None:
    """Check that each epoch's log has each object once, and that the order differs between epochs."""
    expected = [f"samples/{number:05}" for number in range(objects)]
    orders = set()
    for epoch in range(epochs):
        seen = [line.split("/", 2)[2] for line in (folder / f"epoch{epoch}.log").read_text().split()]
        assert sorted(seen) == expected, f"epoch {epoch}: {len(seen)} samples, {len(set(seen))} different"
        orders.add(tuple(seen))
    assert len(orders) == epochs, "it was to be shuffled anew in each epoch"


def check_checkpoints(bucket: OssBucket, options: dict[str, Any]) -> list[str]:
    """Load every checkpoint, compare it bit by bit with the saved values, and return all URIs."""
    checkpoints = Checkpoints(bucket.uri, options)
    found = []
    for key in bucket.keys():  # noqa: SIM118
        uri = bucket.uri + key.removesuffix("/.metadata")
        epoch, _, done = uri.rpartition("/")[2].partition("-")
        if key.startswith("train/"):
            model = checkpoints.load(uri)["model"]
        elif key.endswith("/.metadata"):
            model = checkpoints.load_dcp(uri)
        else:
            continue
        assert is_same(model, weights(int(epoch), int(done))), f"{uri} holds something else"
        found.append(uri)
    return found


def check_nothing_is_left(bucket: OssBucket, folder: Path, options: dict[str, Any], connections: int) -> None:
    """Check that no connection and no table of keys is left, and after a clean-up nothing of the killed saves."""
    assert list((folder / "tables").iterdir()) == []
    assert list((folder / "tmp").glob("oss*")) == []
    bucket.server.reset()  # it can't see the end of a connection that a fault holds up with unread bytes
    deadline = time.monotonic() + 20  # workers of a killed job check every few seconds whether it lives
    while foreign_connections(bucket) > connections and time.monotonic() < deadline:
        time.sleep(0.1)
    assert foreign_connections(bucket) <= connections
    OssDCPFileSystem(**options).clean(bucket.uri + "dcp/", older_than=0)
    # an upload whose id reached no client has no parts, and only a distributed save recognizes it as its own
    assert [one for one in bucket.server.uploads(bucket.name) if one.parts or one.key.startswith("dcp/")] == []
    whole = {key.rpartition("/")[0] for key in bucket.keys() if key.endswith("/.metadata")}  # noqa: SIM118
    assert {key.rpartition("/")[0] for key in bucket.keys() if key.startswith("dcp/")} <= whole  # noqa: SIM118


def foreign_connections(bucket: OssBucket) -> int:
    """Return the number of connections to the server from other processes."""
    return bucket.server.counters(with_log=False).open_connections - held_by().sockets


def _has_saved(job: subprocess.Popen[str]) -> bool:
    """Whether a job that waits to be killed has reported its save."""
    assert job.stdout is not None
    return bool(select.select([job.stdout], [], [], 0)[0])
