"""Objects: put, get, head, append, delete one or a thousand, and symlinks to other objects."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from functools import lru_cache
from urllib.parse import quote

from ...protocol.checksum import combine_crc64
from ..blobs import cut
from ..documents import document, element, escape, fields, parse_delete
from ..exchange import Call, Received, Reply, xml_reply
from ..records import APPENDABLE, NO_TRAITS, SYMLINK, ObjectRecord
from ..refusals import Refused, invalid_argument
from ..routing import check_names, decode_path
from ..service import Service
from .arguments import (
    check_conditions,
    encryption_of,
    forbids_overwrite,
    http_time,
    listing_encoding,
    missing,
    object_headers,
    resolve_range,
    storage_class,
)
from .attributes import traits
from .restoring import check_readable, restore_status

_TARGET = "x-oss-symlink-target"
_OVERRIDES = {
    "response-content-type": "Content-Type",
    "response-content-language": "Content-Language",
    "response-expires": "Expires",
    "response-cache-control": "Cache-Control",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
}


def put_object(service: Service, call: Call, received: Received) -> Reply:
    bucket = service.bucket(call.bucket)
    check_overwrite(service, call)
    record = ObjectRecord(
        call.key,
        received.content,
        received.size,
        received.etag,
        received.crc64,
        int(service.now()),
        storage_class=storage_class(call.headers, bucket.storage_class),
        headers=object_headers(call.headers),
        traits=traits(call.headers),
    )
    bucket.put(record)
    return written_reply(received, encryption_of(record.headers))


def written_reply(received: Received, more: dict[str, str] | None = None) -> Reply:
    """Return the answer to a PUT of bytes, with `more` headers."""
    headers = {**(more or {}), "ETag": f'"{received.etag}"', "x-oss-hash-crc64ecma": str(received.crc64)}
    if received.md5 is not None:
        headers["Content-MD5"] = base64.b64encode(received.md5).decode()
    return Reply(200, headers)


def check_overwrite(service: Service, call: Call) -> None:
    """Refuse a write that forbids to replace an object, if there is one."""
    if forbids_overwrite(call.headers) and call.key in service.bucket(call.bucket).objects:
        raise Refused("FileAlreadyExists", extras={"BucketName": call.bucket, "Key": call.key})


def get_object(service: Service, call: Call, _received: Received) -> Reply:
    record = service.record(call)
    if record.kind == SYMLINK:
        record = _followed(service, call, record)
    check_conditions(call.headers, record.etag, record.modified)
    check_readable(service, record)
    headers = _described(record).copy()
    if record.traits is not NO_TRAITS:
        headers.update(_restored(service, record))
    if call.query:
        headers.update(_overrides(call))
    span = _span(call, record)
    if span is None:
        return Reply(200, headers, record.content)
    start, stop = span
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{record.size}"
    return Reply(206, headers, cut(record.content, start, stop))


def head_object(service: Service, call: Call, _received: Received) -> Reply:
    record = service.record(call)
    if record.kind == SYMLINK:
        record = _followed(service, call, record)
    check_conditions(call.headers, record.etag, record.modified)
    headers = {**_described(record), **_restored(service, record)}
    span = _span(call, record)
    if span is None:
        return Reply(200, headers, length=record.size)
    headers["Content-Range"] = f"bytes {span[0]}-{span[1] - 1}/{record.size}"
    return Reply(206, headers, length=span[1] - span[0])


def get_object_meta(service: Service, call: Call, _received: Received) -> Reply:
    record = service.record(call)
    headers = {"ETag": f'"{record.etag}"', "Last-Modified": http_time(record.modified)}
    if record.crc64 is not None:
        headers["x-oss-hash-crc64ecma"] = str(record.crc64)
    return Reply(200, headers, length=record.size)


def _followed(service: Service, call: Call, record: ObjectRecord) -> ObjectRecord:
    """Return the target of a symlink, with the symlink's own headers."""
    target = service.bucket(call.bucket).objects.get(record.traits.target)
    if target is None:
        raise Refused("SymlinkTargetNotExist", extras={"BucketName": call.bucket, "Key": call.key})
    if target.kind == SYMLINK:
        raise Refused("InvalidTargetType", extras={"BucketName": call.bucket, "Key": call.key})
    modified = max(record.modified, target.modified)
    return replace(target, kind=SYMLINK, modified=modified, headers=record.headers)


def _restored(service: Service, record: ObjectRecord) -> dict[str, str]:
    """Return the header with the state of an archived object's restored copy, if there is one."""
    status = restore_status(record, service.now()) if record.traits is not NO_TRAITS else ""
    return {"x-oss-restore": status} if status else {}


