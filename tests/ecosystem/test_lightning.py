"""Lightning on `oss://` through fsspec alone, as it saves and loads checkpoints everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fsspec
import fsspec.config
import pytest
import torch

from osstorchconnector.filesystem import OssFileSystem
from osstorchconnector.testing import OssBucket

pytest.importorskip("lightning", minversion="2.6")

from integrations.lightning.models import Squares, quiet_trainer
from lightning.pytorch.callbacks import ModelCheckpoint

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:.*exists and is not empty",
    "ignore:.*isinstance.treespec, LeafSpec.*is deprecated",
)


@pytest.fixture(autouse=True)
def _settled(oss_bucket: OssBucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(fsspec.config.conf, "oss", oss_bucket.options)
    fsspec.register_implementation("oss", OssFileSystem, clobber=True)
    yield
    OssFileSystem.clear_instance_cache()


def trainer(oss_bucket: OssBucket, epochs: int) -> Any:
    best: Any = {"monitor": "epochs", "mode": "max", "save_top_k": 2}
    saver = ModelCheckpoint(oss_bucket.uri + "run", "{epoch}", save_last=True, **best)
    return quiet_trainer(max_epochs=epochs, callbacks=[saver])


def test_the_best_ones_and_the_last_one_stay(oss_bucket: OssBucket) -> None:
    trainer(oss_bucket, 4).fit(Squares())
    assert oss_bucket.keys() == ["run/epoch=2.ckpt", "run/epoch=3.ckpt", "run/last.ckpt"]


def test_a_trainer_goes_on_from_a_uri(oss_bucket: OssBucket) -> None:
    first, model = trainer(oss_bucket, 2), Squares()
    first.fit(model)
    second, other = trainer(oss_bucket, 2), Squares()
    second.fit(other, ckpt_path=oss_bucket.uri + "run/last.ckpt")  # nothing is left to do
    assert second.global_step == first.global_step
    assert torch.equal(other.layer.weight, model.layer.weight)


def test_a_default_folder_in_oss(oss_bucket: OssBucket) -> None:
    quiet_trainer(max_epochs=1, default_root_dir=oss_bucket.uri + "root").fit(Squares())
    assert oss_bucket.keys() == ["root/checkpoints/epoch=0-step=4.ckpt"]


def test_the_word_last_is_not_enough(oss_bucket: OssBucket) -> None:
    """Lightning finds the object, and loses `oss://` on the way: a file of this machine of that name is not there."""
    trainer(oss_bucket, 1).fit(Squares())
    with pytest.warns(UserWarning, match="there is no last checkpoint available"):
        trainer(oss_bucket, 1).fit(Squares(), ckpt_path="last")
