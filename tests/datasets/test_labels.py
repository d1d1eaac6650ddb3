"""Labels from folders: what torchvision's ImageFolder tells, of objects in OSS."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets.ranks import run_ranks
from tar.conftest import tar_of
from torch.utils.data import DataLoader, WeightedRandomSampler

from osstorchconnector import (
    DataObject,
    OssClient,
    OssConfigError,
    OssIterableDataset,
    OssMapDataset,
    OssNotFoundError,
    OssUsageError,
    imagenet_manifest_parser,
)
from osstorchconnector.datapipes import OssObjectLister, OssObjectNames
from osstorchconnector.tar import generate_tar_archive
from osstorchconnector.testing import OssBucket

# `cat-wild` comes before `cat/` in a listing, and after `cat` among folders.
CLASSES = ["ant", "cat", "cat-wild"]
KEYS = [f"train/{name}/{number}.png" for name in CLASSES for number in range(5)]
LABELS = {key: CLASSES.index(key.split("/")[1]) for key in KEYS}
FACTS = attrgetter("name", "label")
Kind = type[OssIterableDataset] | type[OssMapDataset]
KINDS = pytest.mark.parametrize("kind", [OssIterableDataset, OssMapDataset])


@pytest.fixture(autouse=True)
def _objects(bucket: OssBucket) -> None:
    bucket.put("train/README", b"no picture")
    bucket.put("trainer/dog/1.png", b"of another folder")


def of_folders(kind: Kind, bucket: OssBucket, folder: str = "train/", **options: Any) -> Any:
    return kind.from_prefix(bucket.uri + folder, **bucket.options, labels="folders", **options)


def fetched(bucket: OssBucket) -> int:
    return bucket.server.counters().requests.get("GetObject", 0)


@KINDS
@pytest.mark.parametrize("folder", ["train/", "train"])
def test_a_dataset_tells_what_image_folder_tells(bucket: OssBucket, kind: Kind, folder: str) -> None:
    dataset = of_folders(kind, bucket, folder)
    assert dataset.classes == CLASSES
    assert dataset.class_to_idx == {"ant": 0, "cat": 1, "cat-wild": 2}
    listed = sorted(KEYS)
    assert dataset.targets == [LABELS[key] for key in listed]
    assert list(dataset.keys()) == [f"/{bucket.name}/{key}" for key in listed]
    assert list(dataset.sizes()) == [len(key) for key in listed]
    assert fetched(bucket) == 0
    assert [FACTS(item) for item in dataset] == [(key, LABELS[key]) for key in listed]


def test_keys_are_those_of_the_items_in_their_order(bucket: OssBucket) -> None:
    dataset = of_folders(OssMapDataset, bucket)
    for number, (key, size, target) in enumerate(zip(dataset.keys(), dataset.sizes(), dataset.targets, strict=True)):
        item = dataset[number]
        assert (item.key, item.size, item.label) == (key, size, target)


def decoded(item: DataObject) -> tuple[torch.Tensor, int]:
    return torch.tensor(list(item.read())[-5:]), item.label


def test_a_sampler_is_made_of_targets(bucket: OssBucket) -> None:
    for number in range(5, 25):
        bucket.put(f"train/ant/{number}.png", b"12345")
    dataset = of_folders(OssMapDataset, bucket, transform=decoded)
    targets = torch.tensor(dataset.targets)
    weights = 1 / torch.bincount(targets)[targets]
    sampler = WeightedRandomSampler(weights.tolist(), 300, generator=torch.Generator().manual_seed(0))
    counts = torch.zeros(3)
    for pictures, labels in DataLoader(dataset, batch_size=50, sampler=sampler):
        assert pictures.shape == (50, 5)
        counts += torch.bincount(labels, minlength=3)
    assert counts.min() > 60


@pytest.mark.parametrize("method", ["fork", "forkserver"])
@KINDS
def test_workers_see_the_same_numbers(bucket: OssBucket, kind: Kind, method: str) -> None:
    dataset = of_folders(kind, bucket, transform=FACTS)
    context = multiprocessing.get_context(method)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=context)
    assert dict(map(tuple, loader)) == LABELS
    assert dataset.classes == CLASSES


def shares(rank: int, uri: str, access: dict[str, Any]) -> tuple[list[str], list[int], list[tuple[str, int]]]:
    dataset = OssIterableDataset.from_prefix(
        uri, **access, labels="folders", shuffle=True, shard_ranks=True, even="drop", transform=FACTS
    )
    return dataset.classes, dataset.targets, list(dataset)


def test_ranks_have_the_classes_of_all(bucket: OssBucket) -> None:
    found = run_ranks(2, shares, f"{bucket.uri}train/", bucket.options)
    assert [classes for classes, _, _ in found] == [CLASSES, CLASSES]
    assert [targets for _, targets, _ in found] == [[LABELS[key] for key in sorted(KEYS)]] * 2
    given = [item for _, _, items in found for item in items]
    assert len(given) == 14
    assert dict(given).items() <= LABELS.items()


def test_an_epoch_goes_on_from_a_state(bucket: OssBucket) -> None:
    def epoch(state: dict[str, Any] | None) -> tuple[OssIterableDataset, Iterator[Any]]:
        dataset = of_folders(OssIterableDataset, bucket, shuffle=True, transform=FACTS)
        if state is not None:
            dataset.load_state_dict(state)
        return dataset, iter(dataset)

    dataset, items = epoch(None)
    begun = [next(items) for _ in range(7)]
    _, rest = epoch(dataset.state_dict())
    assert dict([*begun, *rest]) == LABELS
    plain = OssIterableDataset.from_prefix(f"{bucket.uri}train/", **bucket.options, shuffle=True)
    with pytest.raises(OssUsageError, match="another dataset"):
        plain.load_state_dict(dataset.state_dict())


@KINDS
def test_a_filter_decides_first_so_a_folder_without_pictures_is_no_class(bucket: OssBucket, kind: Kind) -> None:
    bucket.put("train/_logs/events.txt", b"")
    assert of_folders(kind, bucket).classes == ["_logs", *CLASSES]
    assert of_folders(kind, bucket, filter=".png").classes == CLASSES
    assert of_folders(kind, bucket, filter=lambda info: info.label == "cat").classes == ["cat"]


def test_several_folders_have_their_classes_in_common(bucket: OssBucket) -> None:
    bucket.put("more/bee/1.png", b"")
    bucket.put("more/cat/7.png", b"")
    places = [f"{bucket.uri}train/", f"{bucket.uri}more/"]
    dataset = OssMapDataset.from_prefix(places, **bucket.options, labels="folders")
    assert dataset.classes == ["ant", "bee", "cat", "cat-wild"]
    assert dataset.targets[-2:] == [1, 2]


def test_a_saved_index_has_the_classes_also_behind_a_filter(bucket: OssBucket, tmp_path: Path) -> None:
    place = tmp_path / "index"
    of_folders(OssMapDataset, bucket).save_index(place)
    dataset = OssMapDataset.from_index(place, **bucket.options)
    assert (dataset.classes, dataset.targets) == (CLASSES, [LABELS[key] for key in sorted(KEYS)])
    assert FACTS(dataset[0]) == ("train/ant/0.png", 0)
    wild = OssMapDataset.from_index(place, **bucket.options, filter=lambda info: "wild" in info.uri.key)
    assert (wild.classes, wild.targets, wild[0].label) == (CLASSES, [2] * 5, 2)
    wild.save_index(tmp_path / "again")
    assert OssMapDataset.from_index(tmp_path / "again", **bucket.options).classes == CLASSES


@pytest.mark.parametrize("indexed", [True, False])
@KINDS
def test_members_of_tars_are_in_folders(bucket: OssBucket, kind: Kind, indexed: bool) -> None:
    if indexed:
        uri = f"{bucket.uri}t.tar"
        generate_tar_archive(OssClient(**bucket.options), "", "", uri, f"{uri}.idx", f"{bucket.uri}train/")
    else:
        uri = bucket.put("t.tar", tar_of({f"./{key.removeprefix('train/')}": b"" for key in [*KEYS, "train/README"]}))
    dataset = kind.from_tar(uri, None, **bucket.options, labels="folders", filter=".png")
    assert dataset.classes == CLASSES
    assert {"/".join(["train", *item.key.split("/")[-2:]]): item.label for item in dataset} == LABELS
    with pytest.raises(OssUsageError, match='labels="folders"'):
        kind.from_tar(uri, None, **bucket.options).targets  # noqa: B018


def test_keys_of_a_manifest_are_in_folders(bucket: OssBucket, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest"
    manifest.write_text("".join(f"{key.removeprefix('train/')}\tignored\n" for key in reversed(KEYS)))
    dataset = OssMapDataset.from_manifest_file(
        manifest, imagenet_manifest_parser, f"{bucket.uri}train/", **bucket.options, labels="folders"
    )
    assert dataset.classes == CLASSES
    assert dataset.targets == [LABELS[key] for key in reversed(KEYS)]
    assert set(dataset.sizes()) == {None}


def test_labels_of_a_manifest_have_classes(bucket: OssBucket, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest"
    manifest.write_text("train/ant/0.png\tinsect\ntrain/cat/0.png\tbeast\n")
    dataset = OssIterableDataset.from_manifest_file(manifest, imagenet_manifest_parser, bucket.uri, **bucket.options)
    assert (dataset.classes, dataset.targets) == (["beast", "insect"], [1, 0])
    assert [item.label for item in dataset] == ["insect", "beast"]


def test_objects_without_labels_have_no_classes(bucket: OssBucket) -> None:
    dataset = OssMapDataset.from_objects([bucket.uri + KEYS[0]], **bucket.options)
    with pytest.raises(OssUsageError, match='labels="folders"'):
        dataset.classes  # noqa: B018
    assert list(dataset.keys()) == [f"/{bucket.name}/{KEYS[0]}"]


def test_what_can_not_be_is_refused(bucket: OssBucket) -> None:
    with pytest.raises(OssConfigError, match="a new folder would change numbers"):
        of_folders(OssIterableDataset, bucket, relist="epoch")
    with pytest.raises(OssUsageError, match="not as a pipe"):
        OssObjectLister(OssObjectNames([bucket.uri + KEYS[0]]), **bucket.options, labels="folders")  # type: ignore[arg-type]
    with pytest.raises(OssConfigError, match="labels: 'names'"):
        OssMapDataset.from_prefix(bucket.uri, **bucket.options, labels="names")  # type: ignore[arg-type]
    with pytest.raises(OssNotFoundError, match="is in a folder below it"):
        of_folders(OssMapDataset, bucket, "train/ant/").classes  # noqa: B018


@KINDS
def test_folders_of_this_machine_are_classes(kind: Kind, tmp_path: Path) -> None:
    for name in ("cat", "ant"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(b"picture")
    dataset = kind.from_prefix(str(tmp_path), "", labels="folders")
    assert dataset.classes == ["ant", "cat"]
    assert [item.label for item in dataset] == [0, 1]


def test_keys_are_those_of_the_present_epoch(bucket: OssBucket) -> None:
    dataset = OssIterableDataset.from_prefix(f"{bucket.uri}train/ant/", **bucket.options, relist="epoch")
    assert len(list(dataset.keys())) == 5
    bucket.put("train/ant/9.png", b"")
    assert len(list(dataset.keys())) == 5
    dataset.set_epoch(1)
    assert len(list(dataset.keys())) == 6
