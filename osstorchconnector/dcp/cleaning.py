"""Removing what dead saves left behind, and nothing that is part of a checkpoint or of a save that may still live.

Whether a save lives is told by the newest thing it has stored, by OSS's times and OSS's clock. What clocks of this
machine, or of the one that saved, say does not count.
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
# OSS's times are whole seconds: what it has stored at this second it may have stored up to one later.
RESOLUTION_SECONDS = 1


@dataclass
class _Save:
    """What one save, known by its token, left below a prefix: files, unfinished uploads, the last sign of life."""

    keys: list[str] = field(default_factory=list)
    uploads: list[ListedUpload] = field(default_factory=list)
    seen_at: float = 0.0

    def note(self, when: str) -> None:
        """Something of it was stored then, as OSS says."""
        self.seen_at = max(self.seen_at, _seconds(when))

    def folders(self) -> set[str]:
        return {key.rpartition("/")[0] for key in (*self.keys, *(upload.key for upload in self.uploads))}


def clean(client: OssClient, uri: str, *, older_than: datetime.timedelta | float = DEFAULT_AGE) -> list[str]:
    """Remove files and unfinished uploads below `uri` of saves that never finished; return the URIs of what is gone.

    A save is left alone if any file of it is part of a checkpoint, or if it, or another unfinished one in the same
    folder, has stored anything within the last `older_than` (a timedelta or seconds), a part of an upload included.
    With 0 nothing counts as alive. Files that this library did not write are left alone. Raises if some checkpoint's
    metadata can't be read: what it refers to is not known then.
    """
    prefix = parse_uri(uri)
    age = _age_seconds(older_than)
    # Asked for before anything is listed: what is stored from here on is younger.
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
        if age >= 0:  # which a NaN is not
            return age
    except TypeError:
        pass
    raise OssUsageError(f"older_than must be a timedelta or a number of seconds, 0 or more, not {older_than!r}")


def _deadline(now: float, age: float) -> float:
    """Return when a save must have stored something, to count as alive at `now`."""
    return now - age - RESOLUTION_SECONDS if age > 0 else math.inf


def _found_below(client: OssClient, prefix: OssUri) -> tuple[dict[str, _Save], dict[str, float]]:
    """Return what saves have left, by token, and the locks that are held, each with the time since when."""
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
    """Take note of the parts that the save's uploads have; an upload that has just ended gave a sign of life."""
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
    """Return the keys that the checkpoints have to which these might belong; looked up after these were listed."""
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
    """Yield the folders that a file is in, innermost first; a prefix strategy puts it deeper than its checkpoint."""
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
