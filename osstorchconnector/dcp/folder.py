"""The objects of a checkpoint: how they are named, and what can be asked of and done with all of them.

    ckpt/step-100/.metadata                            the checkpoint exists since this does
    ckpt/step-100/__0_0.18c2f0a1b2c-5f3a9c01.distcp    rank 0, file 0, of the save with this token
    ckpt/step-100/__1_0.18c2f0a1b2c-5f3a9c01.distcp
    ckpt/step-100/__0.metadata                         instead of .metadata with use_collectives=False: one a rank

A token is the time a save began and a random part: no two saves write the same object, so a new save under an old id
leaves the old one whole until `.metadata` names the new objects.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch.distributed.checkpoint.metadata import Metadata

from ..client.client import OssClient
from ..client.limiter import transfer_limit
from ..client.operations import Operations
from ..errors import OssConfigError, OssError, OssNotFoundError
from ..uri import OssUri, checked_key, parse_uri
from .allowed import AllowList
from .metadata import load_metadata

_logger = logging.getLogger(__name__)

METADATA, METADATA_LOCK = ".metadata", ".metadata.lock"
TORCH_SUFFIX, SAFETENSORS_SUFFIX = ".distcp", ".safetensors"

_DATA = re.compile(r"(?:.*/)?__\d+_\d+(?:\.(?P<token>[0-9a-f]{11,16}-[0-9a-f]{8}))?\.(?:distcp|safetensors)")
_RANK_METADATA = re.compile(r"__\d+\.metadata")

R = TypeVar("R")
PrefixStrategy = Callable[[int], str]


@dataclass(frozen=True)
class SaveTicket:
    """What one rank needs to know to name its files; travels in `SavePlan.storage_data`.

    `prefix` is what torch's own plans have there, so that a planner that looks at it finds it.
    """

    prefix: str
    token: str

    def file_name(self, number: int, suffix: str) -> str:
        """Return the name of this rank's file, relative to the checkpoint."""
        return f"{self.prefix}{number}.{self.token}{suffix}"


def make_ticket(rank: int, token: str, strategy: PrefixStrategy | None) -> SaveTicket:
    """Return the ticket of a rank, whose files go below what `strategy` says."""
    folder = strategy(rank).strip("/") if strategy is not None else ""
    return SaveTicket(f"{folder}/__{rank}_" if folder else f"__{rank}_", token)


def new_token(milliseconds: int) -> str:
    """Return a token for a save that begins at this time since the epoch."""
    return f"{milliseconds:011x}-{secrets.token_hex(4)}"


def checkpoint_uri(checkpoint_id: str | os.PathLike[str]) -> OssUri:
    """Return bucket and key prefix of a checkpoint; the key ends in `/` unless the whole bucket is meant."""
    uri = parse_uri(os.fspath(checkpoint_id))
    return OssUri(uri.bucket, uri.key.rstrip("/") + "/" if uri.key else "")


def is_checkpoint_id(checkpoint_id: str | os.PathLike[str]) -> bool:
    """True for `oss://bucket/key` and `/bucket/key` written as text; False for anything else, a `Path` too."""
    try:
        return isinstance(checkpoint_id, str) and bool(parse_uri(checkpoint_id))
    except OssConfigError:
        return False


def member(checkpoint: OssUri, relative_path: str) -> OssUri:
    """Return the object that a checkpoint calls `relative_path`; one that leads outside is refused."""
    parts = relative_path.split("/")
    if not relative_path or ".." in parts or relative_path.startswith("/"):
        raise OssConfigError(f"{checkpoint}: {relative_path!r} is no name of an object of a checkpoint")
    return OssUri(checkpoint.bucket, checked_key(checkpoint.key + relative_path, str(checkpoint)))


def metadata_name(rank: int | None = None) -> str:
    return METADATA if rank is None else f"__{rank}{METADATA}"


def is_data(relative_path: str) -> bool:
    """True for the name of a file that a rank wrote, ours or torch's."""
    return _DATA.fullmatch(relative_path) is not None


def is_rank_metadata(relative_path: str) -> bool:
    return _RANK_METADATA.fullmatch(relative_path) is not None


def token_of(relative_path: str) -> str:
    """Return the token in the name of a data file; empty if it has none."""
    found = _DATA.fullmatch(relative_path)
    return (found["token"] or "") if found else ""


@dataclass(frozen=True)
class RoundRobinPrefixes:
    """Put rank r's files below `prefixes[r % len(prefixes)]`."""

    prefixes: Sequence[str]

    def __post_init__(self) -> None:
        if not self.prefixes or not all(prefix.strip("/") for prefix in self.prefixes):
            raise OssConfigError("RoundRobinPrefixes needs prefixes, none of them empty")

    def __call__(self, rank: int) -> str:
        return self.prefixes[rank % len(self.prefixes)]


@dataclass(frozen=True)
class HashedPrefixes:
    """Put each rank's files below a few hexadecimal digits that look random and are the same every time."""

    digits: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.digits <= 32:
            raise OssConfigError(f"HashedPrefixes takes 1 to 32 digits, not {self.digits}")

    def __call__(self, rank: int) -> str:
        return hashlib.sha256(str(rank).encode()).hexdigest()[: self.digits]


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
        in_flight = transfer_limit(self.client.endpoint, self.client.config.checkpoint.prefetch_concurrency)
        begun = time.perf_counter()
        try:
            download = self.client.get(uri)
        except OssNotFoundError as error:
            raise OssNotFoundError(
                f"{self._missing()} ({error})", status=error.status, code=error.code, request_id=error.request_id
            ) from error
        in_flight.note(time.perf_counter() - begun, len(download.body))
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


def begun(client: OssClient, work: Callable[[Operations], Coroutine[Any, Any, R]]) -> Callable[[], R]:
    """Begin `work` on a loop thread. Return a function that waits for its result or raises its error; call it once."""
    # Popping the list breaks the reference cycle: future -> exception -> traceback -> frame -> future.
    futures = [client.submit(work)]
    return lambda: futures.pop().result()


def quietly(remove: Callable[[], object]) -> None:
    """Try to remove what is of no use to anybody; if that fails the log says so, and `clean` will do it."""
    try:
        remove()
    except OssError as error:
        _logger.warning("objects of an unfinished save may be left behind: %s", error)
