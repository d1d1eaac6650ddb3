"""Checkpoints that a framework has written as folders on a disk: uploaded, found again, downloaded.

folders = CheckpointFolders("oss://bucket/run", ENDPOINT, cred_path=CRED_PATH)
folders.upload("out/checkpoint-100")
folders.download(folders.newest(), "out")

run/checkpoint-100/model.safetensors
run/checkpoint-100/optimizer.pt
run/checkpoint-100/.complete.json          comes last: all names, sizes and checksums

A checkpoint that replaces a whole one of the same name has its files in a folder of their own, which `.complete.json`
names. So the older one stays whole until the new one is, and then its files go.
"""

from __future__ import annotations

import functools
import json
import re
import secrets
import shutil
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar

from ..client.client import OssClient
from ..client.operations import Operations
from ..errors import OssIntegrityError, OssNotFoundError, OssObjectChangedError, OssUriError, OssUsageError
from ..filesystem import OssFileSystem
from ..local_files import is_name_below
from ..protocol.checksum import crc64
from ..protocol.values import ObjectStat
from ..uri import OssUri, parse_uri

MANIFEST = ".complete.json"
PIECE_BYTES = 1 << 20

R = TypeVar("R")


class StoredFile(NamedTuple):
    """What a file must have to be the one that was uploaded."""

    size: int
    crc64: int


class Manifest(NamedTuple):
    """The files of a whole checkpoint, by their names below its folder, and when it was whole by OSS's clock.

    In OSS they are below `beside`, such as `.0123456789abcdef/`, in that folder. It is empty unless one was replaced.
    """

    files: Mapping[str, StoredFile]
    completed: float
    beside: str = ""

    def dumped(self) -> bytes:
        files = {name: {"size": file.size, "crc64": str(file.crc64)} for name, file in self.files.items()}
        content: dict[str, Any] = {"completed": self.completed, "files": files}
        if self.beside:
            content["beside"] = self.beside
        return json.dumps(content, indent=1).encode()

    @classmethod
    def loaded(cls, data: bytes, where: OssUri) -> Manifest:
        """Return what `dumped` made; `OssIntegrityError` for anything else, also for names outside the folder."""
        try:
            content = json.loads(data)
            files = {
                _checked(name): StoredFile(int(file["size"]), int(file["crc64"]))
                for name, file in content["files"].items()
            }
            return cls(files, float(content["completed"]), _checked_beside(content.get("beside", "")))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise OssIntegrityError(f"{where.shown} is no list of a checkpoint's files: {error!r}") from error


