"""Where checkpoints are: a client, however it was named, and a folder of a bucket."""

from __future__ import annotations

import os
from typing import NamedTuple

from ..client.access import as_client
from ..client.client import OssClient
from ..errors import OssConfigError
from .folder import CheckpointFolder
from .layout import is_checkpoint_id


class Access(NamedTuple):
    """How to get at OSS, as users' constructors are told."""

    endpoint: str | OssClient
    cred_path: str
    cred_provider: object | None
    config_path: str
    region: str

    def client(self, source: str | OssClient) -> OssClient:
        """Return the client that `source` is, or one for that endpoint."""
        return as_client(
            source,
            cred_path=self.cred_path,
            cred_provider=self.cred_provider,
            config_path=self.config_path,
            region=self.region,
        )


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
        """The checkpoint that is read or written, as it was given."""
        return self._folder.id

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | os.PathLike[str]) -> bool:
        """True for `oss://bucket/key` and `/bucket/key`."""
        return is_checkpoint_id(checkpoint_id)

    def _open(
        self,
        fs: HasClient | OssClient | str | os.PathLike[str] | None,
        path: str | os.PathLike[str] | None,
        access: Access,
    ) -> None:
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
    source = fs.client if isinstance(fs, HasClient) else fs or access.endpoint
    if not source:
        raise OssConfigError("no endpoint named: give endpoint=... or an OssDCPFileSystem")
    return CheckpointFolder(access.client(source), path)
