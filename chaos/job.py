"""The training job that the soak kills. It reads its plan from stdin, and reports on stdout, as JSON lines.

It resumes from the newest checkpoint in OSS. The log of an epoch holds the key of each sample; the checkpoint says how
many of its lines are valid.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")

from torchdata.stateful_dataloader import StatefulDataLoader  # noqa: E402

from chaos.checkpoints import Checkpoints  # noqa: E402
from chaos.held import children, held_by_all  # noqa: E402
from osstorchconnector import OssCheckpoint, OssIterableDataset  # noqa: E402

SAVES_PER_DCP_SAVE = 5


class Job:
    """Trains for some epochs, and dies where the plan says so."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan, self._scale, self._death = plan, plan["scale"], plan["death"]
        self._is_broken = False  # from then on torch raises everywhere, even in its own save, which hides the cause
        self._checkpoints = Checkpoints(plan["uri"], plan["options"])
        self._dataset = OssIterableDataset.from_prefix(
            plan["uri"] + "samples/", **plan["options"], shuffle=True, seed=plan["seed"]
        )

    def run(self) -> None:
        start = self._checkpoints.newest()
        tell(event="begins", epoch=start["epoch"], done=start["done"])
        done, loader_state = start["done"], start["loader"]
        for epoch in range(start["epoch"], self._plan["epochs"]):
            self._train(epoch, done, loader_state)
            done, loader_state = 0, None
            tell(event="saved", uri=self._checkpoints.save(epoch + 1, 0, None))

    def _train(self, epoch: int, done: int, loader_state: Any) -> None:
        self._dataset.set_epoch(epoch)
        loader = StatefulDataLoader(
            self._dataset,
            batch_size=self._scale["batch"],
            num_workers=self._scale["workers"],
            collate_fn=list,
            multiprocessing_context="fork",
            snapshot_every_n_steps=1,
        )
        if loader_state is not None:
            loader.load_state_dict(loader_state)
        with self._log(epoch, done).open("a") as log:
            for batch in loader:
                assert all(len(item.read()) == self._plan["sample_bytes"] for item in batch)
                log.writelines(f"{item.key}\n" for item in batch)
                log.flush()
                done += len(batch)
                if done % self._scale["save_every"] == 0 and not self._is_broken:
                    self._save(epoch, done, loader.state_dict())
                if self._death and (epoch, done) >= tuple(self._death["at"]):
                    self._die(epoch, done)

    def _log(self, epoch: int, done: int) -> Path:
        """Return the log of an epoch with its valid lines; samples after the saved state are done again."""
        log = Path(self._plan["folder"], f"epoch{epoch}.log")
        lines = log.read_text().split()[:done] if log.exists() else []
        assert len(lines) == done, f"{log}: {len(lines)} of {done} samples"
        log.write_text("".join(f"{line}\n" for line in lines))
        return log

    def _save(self, epoch: int, done: int, loader: object) -> None:
        tell(event="saved", uri=self._checkpoints.save(epoch, done, loader))
        if done % (self._scale["save_every"] * SAVES_PER_DCP_SAVE) == 0:
            tell(event="saved", uri=self._checkpoints.save_dcp(epoch, done))
        tell(event="holds", epoch=epoch, held=held_by_all(*children()))

    def _die(self, epoch: int, done: int) -> None:
        victim, self._death = self._death["victim"], None
        tell(event="dies", victim=victim, epoch=epoch, done=done)
        if victim == "worker":
            self._is_broken = True
            os.kill(children()[-1], signal.SIGKILL)
        elif victim == "job":
            os.kill(os.getpid(), signal.SIGKILL)
        else:  # the test that started this job kills it during this save
            tell(event="saved", uri=self._checkpoints.save_dcp(epoch, done))
            signal.pause()


def tell(**facts: object) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def end_in_the_middle(plan: dict[str, Any]) -> None:
    """Exit while reading and writing."""
    items = iter(OssIterableDataset.from_prefix(plan["uri"], **plan["options"]))
    writer = OssCheckpoint(**plan["options"]).writer(plan["uri"] + "half")
    writer.write(b"x" * 1_000_000)
    for _ in range(100):
        next(items)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if plan["end"] == "exit":
        sys.exit(3)
    os.kill(os.getpid(), getattr(signal, plan["end"]))


if __name__ == "__main__":
    given = json.load(sys.stdin)
    end_in_the_middle(given) if "end" in given else Job(given).run()
