"""What the C++ connector's files for Ultralytics and MMDetection do with its client: the same calls, in the same order.

Those files are not ours, so they are not here; the loaders below make their calls, with stand-ins for the frameworks.
"""

from __future__ import annotations

import copy
import uuid
from pathlib import Path
from typing import Any

import pytest
import torch.utils.data

from osstorchconnector._oss_bucket_iterable import parse_oss_uri
from osstorchconnector._oss_client import OssClient
from osstorchconnector._oss_connector import new_data_object
from osstorchconnector.testing import OssBucket

COUNT = 6
KEYS = [f"coco/images/train/{number}.jpg" for number in range(COUNT)]
LABELED = range(COUNT - 1)


class FrameworkDataset(torch.utils.data.Dataset[Any]):
    """A dataset as the two files make them of the frameworks' own: one client for each process, objects by key."""

    def __init__(self, access: dict[str, Any], image_path: str) -> None:
        self.access, self._uuid = access, uuid.uuid4()
        self._client: OssClient | None = None
        self.objects: dict[str, tuple[Any, int]] = {}
        self.image_files = self.get_image_files(image_path)

    def client(self) -> OssClient:
        if self._client is None:
            access = self.access
            self._client = OssClient(  # positional, as 1.2.3 has them; a UUID is no text
                access["endpoint"], access["cred_path"], "", self._uuid, cred_provider=None, region=access["region"]
            )
        worker: Any = torch.utils.data.get_worker_info()
        if worker is not None:
            client: Any = self._client
            client._id, client._total = worker.id, worker.num_workers
        return self._client

    def get_image_files(self, image_path: str) -> list[str]:
        """List a folder, or read a list of files: the one that has a size."""
        bucket, key = parse_oss_uri(image_path)
        stat = self.client().head_object(bucket, key)
        if stat.size > 0:
            names = self.client().get_object(bucket, key, stat.size).read().decode().split()
            found = [new_data_object(f"/{bucket}/{key.rpartition('/')[0]}/{name}", 0, "") for name in names]
        else:
            found = list(self.client().list_objects(bucket, key.rstrip("/") + "/"))
        found.sort(key=lambda each: each.key)
        self.objects = {each.key: (each, 0) for each in found}
        return [each.key for each in found]

    def labels(self) -> list[bytes | None]:
        wanted = [file.replace("/images/", "/labels/").replace(".jpg", ".txt") for file in self.image_files]
        named = [new_data_object(uri, 0, "") for uri in wanted]
        found = self.client().list_objects_from_uris(named, prefetch=True, include_errors=True)
        return [None if each.err() != 0 or each.size == 0 else each.read() for each in found]

    def __getitems__(self, indices: list[int]) -> list[bytes]:
        keys = [self.image_files[index] for index in indices]
        wanted = [self.objects[key][0] for key in keys]
        fetched = self.client().list_objects_from_uris(wanted, prefetch=True, include_errors=True)
        before = {key: self.objects[key] for key in keys}
        self.objects.update({key: (each.copy(), 1) for key, each in zip(keys, fetched, strict=True)})
        items = [self[index] for index in indices]
        self.objects.update(before)
        return items

    def __getitem__(self, index: int) -> bytes:
        found, is_here = self.objects[self.image_files[index]]
        if is_here:
            found.seek(0)
            return bytes(found.read())
        bucket, key = parse_oss_uri(found.key)
        return self.client().get_object(bucket, key, found.size, type=2).read()


@pytest.fixture
def images(oss_bucket: OssBucket) -> OssBucket:
    for number, key in enumerate(KEYS):
        oss_bucket.put(key, f"image {number}".encode())
        if number in LABELED:
            oss_bucket.put(key.replace("images", "labels").replace("jpg", "txt"), f"{number} 0.5".encode())
    oss_bucket.put("coco/images/some.txt", b"train/1.jpg\ntrain/4.jpg\n")
    return oss_bucket


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("end", ["", "/"])
def test_a_folder_of_images_with_labels_is_trained_on(images: OssBucket, workers: int, end: str) -> None:
    dataset = FrameworkDataset(images.options, f"/{images.name}/coco/images/train{end}")
    assert dataset.image_files == [f"/{images.name}/{key}" for key in KEYS]
    assert dataset.labels() == [*(f"{number} 0.5".encode() for number in LABELED), None]
    loader: Any = torch.utils.data.DataLoader(dataset, batch_size=4, sampler=range(COUNT), num_workers=workers)
    assert [item for batch in loader for item in batch] == [f"image {number}".encode() for number in range(COUNT)]
    assert dataset[2] == b"image 2"


def test_a_list_of_images_is_trained_on(images: OssBucket) -> None:
    dataset = FrameworkDataset(images.options, f"oss://{images.name}/coco/images/some.txt")
    assert dataset.__getitems__([1, 0]) == [b"image 4", b"image 1"]


def test_annotations_are_downloaded_into_one_buffer(images: OssBucket, tmp_path: Path) -> None:
    access, data, target = images.options, bytes(range(256)) * 100, tmp_path / "annotations"
    images.put("annotations", data)
    client = OssClient(access["endpoint"], access["cred_path"], "", "", cred_provider=None, region=access["region"])
    with client.get_object(images.name, "annotations", type=1) as source, target.open("wb") as file:
        buffer = bytearray(4096)
        while (count := source.readinto(buffer)) > 0:
            file.write(buffer[:count])
    assert target.read_bytes() == data


def test_what_has_neither_an_object_nor_any_below_it_is_not_there(images: OssBucket) -> None:
    client = FrameworkDataset(images.options, f"/{images.name}/coco/images/train").client()
    folder = client.head_object(images.name, "coco/images")
    assert (folder.size, folder.err(), folder.key) == (0, 0, f"/{images.name}/coco/images")
    with pytest.raises(RuntimeError, match="404"):
        client.head_object(images.name, "coco/image")
    with pytest.raises(RuntimeError):
        copy.copy(folder).read()
