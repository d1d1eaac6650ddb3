"""transformers' Trainer: its checkpoints go to OSS while it trains, and a new machine goes on from there."""

from __future__ import annotations

import shutil
import types
from pathlib import Path
from typing import Any

import pytest
import torch

from osstorchconnector import OssConfigError, OssPermissionError
from osstorchconnector.integrations.folders import CheckpointFolders
from osstorchconnector.integrations.transformers import OssCheckpointCallback, download_newest
from osstorchconnector.testing import OssBucket

transformers = pytest.importorskip("transformers", minversion="5")
# Where the package of this name is missing, transformers takes the folder tests/datasets for it.
pytest.importorskip("datasets.arrow_dataset")

pytestmark = pytest.mark.filterwarnings("ignore:.*pin_memory.*:UserWarning")


class Squares(torch.nn.Module):
    """A model as Trainer wants it: it returns the loss first."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.layer(x).square().mean()}


def trainer(folder: Path, *callbacks: Any, max_steps: int = 6, **settings: Any) -> Any:
    torch.manual_seed(0)
    data = [{"x": torch.full((4,), number / 64)} for number in range(64)]
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=max_steps,
        save_steps=2,
        per_device_train_batch_size=4,
        lr_scheduler_type="constant",  # the default one depends on the number of steps
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        **settings,
    )
    return transformers.Trainer(Squares(), arguments, train_dataset=data, callbacks=list(callbacks))


def test_checkpoints_are_uploaded_and_a_new_machine_goes_on(oss_bucket: OssBucket, tmp_path: Path) -> None:
    uri, options = oss_bucket.uri + "run", oss_bucket.options
    first = trainer(tmp_path / "first", OssCheckpointCallback(uri, **options), save_total_limit=2)
    first.train()
    folders = CheckpointFolders(uri, **options)
    assert folders.names() == ["checkpoint-4", "checkpoint-6"]
    assert [path.name for path in (tmp_path / "first").glob(".*")] == []  # nothing is left of the links

    newest = download_newest(uri, tmp_path / "second", **options)
    assert newest == str(tmp_path / "second" / "checkpoint-6")
    second = trainer(tmp_path / "second", OssCheckpointCallback(uri, **options), max_steps=8, save_total_limit=2)
    second.train(resume_from_checkpoint=newest)
    assert second.state.global_step == 8
    assert folders.names() == ["checkpoint-6", "checkpoint-8"]

    whole = trainer(tmp_path / "whole", max_steps=8)
    whole.train()
    torch.testing.assert_close(second.model.layer.weight, whole.model.layer.weight)


def test_nothing_there_is_a_new_beginning(oss_bucket: OssBucket, tmp_path: Path) -> None:
    assert download_newest(oss_bucket.uri + "run", tmp_path, **oss_bucket.options) is None


def test_an_error_of_an_upload_ends_the_training(oss_bucket: OssBucket, tmp_path: Path) -> None:
    oss_bucket.server.fail("PutObject", "403", times=1)
    with pytest.raises(OssPermissionError, match="checkpoint-2"):
        trainer(tmp_path, OssCheckpointCallback(oss_bucket.uri + "run", **oss_bucket.options)).train()


def test_the_best_one_stays(oss_bucket: OssBucket, tmp_path: Path) -> None:
    callback = OssCheckpointCallback(oss_bucket.uri + "run", keep=2, **oss_bucket.options)
    arguments = types.SimpleNamespace(output_dir=str(tmp_path), save_total_limit=None)
    for step in range(1, 6):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model").write_bytes(bytes([step]))
        best = str(tmp_path / "checkpoint-2") if step >= 2 else None
        state = types.SimpleNamespace(is_world_process_zero=True, global_step=step, best_model_checkpoint=best)
        callback.on_save(arguments, state, None)
    callback.on_train_end(arguments, state, None)
    folders = CheckpointFolders(oss_bucket.uri + "run", **oss_bucket.options)
    assert folders.names() == ["checkpoint-2", "checkpoint-5"]


def test_the_folder_may_go_while_it_is_uploaded(oss_bucket: OssBucket, tmp_path: Path) -> None:
    """With `save_total_limit=1` Trainer removes the folder as soon as the next one is there."""
    callback = OssCheckpointCallback(oss_bucket.uri + "run", in_flight=3, **oss_bucket.options)
    arguments = types.SimpleNamespace(output_dir=str(tmp_path), save_total_limit=None)
    for step in range(3):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "model").write_bytes(bytes(100_000))
        (tmp_path / "base").write_bytes(b"base")
        (folder / "link").symlink_to("../base")
        state = types.SimpleNamespace(is_world_process_zero=True, global_step=step, best_model_checkpoint=None)
        callback.on_save(arguments, state, None)
        shutil.rmtree(folder)
        (tmp_path / "base").unlink()
    callback.on_train_end(arguments, state, None)
    folders = CheckpointFolders(oss_bucket.uri + "run", **oss_bucket.options)
    assert folders.names() == ["checkpoint-0", "checkpoint-1", "checkpoint-2"]
    assert oss_bucket.get("run/checkpoint-0/link") == b"base"
    assert list(tmp_path.iterdir()) == []


def test_only_the_main_process_uploads(oss_bucket: OssBucket, tmp_path: Path) -> None:
    callback = OssCheckpointCallback(oss_bucket.uri + "run", **oss_bucket.options)
    state = types.SimpleNamespace(is_world_process_zero=False)
    callback.on_save(types.SimpleNamespace(output_dir=str(tmp_path)), state, None)
    callback.on_train_end(None, state, None)
    assert list(oss_bucket.keys()) == []


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"in_flight": 0}])
def test_settings_that_can_not_be(oss_bucket: OssBucket, wrong: dict[str, int]) -> None:
    with pytest.raises(OssConfigError, match="at least 1 each"):
        OssCheckpointCallback(oss_bucket.uri + "run", **wrong, **oss_bucket.options)
