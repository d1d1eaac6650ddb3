"""Names of objects as fsspec has them (`bucket/key`), and the entries of listings, as dictionaries.

fsspec takes `a` and `a/` for the same directory, so it strips slashes at the end. The functions that read or write one
object keep them: the object `a/` is another one than `a`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NoReturn

from fsspec.utils import isfilelike, stringify_path

from ..errors import OssUsageError
from ..protocol.attributes import BYTES, Attributes
from ..protocol.values import ListedObject, ObjectStat
from ..uri import OssUri, checked_bucket, checked_key

PROTOCOL = "oss"
Entry = dict[str, Any]


def bare_path(path: object) -> str:
    """Return `bucket/key` for `oss://bucket/key`, `/bucket/key` and `bucket/key`; slashes at the end stay."""
    text = str(stringify_path(path))
    for beginning in (f"{PROTOCOL}://", f"{PROTOCOL}::", "/"):
        if text.startswith(beginning):
            return text[len(beginning) :]
    return text


def stripped(path: object) -> str:
    """Do the same without slashes at the end; "" is the root, where the buckets are."""
    return bare_path(path).rstrip("/")


def uri_of(path: object) -> OssUri:
    """Return bucket and key, which may be empty. Raises `OssUriError` for names that OSS does not allow."""
    text = bare_path(path)
    bucket, _, key = text.partition("/")
    return OssUri(checked_bucket(bucket, text), checked_key(key, text))


def object_uri_of(path: object) -> OssUri:
    """Return bucket and key of an object; `IsADirectoryError` for a bucket."""
    uri = uri_of(path)
    if not uri.key:
        raise IsADirectoryError(errno.EISDIR, "a bucket, not an object", uri.shown)
    return uri


def folder_of(path: str) -> OssUri:
    """Return bucket and prefix of what is below a stripped path."""
    uri = uri_of(path)
    return OssUri(uri.bucket, f"{uri.key}/") if uri.key else uri


def parents(path: str) -> Iterable[str]:
    """Yield the directories above a stripped path, the nearest first, the bucket last."""
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def missing(path: object) -> FileNotFoundError:
    """Return the error for a path at which there is no object, and none below it."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), bare_path(path))


def directory_instead(path: object) -> IsADirectoryError:
    """Return the error for a directory at which an object is wanted."""
    return IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), bare_path(path))


def is_marker(key: str, size: int) -> bool:
    """Say whether an object only marks a directory: tools make such empty objects."""
    return key.endswith("/") and not size


def is_local_folder(lpath: Any) -> bool:
    """Say whether this is a directory of this machine, and no open file."""
    return not isfilelike(lpath) and Path(lpath).is_dir()


# --- entries of listings


def directory_entry(name: str) -> Entry:
    return {"name": name, "size": 0, "type": "directory"}


def listed_entry(bucket: str, listed: ListedObject) -> Entry:
    """Return the entry of an object in a listing."""
    return {
        "name": f"{bucket}/{listed.key}",
        "size": listed.size,
        "type": "file",
        "ETag": listed.etag,
        "LastModified": moment_of(listed.last_modified),
    }


def object_entry(name: str, stat: ObjectStat) -> Entry:
    """Return the entry of an object from what OSS says about it alone: also its types, CRC-64 and metadata."""
    seconds = stat.last_modified
    return {
        "name": name,
        "size": stat.size,
        "type": "file",
        "ETag": stat.etag,
        "LastModified": None if seconds is None else datetime.fromtimestamp(seconds, timezone.utc),
        "ContentType": stat.content_type,
        "ObjectType": stat.object_type,
        "CRC64": stat.crc64,
        "Metadata": stat.metadata,
    }


def attributes_of(stat: ObjectStat) -> Attributes:
    """Return the attributes that a new object takes over from an old one: content type and metadata."""
    return Attributes(stat.content_type or BYTES, stat.metadata_pairs)


def moment_of(text: str) -> datetime | None:
    """Return the time that OSS writes as `2025-03-14T15:09:26.000Z`, or None if it is no time."""
    try:
        moment = datetime.fromisoformat(text.removesuffix("Z"))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=timezone.utc)


def refuse_options(call: str, path: object, options: Mapping[str, object]) -> None:
    """Raise `OssUsageError` for options of a call that we don't have; those that are None ask for nothing."""
    asked = [name for name, value in options.items() if value is not None]
    if asked:
        _refuse(call, path, asked[0])


def _refuse(call: str, path: object, name: str) -> NoReturn:
    if "version" in name:
        reason = "versions of objects are not supported, only the newest one can be read"
    elif "tag" in name:
        reason = "tags of objects are not supported"
    else:
        reason = "there is no such option"
    raise OssUsageError(f"{call} {bare_path(path)}: {name}: {reason}")


def forbids(mode: str) -> bool:
    """Say whether what is there must stay; `ValueError` for a mode that is none."""
    if mode not in ("overwrite", "create"):
        raise ValueError(f"mode {mode!r}: an object is stored with 'overwrite' or 'create'")
    return mode == "create"
