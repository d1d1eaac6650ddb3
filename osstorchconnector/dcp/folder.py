"""The objects of one checkpoint."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from torch.distributed.checkpoint.metadata import Metadata

from ..client.client import OssClient, as_client
from ..errors import OssConfigError, OssError, OssNotFoundError
from ..uri import OssUri
from .allowed import AllowList
from .layout import (
    SaveTicket,
    checkpoint_uri,
    is_checkpoint_id,
    is_data,
    is_rank_metadata,
    member,
    metadata_name,
    token_of,
)
from .metadata import load_metadata

_logger = logging.getLogger(__name__)


class CheckpointFolder:
    """The bucket's keys below a checkpoint id. It is a checkpoint when `.metadata` is there (or one for each rank)."""

    def __init__(self, client: OssClient, checkpoint_id: str | os.PathLike[str]) -> None:
        self.client = client
        self.id = os.fspath(checkpoint_id)
        self.uri = checkpoint_uri(checkpoint_id)

    def member(self, name: str) -> OssUri:
        """Return the object that the checkpoint calls `name`; one that leads outside is refused."""
        return member(self.uri, name)

    def read_metadata(self, rank: int | None, allowed: AllowList | None) -> tuple[Metadata, str]:
        """Return the checkpoint's metadata, or a rank's, and the ETag it has.

        For `allowed` see `load_metadata`. If there is none, `OssNotFoundError` says which other objects the folder has.
        """
        uri = self.member(metadata_name(rank))
        try:
            download = self.client.get(uri)
        except OssNotFoundError as error:
            raise OssNotFoundError(
                f"{self._missing()} ({error})", status=error.status, code=error.code, request_id=error.request_id
            ) from error
        return load_metadata(download.body, str(uri), allowed), download.stat.etag

    def _missing(self) -> str:
        """Return what the folder has instead of metadata, or the error if it can't be listed."""
        try:
            names = [found.key[len(self.uri.key) :] for found in self.client.list_page(self.uri).objects]
        except OssError as error:
            return f"there is no checkpoint at {self.id}, and what else is there can't be listed: {error}"
        ranks = sum(map(is_rank_metadata, names))
        if ranks:
            return (
                f"{self.id} has no metadata of that name, but metadata of {ranks} ranks: it was saved with "
                "use_collectives=False, and each of those ranks can load its own part"
            )
        count = sum(map(is_data, names))
        if count:
            return (
                f"{self.id} is not a whole checkpoint: there are data files ({count} seen) but no metadata. The save "
                "that wrote them has not finished, or never will: load an earlier checkpoint"
            )
        return f"there is no checkpoint at {self.id}"

    def metadata_names(self) -> list[str]:
        """Return the names of all metadata that is there: the checkpoint's, or the ranks'."""
        start = len(self.uri.key)
        names = [found.key[start:] for found in self.client.list(self.uri, delimiter="/")]
        return [name for name in names if name == metadata_name() or is_rank_metadata(name)]

    def has(self, name: str) -> bool:
        """Say whether the checkpoint has an object of that name."""
        try:
            self.client.head(self.member(name))
        except OssNotFoundError:
            return False
        return True

    def remove(self, names: Iterable[str]) -> None:
        """Delete objects of the checkpoint; those that are not there count as deleted."""
        self.client.delete_many(self.uri.bucket, [self.member(name).key for name in names])

    def abort_lost_uploads(self, ticket: SaveTicket) -> None:
        """Abort uploads of this rank's files that are still open when all its files are stored.

        OSS began them, and its answer was lost. Nobody else writes objects with this save's token.
        """
        start = len(self.uri.key)
        for upload in self.client.list_uploads(self.member(ticket.prefix)):
            if token_of(upload.key[start:]) == ticket.token:
                self.client.abort_upload(OssUri(self.uri.bucket, upload.key), upload.upload_id)


def quietly(remove: Callable[[], object]) -> None:
    """Try to remove what is of no use to anybody; if that fails the log says so, and `clean` will do it."""
    try:
        remove()
    except OssError as error:
        _logger.warning("objects of an unfinished save may be left behind: %s", error)


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
