"""The client with all that tools and notebooks ask of it, beside single requests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from ..client.client import OssClient
from ..errors import OssNotFoundError, OssUsageError
from ..files.writer import OssWriter
from ..local_files import written_whole
from ..protocol.attributes import Attributes, attributes
from ..protocol.values import ByteSpan, Download, StoredObject
from ..uri import OssUri, object_of, parse_object_uri, uri_of
from .folders import FileJob, Progress, Transferred, files_below, path_below, run_jobs
from .single import FIRST_BYTES, opened_unchanged, receive_object, send_file

if TYPE_CHECKING:
    from typing_extensions import Buffer as BytesLike
    from typing_extensions import Self

MAX_SIGNED_SECONDS = 7 * 24 * 3600

_TEXT = "text/plain; charset=utf-8"


class TransferClient(OssClient):
    """A client that also moves files and folders."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def exists(self, uri: OssUri | str) -> bool:
        """Return whether there is an object of this name; for one that ends in `/`, whether there is any below it.

        A bucket that does not exist counts as one without objects. Raises other errors, such as `OssPermissionError`.
        """
        found = uri_of(uri)
        try:
            if _is_folder(found):
                return bool(self.list_page(found, max_keys=1).objects)
            self.head(found)
        except OssNotFoundError:
            return False
        return True

    def sign(self, uri: OssUri | str, *, seconds: int = 3600, method: Literal["GET", "HEAD", "PUT"] = "GET") -> str:
        """Return a URL with which anybody can read the object for `seconds`, or store it with `method="PUT"`.

        Sends no request, so the object need not exist. With temporary credentials the URL ends with them. Raises
        `OssUsageError` for less than a second, more than 7 days, and another method.
        """
        if not 1 <= seconds <= MAX_SIGNED_SECONDS:
            raise OssUsageError(f"sign: 1 to {MAX_SIGNED_SECONDS} seconds, not {seconds}")
        if method not in ("GET", "HEAD", "PUT"):
            raise OssUsageError(f"sign: {method!r:.80} is none of GET, HEAD and PUT")
        target = object_of(uri)
        return self._run(lambda operations: operations.signed_url(target, method=method, seconds=seconds))

    def put(
        self,
        uri: OssUri | str,
        body: BytesLike | Iterable[BytesLike] | str | PathLike[str],
        *,
        forbid_overwrite: bool = False,
        content_type: str = "",
        metadata: Mapping[str, str] | None = None,
        storage_class: str = "",
    ) -> StoredObject:
        """Store an object; an old one stays until the new one is complete.

        `body` is bytes-like (an array too), or several such objects, which are joined: up to 5 GB in one request. A
        `str` is stored as text in UTF-8. A `Path` is a file whose content is stored, in parts if it is large; `str`
        never is the name of a file.

        `content_type` is guessed for a `Path`, from the key and then the file. `metadata` are texts by name that `head`
        returns; `storage_class` is Standard, IA, Archive, ColdArchive or DeepColdArchive. Raises `OssUsageError` for
        values that OSS does not allow, `OssConflictError` with `forbid_overwrite` if the object exists, `OSError` for a
        file that can't be read, and `OssError` for one that is written to meanwhile. Returns a `StoredObject`: its ETag
        and CRC-64.
        """
        target = object_of(uri)
        if isinstance(body, PathLike):
            stored = _attributes(target, body, content_type, metadata, storage_class)
            return self._upload_file(Path(body), target, stored, forbid_overwrite, _ignore)
        if isinstance(body, str):
            body, content_type = body.encode(), content_type or _TEXT
        return super().put(
            target,
            body,
            forbid_overwrite=forbid_overwrite,
            content_type=content_type,
            metadata=metadata,
            storage_class=storage_class,
        )

    def upload(
        self,
        source: str | PathLike[str],
        uri: OssUri | str,
        *,
        forbid_overwrite: bool = False,
        content_type: str = "",
        metadata: Mapping[str, str] | None = None,
        storage_class: str = "",
        progress: Progress | None = None,
    ) -> Transferred:
        """Upload a file, or all files below a folder, and return how many files, and bytes, were sent.

        A file goes to `uri`, or below it if that ends in `/`. The files of a folder go below `uri`, with their names in
        the folder. Several are sent at a time, large ones in parts. Each object appears whole or not at all, and OSS's
        CRC-64 is compared with that of what was sent. Links to folders are not followed.

        `content_type` is guessed from each name unless given; `metadata` and `storage_class` are those of `put`, for
        all files. `progress(done, total)` is called with bytes: those done, and those of the files found so far. It may
        be called in other threads, by one at a time.

        The first error ends the upload and is raised; what was uploaded before stays. Raises `OSError` for a file that
        can't be read, `OssError` for one that is written to meanwhile, and the errors of `put`.
        """
        path, target = Path(source), uri_of(uri)
        jobs: Iterable[FileJob]
        if path.is_dir():
            jobs = self._uploads(path, _as_folder(target), forbid_overwrite, content_type, metadata, storage_class)
        else:
            target = _below(target, path.name) if _is_folder(target) else object_of(target.path)
            stored = _attributes(target, path, content_type, metadata, storage_class)
            jobs = [self._upload_job(path, path.stat().st_size, target, stored, forbid_overwrite)]
        return run_jobs(jobs, progress, large_bytes=self.config.part_bytes)

    def download(
        self, uri: OssUri | str, target: str | PathLike[str], *, progress: Progress | None = None
    ) -> Transferred:
        """Download an object, or all objects below a URI that ends in `/`, and return how many files, and bytes.

        An object goes to the file `target`, or into it if that is a folder. What is below a folder goes below the
        folder `target`. Folders are made as needed; markers of folders are left out. Several objects are fetched at a
        time, large ones with many requests. Each file appears whole or not at all, after its CRC-64 was checked, and
        replaces an older one.

        `progress` is as for `upload`. The first error ends the download and is raised; what was downloaded before
        stays. Raises `OssNotFoundError` if there is nothing to download, `OssUsageError` for a key that can't be a path
        below `target` (such as one with `..`), and `OSError` for a file that can't be written.
        """
        source, path = uri_of(uri), Path(target)
        if _is_folder(source):
            done = run_jobs(self._downloads(source, path), progress, large_bytes=self.config.part_bytes)
            if not done.files:
                raise OssNotFoundError(f"nothing to download: there is no object below {source.shown}")
            return done
        if path.is_dir() or os.fspath(target).endswith(os.sep):
            path = path_below(path, source.key.rpartition("/")[2])
        first = self._beginning(source)
        job = FileJob(first.stat.size, lambda told: self._receive(source, first, path, told))
        return run_jobs([job], progress, large_bytes=self.config.part_bytes)

    def _uploads(
        self,
        folder: Path,
        target: OssUri,
        forbid_overwrite: bool,
        content_type: str,
        metadata: Mapping[str, str] | None,
        storage_class: str,
    ) -> Iterator[FileJob]:
        for found in files_below(folder):
            uri = _below(target, found.name)
            stored = _attributes(uri, found.path, content_type, metadata, storage_class)
            yield self._upload_job(found.path, found.size, uri, stored, forbid_overwrite)

    def _upload_job(self, path: Path, size: int, uri: OssUri, stored: Attributes, forbid_overwrite: bool) -> FileJob:
        return FileJob(size, lambda told: self._upload_file(path, uri, stored, forbid_overwrite, told))

    def _upload_file(
        self, path: Path, uri: OssUri, stored: Attributes, forbid_overwrite: bool, told: Callable[[int], object]
    ) -> StoredObject:
        writer = OssWriter(
            self, uri, transfer=self.config.checkpoint, forbid_overwrite=forbid_overwrite, attributes=stored
        )
        with writer, opened_unchanged(path) as file:
            send_file(file, writer, told)
        assert writer.stored is not None
        return writer.stored

    def _downloads(self, source: OssUri, folder: Path) -> Iterator[FileJob]:
        for listed in self.list(source):
            name = listed.key[len(source.key) :]
            if name and not name.endswith("/"):
                yield self._download_job(OssUri(source.bucket, listed.key), listed.size, path_below(folder, name))

    def _download_job(self, uri: OssUri, size: int, path: Path) -> FileJob:
        return FileJob(size, lambda told: self._receive(uri, self._beginning(uri), path, told))

    def _beginning(self, uri: OssUri) -> Download:
        return self.get(uri, ByteSpan(0, FIRST_BYTES))

    def _receive(self, uri: OssUri, first: Download, path: Path, told: Callable[[int], object]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path, is_durable=False) as file:
            receive_object(self, uri, first, file, told)


def _attributes(
    uri: OssUri,
    path: PathLike[str],
    content_type: str,
    metadata: Mapping[str, str] | None,
    storage_class: str,
) -> Attributes:
    """Return the attributes of an object made of a file; its type is guessed from the key, else from the file."""
    content_type = content_type or _guessed(uri.key) or _guessed(os.fspath(path))
    return attributes(content_type, metadata, storage_class)


def _guessed(name: str) -> str:
    import mimetypes  # late: few programs upload files

    kind, encoding = mimetypes.guess_type(name)
    return kind if kind and not encoding else ""  # the type is that of what is compressed


def _ignore(_: int) -> None:
    """Show nobody how far a file has come."""


def _is_folder(uri: OssUri) -> bool:
    return not uri.key or uri.key.endswith("/")


def _below(folder: OssUri, name: str) -> OssUri:
    return parse_object_uri(f"{folder.path}{name}")


def _as_folder(uri: OssUri) -> OssUri:
    return uri if _is_folder(uri) else OssUri(uri.bucket, f"{uri.key}/")
