"""Ultralytics: detection models trained on images and labels at `oss://`.

    trainer = make_oss_trainer("https://oss-cn-beijing.aliyuncs.com", cred_path="/root/.alibabacloud/credentials")
    YOLO("yolo11n.pt").train(trainer=trainer, data="coco.yaml", epochs=100)

The data file names a folder in OSS: `path: oss://bucket/coco`. `train` and `val` lie below it, as on a disk: a folder
of images, a list of them (`.txt`), or several of these. Labels are where Ultralytics looks for them: `/labels/` instead
of the last `/images/`.

Ultralytics gets a folder on the disk, `oss` in the folder of the run. Labels and lists are copied there. Of an image
there is only the name: its bytes are fetched when it is read, those of a batch at the same time.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ..client.client import as_client
from ..errors import OssConfigError, OssNotFoundError, OssUsageError
from ..optional import needed, unavailable
from ..protocol.values import Download
from ..transfer.client import TransferClient
from ..transfer.folders import path_below
from ..uri import OssUri, parse_uri

REQUIRED = "ultralytics>=8.4.190"

_problem: Exception | None = None
try:
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import IMG_FORMATS
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.utils import YAML, colorstr
    from ultralytics.utils.torch_utils import unwrap_model
except Exception as error:  # missing, too old or broken
    _problem, IMG_FORMATS = error, set()
    YOLODataset = DetectionTrainer = unavailable(__name__, REQUIRED, error)

# How many images are on their way while Ultralytics checks those before them.
AHEAD = 64
_SPLITS = ("train", "val", "test", "minival")


def make_oss_trainer(
    endpoint: str | TransferClient,
    cred_path: str = "",
    config_path: str = "",
    cred_provider: object | None = None,
    region: str = "",
    *,
    anonymous: bool = False,
) -> type[Any]:
    """Return a class for `YOLO.train(trainer=...)`, which trains a detection model on data in OSS.

    The arguments are those of `OssClient`; with a client as `endpoint`, give no others. Raises `OssConfigError` for
    wrong settings, and where Ultralytics is missing or too old. Training raises `OssNotFoundError` if there are no
    images, `OssUsageError` for a key that can't be a path, and other `OssError`s of requests that failed after all
    retries. Of `cache`, "ram" works; "disk" raises `OssConfigError`.

    Ultralytics starts several processes by the name of the trainer's class, and this class has none: use torchrun.
    """
    if _problem is not None:
        raise needed(__name__, REQUIRED, _problem) from _problem
    settings: dict[str, Any] = {
        "cred_path": cred_path,
        "cred_provider": cred_provider,
        "config_path": config_path,
        "region": region,
        "anonymous": anonymous,
    }
    client = endpoint if isinstance(endpoint, TransferClient) else TransferClient(endpoint, **settings)
    if client is endpoint:
        as_client(client, **settings)  # refuses settings beside a client

    class OssDetectionTrainer(_Trainer):
        _client = client

    return OssDetectionTrainer


class _Trainer(DetectionTrainer):
    """Ultralytics' trainer, with a data file of folders on the disk, and datasets that know what these stand for."""

    _client: TransferClient

    def get_dataset(self) -> Any:
        """Return what Ultralytics knows of the data, after its own checks of the data file."""
        folder = self.save_dir / "oss"
        self.args.data = str(_local_data_file(self.args.data, folder, self._client))
        return super().get_dataset()

    def build_dataset(self, img_path: str | list[str], mode: str = "train", batch: int | None = None) -> Any:
        """Return the dataset of a split. The options are those that Ultralytics' own trainer gives."""
        arguments = self.args
        return OSSYOLODataset(
            img_path,
            client=self._client,
            folder=self.save_dir / "oss",
            imgsz=arguments.imgsz,
            batch_size=batch,
            augment=mode == "train",
            hyp=arguments,
            rect=arguments.rect or mode == "val",
            cache=arguments.cache or None,
            single_cls=arguments.single_cls or False,
            stride=max(int(unwrap_model(self.model).stride.max()), 32),
            pad=0.0 if mode == "train" else 0.5,
            prefix=colorstr(f"{mode}: "),
            task=arguments.task,
            classes=arguments.classes,
            data=self.data,
            fraction=arguments.fraction if mode == "train" else 1.0,
        )


