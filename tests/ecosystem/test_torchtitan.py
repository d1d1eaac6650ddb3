"""torchtitan's checkpoint manager with a folder in OSS: it goes there through fsspec alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import fsspec.config
import pytest
import torch
import torch.distributed

from osstorchconnector.filesystem import OssFileSystem
from osstorchconnector.testing import OssBucket

checkpoint = pytest.importorskip("torchtitan.components.checkpoint")

pytestmark = pytest.mark.filterwarnings("ignore:To get the last learning rate computed by the scheduler:UserWarning")


@pytest.fixture(autouse=True)
def _settled(oss_bucket: OssBucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setitem(fsspec.config.conf, "oss", oss_bucket.options)
    fsspec.register_implementation("oss", OssFileSystem, clobber=True)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/ranks", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()
    OssFileSystem.clear_instance_cache()


class Counter:
    """A state of the training that is no tensor."""

    def __init__(self, step: int) -> None:
        self.step = step

    def state_dict(self) -> dict[str, int]:
        return {"step": self.step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.step = state["step"]


class Job:
    """What a trainer has: a model, its optimizer and schedule, and the manager of their checkpoints."""

    def __init__(self, folder: str, *, seed: int = 0, **options: Any) -> None:
        from torchtitan.components.optimizer import LRSchedulersContainer, default_adamw

        torch.manual_seed(seed)
        self.model, self.data, self.counter = torch.nn.Linear(300, 200), Counter(0), Counter(0)
        self.optimizers = default_adamw(lr=0.01).build(model_parts=[self.model])
        self.manager = checkpoint.CheckpointManager(
            checkpoint.CheckpointManager.Config(enable=True, folder=folder, interval=1, **options),
            dataloader=self.data,
            model_parts=[self.model],
            optimizers=self.optimizers,
            lr_schedulers=LRSchedulersContainer.Config().build(optimizers=self.optimizers, training_steps=100),
            states={"train_state": self.counter},
            sd_adapter=None,
        )

    def train(self, steps: int) -> None:
        for _ in range(steps):
            self.counter.step += 1
            self.optimizers.zero_grad()
            self.model(torch.ones(4, 300)).square().sum().backward()
            self.optimizers.step()
            self.manager.save(self.counter.step)
        self.manager.maybe_wait_for_saving()

    def moments(self) -> torch.Tensor:
        return self.optimizers.state_dict()["state.weight.exp_avg"]


@pytest.mark.parametrize("mode", ["disabled", "async"])
def test_a_job_goes_on_from_oss(oss_bucket: OssBucket, mode: str) -> None:
    first = Job(oss_bucket.uri + "run", async_mode=mode)
    first.train(3)
    first.manager.close()
    second = Job(oss_bucket.uri + "run", seed=1)
    assert not torch.equal(second.model.weight, first.model.weight)
    assert second.manager.load()
    assert torch.equal(second.model.weight, first.model.weight)
    assert torch.equal(second.moments(), first.moments())
    assert second.counter.step == 3
    assert second.manager.load(step=2) and second.counter.step == 2
    second.manager.close()


def test_only_the_newest_stay(oss_bucket: OssBucket) -> None:
    job = Job(oss_bucket.uri + "run", keep_latest_k=2)
    job.train(4)
    job.manager.close()  # waits for the thread that removes
    assert {name.split("/")[1] for name in sorted(oss_bucket.keys())} == {"step-3", "step-4"}


def test_a_checkpoint_that_is_not_complete_is_passed_over(oss_bucket: OssBucket) -> None:
    first = Job(oss_bucket.uri + "run")
    first.train(2)
    first.manager.close()
    oss_bucket.delete("run/step-2/.metadata")
    second = Job(oss_bucket.uri + "run")
    assert second.manager.load() and second.counter.step == 1
    second.manager.close()


def test_another_run_begins_with_the_model(oss_bucket: OssBucket) -> None:
    first = Job(oss_bucket.uri + "run")
    first.train(2)
    first.manager.save(3, last_step=True)
    first.manager.close()
    second = Job(oss_bucket.uri + "tuned", seed=1, initial_load_path=oss_bucket.uri + "run/step-3")
    assert second.manager.load()
    assert torch.equal(second.model.weight, first.model.weight) and second.counter.step == 0
    second.manager.close()
