"""Listings: objects (V1 and V2) and unfinished uploads, page by page in UTF-8 byte order.

A continuation token is the last name of the previous page, encoded; clients must not interpret it.
"""

from __future__ import annotations

import base64
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from ..documents import PLAIN, Encode, document, element, escape, fields
from ..exchange import Call, Received, Reply, xml_reply
from ..records import NO_TRAITS, ObjectRecord, UploadRecord
from ..refusals import invalid_argument
from ..service import OWNER_ID, Service
from .arguments import iso_time, listing_encoding, short_name, whole_number
from .restoring import restore_status

_OWNER = element("Owner", fields({"ID": OWNER_ID, "DisplayName": OWNER_ID}))
_LAST_CHARACTER = chr(0x10FFFF)
_LONG_PREFIX, _LONG_MARKER = "0015-00000403", "0015-00000405"


class Page(NamedTuple):
    """Part of a listing; `last` is its last name, or "" on the last page."""

    keys: list[str]
    prefixes: list[str]
    last: str

    @property
    def size(self) -> int:
        return len(self.keys) + len(self.prefixes)


def find_page(keys: Sequence[str], *, prefix: str, delimiter: str, after: str, limit: int) -> Page:
    """Return at most `limit` names that begin with `prefix` and come after `after`; `keys` are sorted.

    A name is a key or a common prefix: the beginning of several keys up to the first delimiter after `prefix`. If a
    common prefix is not after `after`, no key below it is listed.
    """
    if delimiter:
        names = list(islice(_walk(keys, prefix, delimiter, after), limit + 1))
        shown = names[:limit]
        found = [name for name, is_prefix in shown if not is_prefix]
        prefixes = [name for name, is_prefix in shown if is_prefix]
        return Page(found, prefixes, shown[-1][0] if len(names) > limit else "")
    begin = _first_after(keys, prefix, after)
    found = list(keys[begin : begin + limit + 1])
    if found and not found[-1].startswith(prefix):
        found = [key for key in found if key.startswith(prefix)]
    return Page(found[:limit], [], found[limit - 1] if len(found) > limit else "")


def _walk(keys: Sequence[str], prefix: str, delimiter: str, after: str) -> Iterator[tuple[str, bool]]:
    """Yield (name, whether it is a common prefix), in order."""
    position = _first_after(keys, prefix, after)
    while position < len(keys) and keys[position].startswith(prefix):
        key = keys[position]
        end = key.find(delimiter, len(prefix))
        if end < 0:
            yield key, False
            position += 1
            continue
        common = key[: end + len(delimiter)]
        if common > after:
            yield common, True
        position = _after_prefix(keys, common, position)


def _first_after(keys: Sequence[str], prefix: str, after: str) -> int:
    return max(bisect_left(keys, prefix), bisect_right(keys, after))


def _after_prefix(keys: Sequence[str], prefix: str, position: int) -> int:
    """Return the position of the first key, from `position` on, without this prefix."""
    position = bisect_right(keys, prefix + _LAST_CHARACTER, position)
    while position < len(keys) and keys[position].startswith(prefix):
        position += 1
    return position


def list_objects_v2(service: Service, call: Call, _received: Received) -> Reply:
    bucket = service.bucket(call.bucket)
    encoding, encode = listing_encoding(call)
    limit = whole_number(call, "max-keys", default=100, least=1, most=1000)
    prefix, delimiter = short_name(call, "prefix", _LONG_PREFIX), short_name(call, "delimiter")
    token, start_after = call.parameter("continuation-token"), short_name(call, "start-after")
    after = _from_token(token) if token else start_after
    page = find_page(bucket.sorted_keys(), prefix=prefix, delimiter=delimiter, after=after, limit=limit)
    next_token = _to_token(page.last) if page.last else None
    owner = _OWNER if call.parameter("fetch-owner").lower() == "true" else ""
    head: dict[str, object] = {
        "Name": bucket.name,
        "Prefix": encode(prefix),
        "StartAfter": encode(start_after) if start_after else None,
        "MaxKeys": limit,
        "Delimiter": encode(delimiter) if delimiter else None,
        "EncodingType": encoding,
        "IsTruncated": str(bool(page.last)).lower(),
        "ContinuationToken": encode(token) if token else None,
        "NextContinuationToken": encode(next_token) if next_token else None,
        "KeyCount": page.size,
    }
    return xml_reply(
        document("ListBucketResult", fields(head), *_rows(page, bucket.objects, encode, owner, service.now()))
    )


