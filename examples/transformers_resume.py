"""transformers' Trainer with checkpoints in OSS: the job is killed, and goes on with an empty disk.

`python examples/transformers_resume.py` starts the training twice. The first process kills itself in the middle. On a
cluster, leave out `launch` and give `train` your own bucket's URI.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from typing import Any

import torch
from playground import playground
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.utils.logging import set_verbosity_error

from osstorchconnector.integrations.transformers import OssCheckpointCallback, download_newest


class Line(torch.nn.Module):
    """A model as Trainer wants it: it returns the loss first."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": (self.layer(x) - 2 * x).square().mean()}


class Kill(TrainerCallback):
    """Ends the process as a machine that is taken away does."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self._step:
            os.kill(os.getpid(), signal.SIGKILL)


def launch() -> None:
    """Start the training, and start it again."""
    with playground("transformers") as oss:
        job = json.dumps({"uri": oss.uri + "run", "options": oss.options})
        for kill_at in ("45", "0"):
            with tempfile.TemporaryDirectory() as disk:
                arguments = [sys.executable, "-W", "ignore", __file__, kill_at, disk]
                done = subprocess.run(arguments, check=False, env={**os.environ, "JOB": job})
                print("killed" if done.returncode == -signal.SIGKILL else f"ended: {done.returncode}", flush=True)


def train(kill_at: int, disk: str) -> None:
    """Go on from the newest checkpoint in OSS, if there is one, up to step 60."""
    set_verbosity_error()
    job = json.loads(os.environ["JOB"])
    arguments = TrainingArguments(
        output_dir=disk,
        max_steps=60,
        save_steps=10,
        save_total_limit=2,
        per_device_train_batch_size=4,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    newest = download_newest(job["uri"], disk, **job["options"])
    callbacks: list[Any] = [OssCheckpointCallback(job["uri"], **job["options"]), Kill(kill_at)]
    data: Any = [{"x": torch.tensor([number / 64])} for number in range(64)]
    trainer = Trainer(Line(), arguments, train_dataset=data, callbacks=callbacks)
    trainer.train(resume_from_checkpoint=newest)
    # Which step that was depends on how much of the last upload was there when the process was killed.
    begun_at = int(newest.rpartition("-")[2]) if newest else 0
    print(f"went on: {begun_at > 0}, up to step {trainer.state.global_step}", flush=True)


if __name__ == "__main__":
    if "JOB" in os.environ:
        train(int(sys.argv[1]), sys.argv[2])
    else:
        launch()
