"""What `OssStorageReader` and `OssStorageWriter` have in common: the checkpoint they work on, progress they report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ..client.client import OssClient, as_client
from ..errors import OssConfigError
from .folder import CheckpointFolder, is_checkpoint_id
from .torch_dcp import check_torch

ProgressCallback = Callable[[int, int], object]


class Access(NamedTuple):
    """How to get at OSS, as users' constructors are told."""

    endpoint: str | OssClient | None
    cred_path: str
    cred_provider: object | None
    config_path: str
    region: str
    anonymous: bool = False

    def client(self, source: str | OssClient) -> OssClient:
        """Return the client that `source` is, or one for that endpoint."""
        return as_client(source, self.cred_path, self.cred_provider, self.config_path, self.region, self.anonymous)


class HasClient:
    """Something that knows its OSS client: `OssDCPFileSystem`, for readers and writers to be made from."""

    client: OssClient


class HasFolder(HasClient):
    """What reads or writes one checkpoint at a time: what torch asks of both about checkpoint ids."""

    _folder: CheckpointFolder

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.checkpoint_id!r})"

    @property
    def checkpoint_id(self) -> str:
        """The checkpoint that is read or written, in the form in which it was given."""
        return self._folder.id

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """Return True for `oss://bucket/key` and `/bucket/key`."""
        return is_checkpoint_id(checkpoint_id)

    def _open(
        self,
        fs: HasClient | OssClient | str | os.PathLike[str] | None,
        path: str | os.PathLike[str] | None,
        access: Access,
    ) -> None:
        check_torch()
        self._folder = open_folder(fs, path, access)
        self.client = self._folder.client

    def _move(self, checkpoint_id: str | os.PathLike[str] | None) -> None:
        """Go over to another checkpoint, if one is named."""
        if checkpoint_id:
            self._folder = CheckpointFolder(self.client, checkpoint_id)


def open_folder(
    fs: HasClient | OssClient | str | os.PathLike[str] | None, path: str | os.PathLike[str] | None, access: Access
) -> CheckpointFolder:
    """Return the folder of `(fs, path)`, as the C++ connector has it, or of `(path, endpoint=...)`."""
    if isinstance(fs, (str, os.PathLike)):
        if path is not None:
            raise OssConfigError(f"two paths, {os.fspath(fs)!r} and {os.fspath(path)!r}: give one")
        fs, path = None, fs
    if path is None:
        raise OssConfigError("no checkpoint named: give oss://bucket/key")
    if fs is not None and access.endpoint is not None:
        raise OssConfigError("a file system or client has its endpoint already: give no endpoint= beside it")
    source = fs.client if isinstance(fs, HasClient) else access.endpoint if fs is None else fs
    if source is None:
        raise OssConfigError("no endpoint named: give endpoint=... or an OssDCPFileSystem")
    return CheckpointFolder(access.client(source), path)


class Progress:
    """Counts bytes and tells `watcher`: a callable that gets bytes done and bytes in all, or True for a tqdm bar.

    The callable is called on the thread that saves or loads, at most ten times a second and once at the end.
    """

    def __init__(self, watcher: ProgressCallback | bool | None, what: str, total_bytes: int) -> None:
        self.done_bytes, self.total_bytes = 0, total_bytes
        self.begun = time.perf_counter()
        self._bar: Any = _bar(what, total_bytes) if watcher is True else None
        self._callback = watcher if callable(watcher) else None
        self._told_at = 0.0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.begun

    @property
    def is_watched(self) -> bool:
        return self._bar is not None or self._callback is not None

    def reach(self, done_bytes: int) -> None:
        """Tell the watcher how many bytes are done, at most ten times a second."""
        if not self.is_watched:
            return
        now = time.perf_counter()
        if now - self._told_at >= 0.1:
            self._told_at = now
            self._tell(done_bytes)

    def end(self) -> None:
        """Tell the watcher that all bytes are done, and remove the bar."""
        self._tell(self.total_bytes)
        self.close()

    def close(self) -> None:
        """Remove the bar, whatever it shows."""
        if self._bar is not None:
            self._bar.close()

    def _tell(self, done_bytes: int) -> None:
        if self._bar is not None:
            self._bar.update(done_bytes - self.done_bytes)
        self.done_bytes = done_bytes
        if self._callback is not None:
            self._callback(done_bytes, self.total_bytes)


def summary(size_bytes: int, seconds: float, retries: int) -> str:
    """Size, time and speed in words, for the log."""
    seconds = max(seconds, 1e-9)
    return f"{size_bytes} bytes in {seconds:.3g} s, {size_bytes / seconds / 1e9:.3g} GB/s, {retries} retries"


def _bar(what: str, total_bytes: int) -> Any:
    from tqdm.auto import tqdm

    return tqdm(total=total_bytes, desc=what, unit="B", unit_scale=True)