class CheckpointFolders:
    """The checkpoints of one run, each a folder below `uri`. A folder counts when all of it is there, and not before.

    - `uri`: `oss://bucket/folder`
    - `endpoint`: the URL of OSS, or an `OssClient`. Default: OSS_ENDPOINT, or the endpoint of `region` or OSS_REGION.
    - `settings`: `cred_path`, `cred_provider`, `anonymous`, `config_path`, `region`, as for `OssClient`

    Raises `OssConfigError` for wrong settings, `OssUriError` for a URI that names no folder. Errors of requests are
    `OssError`s.
    """

    def __init__(self, uri: str, endpoint: str | OssClient | None = None, **settings: Any) -> None:
        root = parse_uri(uri)
        if not root.key.strip("/"):
            raise OssUriError(f"{uri}: a folder in a bucket is needed, not all of it")
        self._root = OssUri(root.bucket, root.key.rstrip("/") + "/")
        self._fs = OssFileSystem(endpoint, **settings)
        self._client: OssClient = self._fs.client

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._root.shown!r})"

    def upload(self, local: str | Path, name: str = "") -> None:
        """Upload a local folder as the checkpoint `name`, by default its own name, in the place of an older one.

        The older one stays until the new one is whole. Raises `OssObjectChangedError` if somebody else writes there.
        """
        source = Path(local)
        name = _checked_name(name or source.name)
        files = {
            path.relative_to(source).as_posix(): StoredFile(path.stat().st_size, _crc64_of(path))
            for path in _files_below(source)
        }
        if not files:
            raise OssUsageError(f"upload {source}: there is no file in it")
        (older,) = self._map(_content, [self._member(name, MANIFEST)])
        beside = "" if older is None else f".{secrets.token_hex(8)}/"
        uris = [self._member(name, beside + file) for file in files]
        self._fs.put([str(source / file) for file in files], [str(uri) for uri in uris])
        for uri, file, stat in zip(uris, files.values(), self._map(_stat, uris), strict=True):
            if stat.size != file.size or stat.crc64 not in (file.crc64, None):
                raise _somebody_else(uri)
        manifest = Manifest(files, self._client.server_time(self._root), beside)
        if [older] != list(self._map(_content, [self._member(name, MANIFEST)])):
            raise _somebody_else(self._member(name, MANIFEST))
        self._client.put(self._member(name, MANIFEST), manifest.dumped())
        self._remove_all(name, {uri.key for uri in uris} | {self._member(name, MANIFEST).key})

    def names(self) -> list[str]:
        """Return the names of the whole checkpoints, the one that was whole last at the end."""
        return [name for name, _ in self._whole()]

    def newest(self) -> str | None:
        """Return the checkpoint that was whole last, or None if there is none."""
        return next(reversed(self.names()), None)

    def download(self, name: str, folder: str | Path) -> str:
        """Download a checkpoint to `folder/name`, which is replaced when all of it is here; return that path.

        Raises `OssNotFoundError` if there is no whole one, and `OssIntegrityError` if its files are not those uploaded.
        """
        found = self._manifest(_checked_name(name))
        target, draft = Path(folder, name), Path(folder, f".{name}.unfinished")
        shutil.rmtree(draft, ignore_errors=True)
        places = {draft / PurePosixPath(file): self._member(name, found.beside + file) for file in found.files}
        for place in places:
            place.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._fs.get([str(uri) for uri in places.values()], [str(place) for place in places])
            for (place, uri), file in zip(places.items(), found.files.values(), strict=True):
                if StoredFile(place.stat().st_size, _crc64_of(place)) != file:
                    raise OssIntegrityError(f"{uri.shown} is not the file that belongs to this checkpoint")
            shutil.rmtree(target, ignore_errors=True)
            draft.replace(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return str(target)

    def keep(self, count: int, also: Collection[str] = ()) -> None:
        """Remove all whole checkpoints except the newest `count`, and those named in `also`, which count, too."""
        names = [name for name in self.names() if name not in also]
        left = max(count - len(also), 0)
        for name in names[: max(len(names) - left, 0)]:
            self.remove(name)

    def remove(self, name: str) -> None:
        """Remove a checkpoint, whole or not. It stops to count first, then its files go."""
        self._client.delete(self._member(_checked_name(name), MANIFEST))
        self._remove_all(name, frozenset())

    def _whole(self) -> list[tuple[str, Manifest]]:
        """Return names and manifests, in the order in which they became whole."""
        pages = self._client.list_pages(self._root, delimiter="/")
        names = [prefix[len(self._root.key) : -1] for page in pages for prefix in page.prefixes]
        uris = [self._member(name, MANIFEST) for name in names]
        found = [
            (name, Manifest.loaded(data, uri))
            for name, uri, data in zip(names, uris, self._map(_content, uris), strict=True)
            if data is not None
        ]
        return sorted(found, key=lambda each: (each[1].completed, _number(each[0]), each[0]))

    def _remove_all(self, name: str, but: Collection[str]) -> None:
        folder = self._member(name, "")
        keys = [found.key for found in self._client.list(folder)]
        self._client.delete_many(folder.bucket, [key for key in keys if key not in but])

    def _manifest(self, name: str) -> Manifest:
        uri = self._member(name, MANIFEST)
        try:
            return Manifest.loaded(self._client.get(uri).body, uri)
        except OssNotFoundError as error:
            raise OssNotFoundError(f"no whole checkpoint at {self._member(name, '').shown}: {error}") from error

    def _member(self, name: str, file: str) -> OssUri:
        return OssUri(self._root.bucket, f"{self._root.key}{name}/{file}")

    def _map(self, work: Callable[[Operations, OssUri], Awaitable[R]], uris: Iterable[OssUri]) -> Iterable[R]:
        transfer = self._client.config.checkpoint
        return self._client.map(
            work, uris, concurrency=transfer.prefetch_concurrency, workers=transfer.prefetch_worker, kind="lookups"
        )


def _files_below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path
        elif path.is_symlink():
            raise OssUsageError(f"upload {path}: it leads to a folder or to nothing, and the checkpoint would lack it")


async def _stat(operations: Operations, uri: OssUri) -> ObjectStat:
    return await operations.head(uri)


async def _content(operations: Operations, uri: OssUri) -> bytes | None:
    try:
        return (await operations.get(uri)).body
    except OssNotFoundError:
        return None


def _crc64_of(path: Path) -> int:
    checksum = 0
    with open(path, "rb") as file:
        for piece in iter(functools.partial(file.read, PIECE_BYTES), b""):
            checksum = crc64(piece, checksum)
    return checksum


def _number(name: str) -> int:
    digits = re.search(r"\d+$", name)
    return int(digits.group()) if digits else -1


def _checked_name(name: str) -> str:
    if not name or "/" in name or name.startswith("."):
        raise OssUsageError(f"{name!r} can't be the name of a checkpoint: it is one folder's name")
    return name


def _somebody_else(uri: OssUri) -> OssObjectChangedError:
    return OssObjectChangedError(f"{uri.shown} is not what was uploaded: another job stores its checkpoints there")


def _checked_beside(beside: object) -> str:
    if isinstance(beside, str) and re.fullmatch(r"(\.[0-9a-f]{16}/)?", beside):
        return beside
    raise ValueError(f"{beside!r} is no folder of a checkpoint")


def _checked(name: str) -> str:
    """Return the name of a file below a folder; `ValueError` for one that would be elsewhere."""
    if not is_name_below(name):
        raise ValueError(f"{name!r} is not below the folder")
    return name
