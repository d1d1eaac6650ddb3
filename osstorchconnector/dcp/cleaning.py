"""Removal of the objects that dead saves left behind, but of no part of a checkpoint or of a save that may be alive.

Whether a save is alive depends on the time of the newest thing that it has stored. Times are those of OSS, and so is
the clock. The clocks of this machine and of the one that saved do not matter.
"""

from __future__ import annotations

import datetime
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..client.client import OssClient
from ..errors import OssNotFoundError, OssPermissionError, OssProtocolError, OssUsageError
from ..protocol.values import ListedUpload
from ..uri import OssUri, parse_uri
from .folder import METADATA_LOCK, is_rank_metadata, metadata_name, token_of
from .metadata import stored_names

_logger = logging.getLogger(__name__)

DEFAULT_AGE = datetime.timedelta(days=1)
# OSS's times are whole seconds: an object may have been stored up to one second later than its time.
RESOLUTION_SECONDS = 1


@dataclass
class _Save:
    """What one save, identified by its token, left below a prefix: files, unfinished uploads, last sign of life."""

    keys: list[str] = field(default_factory=list)
    uploads: list[ListedUpload] = field(default_factory=list)
    seen_at: float = 0.0

    def note(self, when: str) -> None:
        """Note that the save stored something at `when`, a time of OSS."""
        self.seen_at = max(self.seen_at, _seconds(when))

    def folders(self) -> set[str]:
        return {key.rpartition("/")[0] for key in (*self.keys, *(upload.key for upload in self.uploads))}


def clean(client: OssClient, uri: str, *, older_than: datetime.timedelta | float = DEFAULT_AGE) -> list[str]:
    """Remove files and unfinished uploads below `uri` of saves that never finished. Return the URIs of all removed.

    The files of a save stay if any of them is part of a checkpoint. A save is left alone if it, or another unfinished
    one in the same folder, has stored anything within the last `older_than` (a timedelta or seconds); an uploaded part
    counts too. With 0, no save counts as alive. Locks older than that are removed too. Files that this library did not
    write stay. Raises if a checkpoint's metadata can't be read, because then its files are not known.
    """
    prefix = parse_uri(uri)
    age = _age_seconds(older_than)
    # Ask OSS for the time before listing anything: objects that are stored from now on are then younger.
    deadline = _deadline(client.server_time(prefix), age)
    found, locks = _found_below(client, prefix)
    saves = list(found.values())
    referenced = _referenced(client, prefix, (key for save in saves for key in save.keys))
    unpublished = [save for save in saves if referenced.isdisjoint(save.keys)]
    for save in saves:
        if save.seen_at < deadline:
            _note_parts(client, prefix.bucket, save)
    alive = set[str]().union(*(save.folders() for save in unpublished if save.seen_at >= deadline))
    removed: list[str] = []
    for save in saves:
        if save.seen_at >= deadline or not alive.isdisjoint(save.folders()):
            continue
        keys = save.keys if referenced.isdisjoint(save.keys) else []
        for upload in save.uploads:
            client.abort_upload(OssUri(prefix.bucket, upload.key), upload.upload_id)
        client.delete_many(prefix.bucket, keys)
        removed += [*keys, *(one.key for one in save.uploads)]
    client.delete_many(prefix.bucket, old_locks := [key for key, since in locks.items() if since < deadline])
    removed += old_locks
    _logger.info("cleaned %s: %d objects and uploads of unfinished saves", uri, len(removed))
    return [str(OssUri(prefix.bucket, key)) for key in removed]


def _age_seconds(older_than: datetime.timedelta | float) -> float:
    try:
        age = older_than.total_seconds() if isinstance(older_than, datetime.timedelta) else older_than
        if age >= 0:  # False for NaN
            return age
    except TypeError:
        pass
    raise OssUsageError(f"older_than must be a timedelta or a number of seconds, 0 or more, not {older_than!r}")


def _deadline(now: float, age: float) -> float:
    """Return the time since when a save must have stored something to count as alive at `now`."""
    return now - age - RESOLUTION_SECONDS if age > 0 else math.inf


def _found_below(client: OssClient, prefix: OssUri) -> tuple[dict[str, _Save], dict[str, float]]:
    """Return the saves by token, and the locks by key, each with the time when it was taken."""
    saves: dict[str, _Save] = defaultdict(_Save)
    locks = {}
    for found in client.list(prefix):
        token = token_of(found.key)
        if token:
            saves[token].keys.append(found.key)
            saves[token].note(found.last_modified)
        elif found.key.rpartition("/")[2] == METADATA_LOCK:
            locks[found.key] = _seconds(found.last_modified)
    for upload in client.list_uploads(prefix):
        token = token_of(upload.key)
        if token:
            saves[token].uploads.append(upload)
            saves[token].note(upload.initiated)
    return saves, locks


def _note_parts(client: OssClient, bucket: str, save: _Save) -> None:
    """Note the parts of the save's uploads. An upload that has ended since it was listed is a sign of life."""
    for upload in save.uploads:
        try:
            parts = client.list_parts(OssUri(bucket, upload.key), upload.upload_id)
        except OssNotFoundError:
            save.seen_at = math.inf
        else:
            for part in parts:
                save.note(part.last_modified)


def _seconds(when: str) -> float:
    try:
        return datetime.datetime.fromisoformat(when.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        raise OssProtocolError(f"OSS says when something was stored in a way that is no time: {when!r}") from None


def _referenced(client: OssClient, prefix: OssUri, keys: Iterable[str]) -> set[str]:
    """Return all keys of the checkpoints that `keys` might belong to.

    The metadata is read after `keys` were listed, so that a checkpoint published in between is found.
    """
    found = set[str]()
    for folder in {folder for key in keys for folder in _folders(key)}:
        try:
            found.update(folder + name for name in _names_in(client, OssUri(prefix.bucket, folder)))
        except OssPermissionError:
            if folder.startswith(prefix.key):
                raise
            # Credentials that may not read above the prefix have not saved a checkpoint there.
    return found


def _folders(key: str) -> Iterator[str]:
    """Yield the folders that contain a file, innermost first. A prefix strategy puts files in subfolders."""
    while key:
        key = key.rpartition("/")[0]
        yield key + "/" if key else ""


def _names_in(client: OssClient, folder: OssUri) -> Iterator[str]:
    ranks = client.list(OssUri(folder.bucket, folder.key + "__"), delimiter="/")
    listed = (entry.key[len(folder.key) :] for entry in ranks)
    for name in (metadata_name(), *filter(is_rank_metadata, listed)):
        uri = OssUri(folder.bucket, folder.key + name)
        try:
            names = stored_names(client.get(uri).body, str(uri))
        except OssNotFoundError:
            continue
        yield from names
