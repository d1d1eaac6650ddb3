"""Removing what dead saves left behind, and nothing that is part of a checkpoint or of a save that may still live."""

from __future__ import annotations

import datetime
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..client.client import OssClient
from ..client.values import PendingUpload
from ..errors import OssNotFoundError, OssProtocolError
from ..uri import OssUri, parse_uri
from .layout import is_rank_metadata, metadata_name, token_of
from .metadata import load_metadata

_logger = logging.getLogger(__name__)

DEFAULT_AGE = datetime.timedelta(days=1)


@dataclass
class _Save:
    """What one save, known by its token, left below a prefix: files, unfinished uploads, the last sign of life."""

    keys: list[str] = field(default_factory=list)
    uploads: list[PendingUpload] = field(default_factory=list)
    seen_at: float = 0.0


def clean(
    client: OssClient, uri: str, *, older_than: datetime.timedelta | float = DEFAULT_AGE, now: float | None = None
) -> list[str]:
    """Remove files and unfinished uploads below `uri` of saves that never finished; return the URIs of what is gone.

    A save is left alone if any file of it is part of a checkpoint, or if it has begun, or stored anything, within the
    last `older_than` (a timedelta or seconds). Files that this library did not write are left alone. Raises if some
    checkpoint's metadata can't be read: what it refers to is not known then.
    """
    prefix = parse_uri(uri)
    age = older_than.total_seconds() if isinstance(older_than, datetime.timedelta) else older_than
    deadline = (time.time() if now is None else now) - age
    saves = _saves_below(client, prefix)
    dead = {token: save for token, save in saves.items() if save.seen_at < deadline}
    referenced = _referenced(client, prefix, (key for save in dead.values() for key in save.keys))
    removed = []
    for save in dead.values():
        if not referenced.isdisjoint(save.keys):
            continue
        for upload in save.uploads:
            client.abort_upload(OssUri(prefix.bucket, upload.key), upload.upload_id)
        client.delete_many(prefix.bucket, save.keys)
        removed += [str(OssUri(prefix.bucket, key)) for key in (*save.keys, *(one.key for one in save.uploads))]
    _logger.info("cleaned %s: %d objects and uploads of unfinished saves", uri, len(removed))
    return removed


def _saves_below(client: OssClient, prefix: OssUri) -> dict[str, _Save]:
    saves: dict[str, _Save] = defaultdict(_Save)
    for found in client.list(prefix):
        token = token_of(found.key)
        if token:
            saves[token].keys.append(found.key)
            _note(saves[token], token, found.last_modified)
    for upload in client.list_uploads(prefix):
        token = token_of(upload.key)
        if token:
            saves[token].uploads.append(upload)
            _note(saves[token], token, upload.initiated)
    return saves


def _note(save: _Save, token: str, when: str) -> None:
    begun = int(token.partition("-")[0], 16) / 1000
    try:
        seen = datetime.datetime.fromisoformat(when.replace("Z", "+00:00")).timestamp()
    except (ValueError, OverflowError):
        raise OssProtocolError(f"OSS says when a file was stored in a way that is no time: {when!r}") from None
    save.seen_at = max(save.seen_at, begun, seen)


def _referenced(client: OssClient, prefix: OssUri, keys: Iterable[str]) -> set[str]:
    """Return the keys that the checkpoints have to which these might belong; looked up after these were listed."""
    folders = {folder for key in keys for folder in _folders(key, prefix.key)}
    return {folder + name for folder in folders for name in _names_in(client, OssUri(prefix.bucket, folder))}


def _folders(key: str, prefix: str) -> Iterator[str]:
    """Yield the folders that a file is in, innermost first; a prefix strategy puts it deeper than its checkpoint."""
    while "/" in key:
        key = key.rpartition("/")[0]
        if len(key) + 1 < len(prefix.rstrip("/")):
            return
        yield key + "/"


def _names_in(client: OssClient, folder: OssUri) -> Iterator[str]:
    listed = (entry.key[len(folder.key) :] for entry in client.list(folder, delimiter="/"))
    for name in (metadata_name(), *filter(is_rank_metadata, listed)):
        uri = OssUri(folder.bucket, folder.key + name)
        try:
            metadata = load_metadata(client.get(uri).body, str(uri))
        except OssNotFoundError:
            continue
        yield from (info.relative_path for info in metadata.storage_data.values())