def list_objects_v1(service: Service, call: Call, _received: Received) -> Reply:
    bucket = service.bucket(call.bucket)
    encoding, encode = listing_encoding(call)
    limit = whole_number(call, "max-keys", default=100, least=1, most=1000)
    prefix, delimiter = short_name(call, "prefix", _LONG_PREFIX), short_name(call, "delimiter")
    marker = short_name(call, "marker", _LONG_MARKER)
    page = find_page(bucket.sorted_keys(), prefix=prefix, delimiter=delimiter, after=marker, limit=limit)
    head: dict[str, object] = {
        "Name": bucket.name,
        "Prefix": encode(prefix),
        "Marker": encode(marker),
        "MaxKeys": limit,
        "Delimiter": encode(delimiter),
        "EncodingType": encoding,
        "IsTruncated": str(bool(page.last)).lower(),
        "NextMarker": encode(page.last) if page.last else None,
    }
    return xml_reply(
        document("ListBucketResult", fields(head), *_rows(page, bucket.objects, encode, _OWNER, service.now()))
    )


def list_uploads(service: Service, call: Call, _received: Received) -> Reply:
    """List unfinished uploads by key, those of one key by their start time."""
    bucket = service.bucket(call.bucket)
    encoding, encode = listing_encoding(call)
    limit = whole_number(call, "max-uploads", default=1000, least=1, most=1000)
    prefix, delimiter = short_name(call, "prefix"), short_name(call, "delimiter")
    key_marker, id_marker = short_name(call, "key-marker"), call.parameter("upload-id-marker")
    entries = _uploads_after(bucket.uploads.values(), prefix, delimiter, key_marker, id_marker)
    found = list(islice(entries, limit + 1))
    shown, is_truncated = found[:limit], len(found) > limit
    last = shown[-1] if shown else ""  # OSS names the last entry on the last page too
    last_key, last_id = (last, "") if isinstance(last, str) else (last.key, last.upload_id)
    head: dict[str, object] = {
        "EncodingType": encoding,
        "Bucket": bucket.name,
        "KeyMarker": encode(key_marker),
        "UploadIdMarker": id_marker,
        "NextKeyMarker": encode(last_key),
        "NextUploadIdMarker": last_id,
        "Delimiter": encode(delimiter),
        "Prefix": encode(prefix),
        "MaxUploads": limit,
        "IsTruncated": str(is_truncated).lower(),
    }
    rows = [_upload_row(entry, encode) for entry in shown]
    return xml_reply(document("ListMultipartUploadsResult", fields(head), *rows))


def _uploads_after(
    uploads: Iterable[UploadRecord], prefix: str, delimiter: str, key_marker: str, id_marker: str
) -> Iterator[UploadRecord | str]:
    """Yield uploads after the markers, by key and id, or common prefixes instead of the uploads below them."""
    covered = key_marker
    for upload in sorted(uploads, key=lambda upload: (upload.key, upload.upload_id)):
        is_later = (upload.key, upload.upload_id) > (key_marker, id_marker) and (id_marker or upload.key > key_marker)
        if not is_later or not upload.key.startswith(prefix):
            continue
        end = upload.key.find(delimiter, len(prefix)) if delimiter else -1
        if end < 0:
            yield upload
        elif (common := upload.key[: end + len(delimiter)]) > covered:
            covered = common
            yield common


def _upload_row(entry: UploadRecord | str, encode: Encode) -> str:
    if isinstance(entry, str):
        return _prefix_row(entry, encode)
    row = {
        "Key": encode(entry.key),
        "UploadId": entry.upload_id,
        "StorageClass": entry.storage_class,
        "Initiated": iso_time(entry.initiated),
    }
    return element("Upload", fields(row))


def _rows(page: Page, objects: Mapping[str, ObjectRecord], encode: Encode, owner: str, now: float) -> list[str]:
    """Return the entries of a page: objects first, as in OSS's documents."""
    found = map(objects.__getitem__, page.keys)
    rows = [
        f"<Contents><Key>{key}</Key><LastModified>{iso_time(record.modified)}</LastModified>"
        f'<ETag>"{record.etag}"</ETag><Type>{record.kind}</Type><Size>{record.size}</Size>'
        f"<StorageClass>{record.storage_class}</StorageClass>{_restore_info(record, now)}{owner}</Contents>"
        for key, record in zip(_shown(page.keys, encode), found, strict=True)
    ]
    return rows + [_prefix_row(text, encode) for text in page.prefixes]


def _restore_info(record: ObjectRecord, now: float) -> str:
    status = restore_status(record, now) if record.traits is not NO_TRAITS else ""
    return element("RestoreInfo", escape(status)) if status else ""


def _shown(keys: list[str], encode: Encode) -> list[str]:
    """Return keys escaped for XML; one search over all of them finds out that most pages need no escape."""
    if not "".join(keys).encode().translate(None, PLAIN):
        return keys
    return [escape(encode(key)) for key in keys]


def _prefix_row(text: str, encode: Encode) -> str:
    return element("CommonPrefixes", element("Prefix", escape(encode(text))))


def _to_token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode().rstrip("=")


def _from_token(token: str) -> str:
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except ValueError as error:
        raise invalid_argument("continuation-token", token, "The continuation token is invalid.") from error


OPERATIONS = {
    "ListObjects": list_objects_v1,
    "ListObjectsV2": list_objects_v2,
    "ListMultipartUploads": list_uploads,
}
