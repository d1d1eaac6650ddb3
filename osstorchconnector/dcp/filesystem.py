"""OSS as torch's distributed checkpoints see file systems, and where readers and writers come from."""

from __future__ import annotations

import datetime
import os
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

from ..client.client import OssClient, as_client
from ..errors import OssNotFoundError, OssUriError
from ..files.reader import OssReader
from ..files.writer import OssWriter
from ..uri import OssUri, parse_object_uri, parse_uri
from .cleaning import DEFAULT_AGE, clean
from .folder import is_checkpoint_id
from .reader import OssStorageReader, ReaderOptions
from .storage import HasClient
from .torch_dcp import FileSystemBase, check_torch
from .writer import OssStorageWriter, WriterOptions

if TYPE_CHECKING:
    from typing_extensions import Unpack


class OssDCPFileSystem(FileSystemBase, HasClient):
    """OSS as a file system for distributed checkpoints, with one client for all readers and writers made from it.

        fs = OssDCPFileSystem(ENDPOINT, cred_path=CRED_PATH, region=REGION)
        dcp.save(state, storage_writer=fs.writer("oss://bucket/ckpt/step-100"))
        dcp.load(state, storage_reader=fs.reader("oss://bucket/ckpt/step-100"))

    It can also be the `fs` of torch's own `FileSystemWriter` and `FileSystemReader`. These are slower, and they rename
    `.metadata`, which OSS does by copying. Give the writer `sync_files=False`: else torch 2.4 refuses these
    files, and torch 2.13 calls `os.sync`, which waits for all disks of the machine, for each object. Paths are
    `oss://bucket/key`. A folder exists if it contains an object.

    Arguments:
        endpoint: OSS's endpoint, or an `OssClient`; with a client do not give the others.
        cred_path, cred_provider, anonymous, config_path, region: credentials and settings, as for `OssClient`.

    Raises `OssConfigError` if the settings are wrong. Methods raise `OssUriError` for a path that is not
    `oss://bucket/key`, and other `OssError`s if a request fails after all retries.
    """

    def __init__(
        self,
        endpoint: str | OssClient,
        cred_path: str = "",
        config_path: str = "",
        cred_provider: object | None = None,
        region: str = "",
        *,
        anonymous: bool = False,
    ) -> None:
        check_torch()
        self.client = as_client(endpoint, cred_path, cred_provider, config_path, region, anonymous)

    def __repr__(self) -> str:
        return f"OssDCPFileSystem({self.client.endpoint!r})"

    def writer(self, path: str, **options: Unpack[WriterOptions]) -> OssStorageWriter:
        """Return an `OssStorageWriter` for `path`; `options` are those of that class."""
        return OssStorageWriter(self, path, **options)

    def reader(self, path: str, **options: Unpack[ReaderOptions]) -> OssStorageReader:
        """Return an `OssStorageReader` for `path`; `options` are those of that class."""
        return OssStorageReader(self, path, **options)

    def clean(self, path: str, older_than: datetime.timedelta | float = DEFAULT_AGE) -> list[str]:
        """Remove the objects and unfinished uploads of saves below `path` that did not finish; return their URIs.

        `older_than` is a timedelta or seconds. A save that has stored anything within that time, by OSS's clock, may
        be alive and is not touched; with 0 none counts as alive. No checkpoint is touched.
        """
        return clean(self.client, path, older_than=older_than)

    # what torch asks of a file system

    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Generator[Any, None, None]:
        """Open an object, as bytes ("rb", "wb") or as text ("r", "w"); a context manager.

        An object that is written appears when the `with` block ends without an exception. Raises `ValueError` for
        another mode, `OssNotFoundError` when an object that does not exist is read.
        """
        uri, transfer = parse_object_uri(os.fspath(path)), self.client.config.checkpoint
        stream: OssReader | OssWriter
        if mode in ("rb", "r"):
            stream = OssReader(self.client, uri, transfer=transfer)
        elif mode in ("wb", "w"):
            stream = OssWriter(self.client, uri, transfer=transfer)
        else:
            raise ValueError(f"mode {mode!r}: an object can be opened for reading ('rb') or for writing ('wb')")
        with stream:
            yield stream if mode.endswith("b") else _TextStream(cast(IO[bytes], stream))

    def concat_path(self, path: str | os.PathLike[str], suffix: str) -> str:
        """Return the path `path/suffix`."""
        return f"{os.fspath(path).rstrip('/')}/{suffix}"

    def init_path(self, path: str | os.PathLike[str]) -> str:
        """Return `path` as text; `OssUriError` if it is not `oss://bucket/key`."""
        parse_uri(os.fspath(path))
        return os.fspath(path)

    def rename(self, old_path: str | os.PathLike[str], new_path: str | os.PathLike[str]) -> None:
        """Copy an object (up to 1 GB) within OSS, then delete the old one: for a moment both exist.

        Raises `OssNotFoundError` if there is no object `old_path`.
        """
        old, new = parse_object_uri(os.fspath(old_path)), parse_object_uri(os.fspath(new_path))
        if old != new:
            self.client.copy(old, new)
            self.client.delete(old)

    def mkdir(self, path: str | os.PathLike[str]) -> None:
        """Do nothing: OSS has no folders, a folder is the first part of a key."""

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Return True for `oss://bucket/key` and `/bucket/key`."""
        return is_checkpoint_id(checkpoint_id)

    def exists(self, path: str | os.PathLike[str]) -> bool:
        """Return True if there is an object of that name, or any object below it."""
        uri = parse_uri(os.fspath(path))
        if not uri.key:
            raise OssUriError(f"no object named in {os.fspath(path)!r}")
        try:
            self.client.head(uri)
        except OssNotFoundError:
            folder = OssUri(uri.bucket, uri.key.rstrip("/") + "/")
            return bool(self.client.list_page(folder, max_keys=1).objects)
        return True

    def rm_file(self, path: str | os.PathLike[str]) -> None:
        """Remove an object; `OssNotFoundError` if there is none."""
        uri = parse_object_uri(os.fspath(path))
        self.client.head(uri)
        self.client.delete(uri)

    def ls(self, path: str | os.PathLike[str]) -> list[str]:
        """Return the objects and folders directly below `path`, as paths of the same form."""
        base = os.fspath(path).rstrip("/") + "/"
        prefix = parse_uri(base)
        found: list[str] = []
        for page in self.client.list_pages(prefix, delimiter="/"):
            keys = [entry.key for entry in page.objects if entry.key != prefix.key]
            found += [base + key[len(prefix.key) :].rstrip("/") for key in (*keys, *page.prefixes)]
        return found


class _TextStream:
    """Text on a binary stream: what torch writes as JSON."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(text.encode())
        return len(text)

    def read(self) -> str:
        return self._stream.read().decode()