class OSSYOLODataset(YOLODataset):
    """Ultralytics' dataset of images and labels, whose images are in OSS.

    `img_path` is a path below `folder`, or several: `folder/bucket/key` stands for `oss://bucket/key`. The other
    options are those of `YOLODataset`. For errors see `make_oss_trainer`.
    """

    def __init__(self, img_path: str | list[str], *, client: TransferClient, folder: Path, **options: Any) -> None:
        if options.get("cache") == "disk":
            raise OssConfigError("cache='disk' keeps images beside their files, and these are in OSS: use cache='ram'")
        self._client, self._folder = client, Path(folder)
        self._fetched: dict[str, Future[Download]] = {}  # images of the present batch
        super().__init__(img_path, **options)

    def get_img_files(self, img_path: str | list[str]) -> list[str]:
        """Return the paths that stand for the images, sorted."""
        places = img_path if isinstance(img_path, list) else [img_path]
        names = sorted({str(path) for place in places for path in self._images(Path(place))})
        if not names:
            shown = ", ".join(self._uri(Path(place)).shown for place in places)
            raise OssNotFoundError(f"no images ({', '.join(sorted(IMG_FORMATS))}) in {shown}")
        most = self.fraction if isinstance(self.fraction, int) else max(1, round(len(names) * self.fraction))
        return names[:most]

    def get_label_files(self) -> list[str]:
        """Return the paths of the labels, after copying those that are in OSS."""
        files: list[str] = super().get_label_files()
        for folder in _outermost({Path(file).parent for file in files}):
            uri = self._uri(folder)
            with contextlib.suppress(OssNotFoundError):  # then all images are background
                self._client.download(uri._replace(key=f"{uri.key}/"), folder)
        return files

    def verify_args(self) -> tuple[Callable[[Any], Any], Any]:
        """Return Ultralytics' check of an image and its label, with what fetches the images ahead of it."""
        verify, arguments = super().verify_args()
        ahead = _Ahead(self._fetch, self.im_files)

        def verify_fetched(numbered: tuple[int, Sequence[Any]]) -> Any:
            number, (name, *rest) = numbered
            with _file_of(name, ahead.take(number)) as file:
                found, *seen, message = verify((file, *rest))
            return (found and name, *seen, message.replace(file, self._uri(Path(name)).shown))

        return verify_fetched, enumerate(arguments)

    def load_image(self, i: int, *arguments: Any, **options: Any) -> Any:
        """Return an image and its sizes, as Ultralytics does."""
        if self.ims[i] is not None:
            return super().load_image(i, *arguments, **options)
        name = self.im_files[i]
        future = self._fetched.pop(name, None) or self._fetch(name)
        with _file_of(name, future) as file:
            self.im_files[i] = file
            try:
                return super().load_image(i, *arguments, **options)
            finally:
                self.im_files[i] = name

    def __getitems__(self, numbers: list[int]) -> list[Any]:
        """Return the samples of a batch; its images are fetched at the same time."""
        names = [self.im_files[number] for number in numbers if self.ims[number] is None]
        self._fetched = {name: self._fetch(name) for name in names}
        return [self[number] for number in numbers]

    def _images(self, place: Path) -> Iterator[Path]:
        if place.suffix == ".txt":
            found = (self._listed(line.strip(), place.parent) for line in place.read_text("utf-8-sig").splitlines())
        else:
            uri = self._uri(place)
            listed = self._client.list(uri._replace(key=f"{uri.key}/" if uri.key else ""))
            found = (_path_of(OssUri(uri.bucket, each.key), self._folder) for each in listed)
        yield from (path for path in found if path.suffix[1:].lower() in IMG_FORMATS)

    def _listed(self, line: str, parent: Path) -> Path:
        """Return the path of an image of a list: a URI, `/bucket/key`, or a path from the list's folder on."""
        if line.startswith(("oss://", "/")):
            return _path_of(parse_uri(line), self._folder)
        uri = self._uri(parent)
        return _path_of(OssUri(uri.bucket, f"{uri.key}/{line.removeprefix('./')}".lstrip("/")), self._folder)

    def _uri(self, path: Path) -> OssUri:
        bucket, *key = path.relative_to(self._folder).parts
        return OssUri(bucket, "/".join(key))

    def _fetch(self, name: str) -> Future[Download]:
        uri = self._uri(Path(name))
        return self._client.submit(lambda operations: operations.get(uri))


class _Ahead:
    """The images of a list, each fetched some time before it is taken. Any thread may take one."""

    def __init__(self, fetch: Callable[[str], Future[Download]], names: Sequence[str]) -> None:
        self._fetch, self._names = fetch, names
        self._futures: dict[int, Future[Download]] = {}
        self._asked = 0
        self._lock = threading.Lock()

    def take(self, number: int) -> Future[Download]:
        """Return the future of an image; those up to `AHEAD` behind it are begun."""
        with self._lock:
            stop = min(number + AHEAD, len(self._names))
            for following in range(self._asked, stop):
                self._futures[following] = self._fetch(self._names[following])
            self._asked = max(self._asked, stop)
            return self._futures.pop(number)


@contextlib.contextmanager
def _file_of(name: str, future: Future[Download]) -> Iterator[str]:
    """Put the bytes of an image into a file with the same suffix, for as long as it is read."""
    with tempfile.NamedTemporaryFile(suffix=Path(name).suffix) as file:
        file.write(future.result().body)
        file.flush()
        yield file.name


def _local_data_file(data_file: str, folder: Path, client: TransferClient) -> Path:
    """Write a data file that names folders on the disk in place of those in OSS, and copy the lists of images."""
    data = YAML.load(data_file)
    base = str(data.get("path") or "")
    if not base.startswith("oss://"):
        raise OssUsageError(f"{data_file}: path is {base!r}, and must be oss://bucket or oss://bucket/folder")
    root = parse_uri(base.rstrip("/"))
    data["path"] = str(folder)
    for split in _SPLITS:
        if data.get(split):
            places = data[split] if isinstance(data[split], list) else [data[split]]
            data[split] = [str(_local_place(_joined(root, place), folder, client)) for place in places]
    local = folder / "data.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    YAML.save(local, data)
    return local


def _local_place(uri: OssUri, folder: Path, client: TransferClient) -> Path:
    path = _path_of(uri, folder)
    if path.suffix == ".txt":
        path.parent.mkdir(parents=True, exist_ok=True)
        client.download(uri, path)
    else:
        path.mkdir(parents=True, exist_ok=True)  # Ultralytics looks whether it is there
    return path


def _joined(root: OssUri, place: str) -> OssUri:
    return OssUri(root.bucket, f"{root.key}/{place.removeprefix('./').strip('/')}".lstrip("/"))


def _path_of(uri: OssUri, folder: Path) -> Path:
    return path_below(folder / uri.bucket, uri.key)


def _outermost(folders: set[Path]) -> list[Path]:
    """Return the folders that are not below another of them."""
    return [folder for folder in sorted(folders) if not folders.intersection(folder.parents)]


__all__ = ["OSSYOLODataset", "make_oss_trainer"]
