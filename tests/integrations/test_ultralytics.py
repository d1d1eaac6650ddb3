"""Ultralytics: a model that is trained on images in OSS is the one that is trained on the same images on the disk."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from osstorchconnector import OssConfigError, OssNotFoundError, OssUsageError
from osstorchconnector.integrations.ultralytics import OSSYOLODataset, make_oss_trainer
from osstorchconnector.testing import OssBucket
from osstorchconnector.transfer.client import TransferClient

ultralytics: Any = pytest.importorskip("ultralytics")
pytestmark = pytest.mark.filterwarnings("ignore")

COUNT = 6


def image(number: int) -> Image.Image:
    chance = np.random.default_rng(number)
    return Image.fromarray(chance.integers(0, 256, (48 + 8 * (number % 3), 64, 3), dtype=np.uint8))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set on the disk: two splits, one image without a label, and one that is no image."""
    root = tmp_path / "data"
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for number in range(COUNT):
            image(number).save(root / "images" / split / f"{number}.png")
            if number:
                (root / "labels" / split / f"{number}.txt").write_text(f"{number % 2} 0.5 0.5 0.4 0.{number}\n")
        (root / "images" / split / "broken.png").write_bytes(b"no image")
    (root / "train.txt").write_text("".join(f"./images/train/{number}.png\n" for number in range(COUNT)))
    return root


@pytest.fixture
def stored(oss_bucket: OssBucket, data: Path) -> OssBucket:
    for path in data.rglob("*"):
        if path.is_file():
            oss_bucket.put(f"coco/{path.relative_to(data).as_posix()}", path.read_bytes())
    return oss_bucket


def data_file(folder: Path, root: str, train: str = "images/train") -> str:
    path = folder / "data.yaml"
    path.write_text(f"path: {root}\ntrain: {train}\nval: images/val\nnames: {{0: cat, 1: dog}}\n")
    return str(path)


def losses(folder: Path, file: str, **options: Any) -> list[dict[str, str]]:
    """Train for an epoch; return what Ultralytics has noted, but for the time."""
    torch.manual_seed(7)  # for the first weights; Ultralytics has a seed for the rest
    model = ultralytics.YOLO("yolov8n.yaml")
    small = {"epochs": 1, "batch": 2, "imgsz": 64, "device": "cpu", "plots": False, "amp": False, "workers": 0}
    model.train(data=file, project=str(folder), name="run", **{**small, **options})
    with (folder / "run" / "results.csv").open() as lines:
        return [{name: value for name, value in row.items() if "time" not in name} for row in csv.DictReader(lines)]


@pytest.mark.parametrize("train", ["images/train", "train.txt", "[images/train]"])
def test_an_epoch_is_the_same_as_on_the_disk(
    stored: OssBucket, data: Path, tmp_path: Path, train: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It takes random numbers, which the augmentation of images on the disk then does not get.
    monkeypatch.setattr("ultralytics.data.base.check_file_speeds", lambda *_, **__: None)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir(), there.mkdir()
    trainer = make_oss_trainer(**stored.options)
    found = losses(there, data_file(there, f"{stored.uri}coco", train), trainer=trainer)
    assert found == losses(here, data_file(here, str(data), train))
    assert float(found[0]["train/box_loss"]) > 0


def test_the_images_of_a_batch_are_fetched_together_and_once(stored: OssBucket, tmp_path: Path) -> None:
    with TransferClient(**stored.options) as client:
        made = dataset(stored, client, tmp_path)
        stored.server.reset_counters()
        batch = made.__getitems__([3, 1, 2])
        assert [Path(item["im_file"]).name for item in batch] == ["3.png", "1.png", "2.png"]
        assert stored.server.counters().requests == {"GetObject": 3}


def dataset(stored: OssBucket, client: TransferClient, folder: Path, **options: Any) -> OSSYOLODataset:
    path, names = folder / stored.name / "coco" / "images" / "train", {0: "cat", 1: "dog"}
    return OSSYOLODataset(
        str(path), client=client, folder=folder, imgsz=64, augment=False, data={"names": names}, **options
    )


def test_labels_and_shapes_are_what_ultralytics_finds(stored: OssBucket, tmp_path: Path) -> None:
    with TransferClient(**stored.options) as client:
        made = dataset(stored, client, tmp_path)
    assert [Path(label["im_file"]).name for label in made.labels] == [f"{number}.png" for number in range(COUNT)]
    assert [len(label["cls"]) for label in made.labels] == [0, *[1] * (COUNT - 1)]
    assert [label["shape"] for label in made.labels] == [(48 + 8 * (number % 3), 64) for number in range(COUNT)]
    assert not list((tmp_path / stored.name).rglob("*.png")), "images stay in OSS"


def test_a_folder_without_images(stored: OssBucket, tmp_path: Path) -> None:
    path = tmp_path / stored.name / "coco" / "nothing"
    with TransferClient(**stored.options) as client, pytest.raises(OssNotFoundError, match=r"no images .*coco/nothing"):
        OSSYOLODataset(str(path), client=client, folder=tmp_path, data={"names": {0: "cat"}})


def test_images_are_not_kept_on_the_disk(stored: OssBucket, tmp_path: Path) -> None:
    with TransferClient(**stored.options) as client, pytest.raises(OssConfigError, match="cache='ram'"):
        dataset(stored, client, tmp_path, cache="disk")


def test_a_data_file_of_the_disk_is_refused(stored: OssBucket, data: Path, tmp_path: Path) -> None:
    with pytest.raises((OssUsageError, RuntimeError), match="must be oss://bucket"):
        losses(tmp_path, data_file(tmp_path, str(data)), trainer=make_oss_trainer(**stored.options))


def test_settings_beside_a_client_are_refused(stored: OssBucket) -> None:
    with (
        TransferClient(**stored.options) as client,
        pytest.raises(OssConfigError, match="a client has its credentials"),
    ):
        make_oss_trainer(client, region="cn-beijing")