@lru_cache(maxsize=1 << 16)
def _described(record: ObjectRecord) -> dict[str, str]:
    """Return the headers that describe an object."""
    headers = {
        **record.headers,
        "Accept-Ranges": "bytes",
        "ETag": f'"{record.etag}"',
        "Last-Modified": http_time(record.modified),
        "x-oss-object-type": record.kind,
        "x-oss-storage-class": record.storage_class,
    }
    if record.crc64 is not None:
        headers["x-oss-hash-crc64ecma"] = str(record.crc64)
    if record.kind == APPENDABLE:
        headers["x-oss-next-append-position"] = str(record.size)
    if record.traits.tags:
        headers["x-oss-tagging-count"] = str(len(record.traits.tags))
    return headers


def delete_object(service: Service, call: Call, _received: Received) -> Reply:
    service.bucket(call.bucket).delete(call.key)
    return Reply(204)


def delete_objects(service: Service, call: Call, received: Received) -> Reply:
    """Delete up to 1000 keys; missing keys count as deleted. With `Quiet` the answer is empty."""
    bucket = service.bucket(call.bucket)
    if "content-md5" not in call.headers:
        raise missing("Content-MD5")
    encoding, encode = listing_encoding(call)
    wanted = parse_delete(received.data)
    for key in wanted.keys:
        bucket.delete(key)
    if wanted.is_quiet:
        return Reply()
    rows = [element("Deleted", element("Key", escape(encode(key)))) for key in wanted.keys]
    return xml_reply(document("DeleteResult", fields({"EncodingType": encoding}), *rows))


def append_object(service: Service, call: Call, received: Received) -> Reply:
    """Add bytes at the end of an appendable object, which the first append creates."""
    bucket = service.bucket(call.bucket)
    text = call.parameter("position")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise invalid_argument("position", text, "The position must be a number.")
    old = bucket.objects.get(call.key)
    if old is not None and old.kind != APPENDABLE:
        raise Refused("ObjectNotAppendable", extras={"BucketName": call.bucket, "Key": call.key})
    length = old.size if old is not None else 0
    if int(text) != length:
        raise Refused("PositionNotEqualToLength", headers={"x-oss-next-append-position": str(length)})
    crc = combine_crc64((old.crc64 or 0) if old else 0, received.crc64, received.size)
    record = ObjectRecord(
        call.key,
        (*(old.content if old else ()), *received.content),
        length + received.size,
        f"{crc:016X}{length + received.size:016X}",
        crc,
        int(service.now()),
        APPENDABLE,
        old.storage_class if old else storage_class(call.headers, bucket.storage_class),
        old.headers if old else object_headers(call.headers),
        old.traits if old else traits(call.headers),
    )
    bucket.put(record)
    return Reply(
        200,
        {
            "ETag": f'"{record.etag}"',
            "x-oss-hash-crc64ecma": str(crc),
            "x-oss-next-append-position": str(record.size),
        },
    )


def _overrides(call: Call) -> dict[str, str]:
    """Return the headers that the query sets in the answer; refuse values with line breaks."""
    wanted = [(name, value) for name, value in call.query if name in _OVERRIDES]
    for name, value in wanted:
        if not value.isprintable():
            raise invalid_argument(name, value, "Not a header's value.")
    return {_OVERRIDES[name]: value for name, value in wanted}


def _span(call: Call, record: ObjectRecord) -> tuple[int, int] | None:
    header = call.headers.get("range")
    if header is None:
        return None
    is_standard = call.headers.get("x-oss-range-behavior") == "standard"
    return resolve_range(header, record.size, is_standard=is_standard)


def put_symlink(service: Service, call: Call, _received: Received) -> Reply:
    """Make the key a symlink to another key, which need not exist."""
    bucket = service.bucket(call.bucket)
    if not call.headers.get(_TARGET):
        raise missing(_TARGET)
    target = decode_path(call.headers[_TARGET])
    check_names(Call("", "", call.bucket, target))
    check_overwrite(service, call)
    record = ObjectRecord(
        call.key,
        (),
        0,
        hashlib.md5(target.encode(), usedforsecurity=False).hexdigest().upper(),
        None,
        int(service.now()),
        SYMLINK,
        storage_class(call.headers, bucket.storage_class),
        object_headers(call.headers),
        replace(traits(call.headers), target=target),
    )
    bucket.put(record)
    return Reply(200, {"ETag": f'"{record.etag}"'})


def get_symlink(service: Service, call: Call, _received: Received) -> Reply:
    record = service.record(call)
    if record.kind != SYMLINK:
        raise Refused("NotSymlink", extras={"BucketName": call.bucket, "Key": call.key})
    headers = {
        "ETag": f'"{record.etag}"',
        "Last-Modified": http_time(record.modified),
        _TARGET: quote(record.traits.target, safe="/-_.~"),
        **{name: value for name, value in record.headers.items() if name.startswith("x-oss-meta-")},
    }
    return Reply(200, headers)


OPERATIONS = {
    "PutObject": put_object,
    "GetObject": get_object,
    "HeadObject": head_object,
    "GetObjectMeta": get_object_meta,
    "DeleteObject": delete_object,
    "DeleteMultipleObjects": delete_objects,
    "AppendObject": append_object,
    "PutSymlink": put_symlink,
    "GetSymlink": get_symlink,
}
