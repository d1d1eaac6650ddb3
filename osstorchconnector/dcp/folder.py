"""The objects of one checkpoint."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable

from torch.distributed.checkpoint.metadata import Metadata

from ..client.client import OssClient
from ..errors import OssError, OssNotFoundError
from ..uri import OssUri
from .allowed import AllowList
from .layout import SaveTicket, checkpoint_uri, is_data, is_rank_metadata, member, metadata_name, token_of
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
